"""Choice of the shard that a worker's next round trains on."""

import bisect
import dataclasses
import heapq
import itertools
import operator
from collections.abc import Sequence
from typing import Protocol

import numpy as np

_FEW = 64  # shards, up to which adding up is faster than a tree


class ShardChoice(Protocol):
    """Decides which shard a worker's next round trains on."""

    def begin(self, assigned: Sequence[int], random: np.random.Generator) -> "Assignments":
        """Returns the choices from here on.

        Args:
          assigned: local steps that were assigned so far, of each shard.
          random: the server's stream for this purpose.
        """


class Assignments(Protocol):
    """The local steps that were assigned of each shard."""

    def next(self, worker: int, steps: int) -> tuple[int, int]:
        """Returns the shard of a worker's next round, and the number of its steps assigned before.

        Args:
          worker: whose round.
          steps: of the round, at least one, which are assigned.
        """


@dataclasses.dataclass(frozen=True)
class Proportional:
    """Eq. 2: p_i proportional to max(|D_i| / sum |D| - n_i / sum n, 0), n_i = steps assigned of shard i.

    Where all terms are zero, as at the start, p_i is proportional to |D_i|. The comparison is in whole numbers, so that
    equal shards that were used equally are exactly level. A choice costs O(log shards).

    Attributes:
      sizes: examples per shard, |D_i|.
    """

    sizes: Sequence[int] | np.ndarray

    def begin(self, assigned: Sequence[int], random: np.random.Generator) -> Assignments:
        """Returns the choices from here on.

        Raises:
          ValueError: there are not as many shards as sizes.
        """
        sizes = [int(size) for size in self.sizes]
        if len(sizes) != len(assigned):
            raise ValueError(f"sizes of {len(sizes)} shards where there are {len(assigned)}")
        kind = _FewShards if len(sizes) <= _FEW else _ManyShards
        return kind(sizes, assigned, random)


