"""Schedule: after which local steps a worker offers, and accepts what it is answered."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Schedule of a worker's offers, as arithmetic on its count of local steps.

    With P fragments and H local steps, fragment p is offered after steps H + o_p, 2 H + o_p and so on, for its offset
    o_p from 0 up to below H. So a worker's offers come in turn, 0, 1 ... P - 1, 0, 1 ..., each at the end of a round.
    The answer is accepted `overlap` steps after the offer; only if it is not there by then does the worker wait.

    Attributes:
      offsets: of each fragment, in local steps, growing from 0.
      overlap: local steps between an offer and its acceptance, from 0 to H.
      seconds: of simulated time that a round takes at least, instead of a number of steps; None to count steps.
    """

    offsets: tuple[int, ...] = (0,)
    overlap: int = 0
    seconds: float | None = None

    @property
    def fragments(self) -> int:
        """Number of fragments."""
        return len(self.offsets)

    @property
    def waits(self) -> bool:
        """Returns whether a worker does nothing between an offer and its answer, with which it is given a round."""
        return self.fragments == 1 and not self.overlap and self.seconds is None

    def fragment(self, offer: int) -> int:
        """Returns the fragment of a worker's n-th offer."""
        return offer % self.fragments

    def offered_after(self, offer: int, local_steps: int) -> int:
        """Returns the number of local steps after which the n-th offer is made; 0 for the one before the first."""
        if offer < 0:
            return 0
        return local_steps * (1 + offer // self.fragments) + self.offsets[offer % self.fragments]

    def steps(self, offer: int, local_steps: int) -> int:
        """Returns the local steps between an offer and the one before it."""
        return self.offered_after(offer, local_steps) - self.offered_after(offer - 1, local_steps)

    def accepts(self, offer: int, first: int, local_steps: int) -> list[tuple[int, int]]:
        """Returns what is accepted in the round that ends with an offer: steps of the round before it, and fragment.

        Args:
          offer: n, at the end of the round.
          first: offers before this one need no answer, since the worker has had a copy of everything.
          local_steps: H.
        """
        begin, end = (self.offered_after(each, local_steps) for each in (offer - 1, offer))
        recent = range(max(first, offer - self.fragments - 1, -1), offer)  # an answer is accepted within H steps
        due = ((self.offered_after(each, local_steps) + self.overlap, each) for each in recent)
        return [(at - begin, self.fragment(each)) for at, each in due if begin <= at < end]


def spaced(fragments: int, local_steps: int) -> tuple[int, ...]:
    """Returns the offsets of fragments at equal distances, as far as whole steps allow."""
    return tuple(fragment * local_steps // fragments for fragment in range(fragments))


def next_offer(turns: Sequence[int]) -> int:
    """Returns the offer with which a worker begins again, so that all workers take the meetings in one order.

    Args:
      turns: of each fragment, the first meeting in which the worker is expected.
    """
    return min(turn * len(turns) + fragment for fragment, turn in enumerate(turns))
