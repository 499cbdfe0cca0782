"""Collectives: time and bytes of an all-reduce of n bytes among M members, by the algorithm that carries it out."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, assert_never

from simulator.experiment.schema.collectives import CollectiveAlgorithm


class LinkCost(NamedTuple):
    """Cost of a transfer in one direction of a link.

    Attributes:
      latency_s: of a transfer, in seconds.
      byte_s: seconds per byte, 0 where the rate is unlimited.
    """

    latency_s: float = 0.0
    byte_s: float = 0.0

    def transfer_s(self, size: float) -> float:
        """Returns the time of a transfer of some bytes."""
        return self.latency_s + size * self.byte_s


def slowest_s(links: Sequence[LinkCost], size: float) -> float:
    """Returns the time of a step in which all links carry some bytes at once."""
    return max(link.transfer_s(size) for link in links)


def ring_s(links: Sequence[LinkCost], members: int, size: float) -> float:
    """Returns the time of 2 (M - 1) steps of n / M around a ring: a reduce-scatter and an all-gather.

    Thakur, Rabenseifner and Gropp, Optimization of Collective Communication Operations in MPICH, 2005.

    Args:
      links: costs of those of the ring; the slowest sets the pace of every step.
      members: M.
      size: n, bytes.
    """
    return 2 * (members - 1) * slowest_s(links, size / members)


def tree_s(links: Sequence[LinkCost], members: int, size: float) -> float:
    """Returns the time of 2 ceil(log2 M) steps of n in a binomial tree: a reduction and a broadcast (Thakur et al.).

    The arguments are those of `ring_s`.
    """
    return 2 * _depth(members) * slowest_s(links, size)


def star_s(centre: Sequence[LinkCost], others: Sequence[LinkCost], members: int, size: float) -> float:
    """Returns the time of two transfers, to one member and from it, whose link the M - 1 others share.

    Args:
      centre: costs of that member's link.
      others: of the others.
      members: M.
      size: n, bytes.
    """
    return 2 * max(slowest_s(others, size), slowest_s(centre, (members - 1) * size))


def bound_s(links: Sequence[LinkCost], members: int, size: float) -> float:
    """Returns 2 n (1 - 1/M) / rate + latency, which no algorithm goes below (arXiv 2503.09799, Appendix A).

    The arguments are those of `ring_s`.
    """
    return slowest_s(links, 2 * size * (1 - 1 / members))


@dataclasses.dataclass(frozen=True)
class Collective:
    """All-reduce of what the members of a meeting offer.

    Each step of an algorithm takes as long as the slowest of the links that it is on, in either direction.

    Attributes:
      algorithm: that carries it out.
      up, down: costs of each worker's link.
      groups: number of each worker's group, or site; all are of one when empty.
      between: cost of the link between groups; a message also takes those of its two members.
    """

    algorithm: CollectiveAlgorithm
    up: tuple[LinkCost, ...]
    down: tuple[LinkCost, ...]
    groups: tuple[int, ...] = ()
    between: LinkCost = dataclasses.field(default_factory=LinkCost)

    def seconds(self, members: Sequence[int], size: float) -> float:
        """Returns how long it takes with nothing else on the links, in seconds; 0 of one member alone.

        Args:
          members: workers.
          size: n, bytes that each offers.
        """
        count = len(members)
        if count < 2:
            return 0.0
        match self.algorithm:
            case "ring":
                return ring_s(self._links(members), count, size)
            case "tree":
                return tree_s(self._links(members), count, size)
            case "bound":
                return bound_s(self._links(members), count, size)
            case "star":
                centre = self._centre(members)
                others = [self._links([member, centre]) for member in members if member != centre]
                return star_s(self._links([centre]), [link for links in others for link in links], count, size)
            case "hierarchical":
                parts = self._parts(members)
                inside_s = max(tree_s(self._links(part), len(part), size) for part in parts)
                heads = [part[0] for part in parts]
                return inside_s + ring_s(self._links(heads), len(heads), size)
        assert_never(self.algorithm)

    def sent(self, members: Sequence[int], size: int) -> list[int]:
        """Returns the bytes that each member sends, in their order: together 2 (M - 1) n but for rounding.

        The arguments are those of `seconds`.
        """
        return [round(share * size) for share in self._shares(members)]

    def _shares(self, members: Sequence[int]) -> list[float]:
        """Returns what each member sends, as a share of n."""
        count = len(members)
        match self.algorithm:
            case "ring" | "bound":
                return _ring_shares(count)
            case "tree":
                return _tree_shares(count)
            case "star":
                centre = self._centre(members)
                return [count - 1.0 if member == centre else 1.0 for member in members]
            case "hierarchical":
                parts, shares = self._parts(members), dict[int, float]()
                for part, between in zip(parts, _ring_shares(len(parts)), strict=True):
                    shares |= dict(zip(part, _tree_shares(len(part)), strict=True))
                    shares[part[0]] += between
                return [shares[member] for member in members]
        assert_never(self.algorithm)

    def _links(self, members: Sequence[int]) -> list[LinkCost]:
        """Returns the links between members: their own, and that between groups where they are of several."""
        apart = bool(self.groups) and len({self.groups[member] for member in members}) > 1
        own = [link for member in members for link in (self.up[member], self.down[member])]
        return [*own, self.between] if apart else own

    def _centre(self, members: Sequence[int]) -> int:
        """Returns the member with the fastest link, the first of several."""
        return min(members, key=lambda member: (max(link.byte_s for link in self._links([member])), member))

    def _parts(self, members: Sequence[int]) -> list[list[int]]:
        """Returns the members of each group, its head first."""
        parts: dict[int, list[int]] = {}
        for member in sorted(members):
            parts.setdefault(self.groups[member], []).append(member)
        return list(parts.values())


def _depth(members: int) -> int:
    """Returns the steps in which a binomial tree reaches all members from one: ceil(log2 M)."""
    return (members - 1).bit_length()


def _ring_shares(members: int) -> list[float]:
    return [2 * (members - 1) / members] * members


def _tree_shares(members: int) -> list[float]:
    """Returns what each member sends: its sum to the one above it, and the result to each of those below."""
    shares = []
    for place in range(members):
        reach = place & -place or 1 << _depth(members)  # places below one are the sums with smaller powers of two
        below = sum(place + (1 << bit) < members for bit in range(reach.bit_length() - 1))
        shares.append(float(below + (place > 0)))
    return shares