class _Behind:
    """State of `Proportional`: terms are max(|D_i| n - n_i |D|, 0), with n and |D| the sums.

    A shard is behind where that is above 0; all others wait until n is so large that they are.
    """

    def __init__(self, sizes: list[int], assigned: Sequence[int], random: np.random.Generator):
        self._sizes, self._random = sizes, random.random
        self._assigned = list(assigned)
        self._size, self._total = sum(sizes), sum(assigned)  # |D| and n
        self._cumulative = [float(end) for end in itertools.accumulate(sizes)]
        self._waiting: list[tuple[int, int]] = []  # n at which a shard may be behind, as a heap
        for shard, size in enumerate(sizes):
            if size > 0:
                self._wait(shard, self._assigned[shard])

    def _by_size(self) -> int:
        """Returns a shard sampled in proportion to the sizes."""
        return bisect.bisect_right(self._cumulative, self._random() * self._cumulative[-1])

    def _wait(self, shard: int, steps: int) -> None:
        """Queues a shard, of which `steps` were assigned, until it may be behind."""
        heapq.heappush(self._waiting, (steps * self._size // self._sizes[shard] + 1, shard))


class _FewShards(_Behind):
    """Adds up the terms of the shards that are behind, which are kept in order."""

    def __init__(self, sizes: list[int], assigned: Sequence[int], random: np.random.Generator):
        super().__init__(sizes, assigned, random)
        self._shards: list[int] = []
        self._own: list[int] = []  # their sizes
        self._steps: list[int] = []  # what was assigned of them

    def next(self, worker: int, steps: int) -> tuple[int, int]:
        """Returns a sampled shard, and the number of its steps assigned before."""
        waiting, total, size = self._waiting, self._total, self._size
        while waiting and waiting[0][0] <= total:
            self._reconsider(heapq.heappop(waiting)[1])
        self._total = total + steps
        if not self._shards:
            shard = self._by_size()
            before = self._assigned[shard]
            self._assigned[shard] = before + steps
            return shard, before
        shares = map(operator.mul, self._own, itertools.repeat(total))
        used = map(operator.mul, self._steps, itertools.repeat(size))
        ends = list(map(float, itertools.accumulate(map(operator.sub, shares, used))))
        place = bisect.bisect_right(ends, self._random() * ends[-1])
        shard, before = self._shards[place], self._steps[place]
        self._assigned[shard] = after = before + steps
        if self._own[place] * self._total > after * size:
            self._steps[place] = after
        else:
            del self._shards[place], self._own[place], self._steps[place]
            self._wait(shard, after)
        return shard, before

    def _reconsider(self, shard: int) -> None:
        """Counts a shard as behind if it is."""
        own, steps = self._sizes[shard], self._assigned[shard]
        if own * self._total > steps * self._size:
            place = bisect.bisect_left(self._shards, shard)
            self._shards.insert(place, shard)
            self._own.insert(place, own)
            self._steps.insert(place, steps)
        else:
            self._wait(shard, steps)


class _ManyShards(_Behind):
    """Knows the sum of the terms of the first shards without adding them up.

    The sums of |D_i| and n_i over the shards that are behind are kept in two Fenwick trees (Fenwick, 1994).
    """

    def __init__(self, sizes: list[int], assigned: Sequence[int], random: np.random.Generator):
        super().__init__(sizes, assigned, random)
        self._top = 1 << (len(sizes).bit_length() - 1)
        self._sizes_tree, self._steps_tree = [0] * (len(sizes) + 1), [0] * (len(sizes) + 1)
        self._behind = [False] * len(sizes)
        self._size_behind = self._steps_behind = 0

    def next(self, worker: int, steps: int) -> tuple[int, int]:
        """Returns a sampled shard, and the number of its steps assigned before."""
        waiting, total, size, count = self._waiting, self._total, self._size, len(self._sizes)
        while waiting and waiting[0][0] <= total:
            self._reconsider(heapq.heappop(waiting)[1])
        if self._size_behind:
            drawn = self._random() * (self._size_behind * total - self._steps_behind * size)
            sizes_tree, steps_tree, width = self._sizes_tree, self._steps_tree, self._top
            shard = sizes_sum = steps_sum = 0  # the first shard at which the sum of terms is above what was drawn
            while width:
                end = shard + width
                if end <= count:
                    more_sizes, more_steps = sizes_sum + sizes_tree[end], steps_sum + steps_tree[end]
                    if float(more_sizes * total - more_steps * size) <= drawn:
                        shard, sizes_sum, steps_sum = end, more_sizes, more_steps
                width >>= 1
        else:
            shard = self._by_size()
        before = self._assigned[shard]
        self._assigned[shard] = after = before + steps
        self._total = total = total + steps
        if self._behind[shard]:
            own = self._sizes[shard]
            if own * total > after * size:
                self._add(shard, 0, steps)
            else:
                self._behind[shard] = False
                self._add(shard, -own, -before)
                self._wait(shard, after)
        return shard, before

    def _reconsider(self, shard: int) -> None:
        """Counts a shard as behind if it is."""
        own, steps = self._sizes[shard], self._assigned[shard]
        if own * self._total > steps * self._size:
            self._behind[shard] = True
            self._add(shard, own, steps)
        else:
            self._wait(shard, steps)

    def _add(self, shard: int, size: int, steps: int) -> None:
        self._size_behind += size
        self._steps_behind += steps
        node, sizes_tree, steps_tree, end = shard + 1, self._sizes_tree, self._steps_tree, len(self._sizes_tree)
        while node < end:
            sizes_tree[node] += size
            steps_tree[node] += steps
            node += node & -node


@dataclasses.dataclass(frozen=True)
class LeastVisited:
    """The authors' toy notebook: a shard with the fewest local steps, ties at random."""

    def begin(self, assigned: Sequence[int], random: np.random.Generator) -> Assignments:
        """Returns the choices from here on."""
        return _LeastVisited(assigned, random)


class _LeastVisited:
    """Shards by the local steps that they were assigned, and those with the fewest in order."""

    def __init__(self, assigned: Sequence[int], random: np.random.Generator):
        self._random = random
        self._others: dict[int, list[int]] = {}  # by their steps
        self._counts: list[int] = []  # the steps of others, as a heap
        for shard, steps in enumerate(assigned):
            self._add(shard, steps)
        self._take_fewest()

    def next(self, worker: int, steps: int) -> tuple[int, int]:
        """Returns one of the shards with the fewest steps, and their number."""
        shard, before = self._least.pop(self._random.integers(len(self._least))), self._fewest
        self._add(shard, before + steps)
        if not self._least:
            self._take_fewest()
        return shard, before

    def _add(self, shard: int, steps: int) -> None:
        if steps not in self._others:
            self._others[steps] = []
            heapq.heappush(self._counts, steps)
        self._others[steps].append(shard)

    def _take_fewest(self) -> None:
        self._fewest = heapq.heappop(self._counts)
        self._least = sorted(self._others.pop(self._fewest))


@dataclasses.dataclass(frozen=True)
class OwnShard:
    """Worker i trains on shard i mod shards."""

    def begin(self, assigned: Sequence[int], random: np.random.Generator) -> Assignments:
        """Returns the choices from here on."""
        return _OwnShard(assigned)


class _OwnShard:
    def __init__(self, assigned: Sequence[int]):
        self._assigned = list(assigned)

    def next(self, worker: int, steps: int) -> tuple[int, int]:
        """Returns the worker's fixed shard, and the number of its steps assigned before."""
        shard = worker % len(self._assigned)
        before = self._assigned[shard]
        self._assigned[shard] = before + steps
        return shard, before
