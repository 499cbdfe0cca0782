"""Choice of the shard that a worker's next round trains on."""

import bisect
import dataclasses
import heapq
import itertools
from collections.abc import Sequence
from typing import Protocol

import numpy as np


class ShardChoice(Protocol):
    """Decides which shard a worker's next round trains on."""

    def new_choices(self, assigned: Sequence[int], random: np.random.Generator) -> "Assignments":
        """Returns the choices from here on.

        Args:
          assigned: local steps that were assigned so far, of each shard.
          random: the server's stream for this purpose.
        """


class Assignments(Protocol):
    """The local steps that were assigned of each shard."""

    def assign(self, worker: int, steps: int) -> tuple[int, int]:
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

    def new_choices(self, assigned: Sequence[int], random: np.random.Generator) -> Assignments:
        """Returns the choices from here on.

        Raises:
          ValueError: there are not as many shards as sizes.
        """
        sizes = [int(size) for size in self.sizes]
        if len(sizes) != len(assigned):
            raise ValueError(f"sizes of {len(sizes)} shards where there are {len(assigned)}")
        return _Proportional(sizes, assigned, random)


class _Proportional:
    """Assigns shards by their terms max(|D_i| n - n_i |D|, 0), with n and |D| the sums.

    A shard is behind where that is above 0; all others wait until n is so large that they are. The sums of |D_i| and
    n_i over the first shards that are behind are in two Fenwick trees (Fenwick, 1994).
    """

    def __init__(self, sizes: list[int], assigned: Sequence[int], random: np.random.Generator):
        self._sizes, self._assigned, self._random = sizes, list(assigned), random.random
        self._size, self._total = sum(sizes), sum(assigned)  # |D| and n
        self._cumulative = [float(end) for end in itertools.accumulate(sizes)]
        self._behind = [False] * len(sizes)
        self._size_behind = self._steps_behind = 0
        self._sizes_tree, self._steps_tree = [0] * (len(sizes) + 1), [0] * (len(sizes) + 1)
        self._waiting: list[tuple[int, int]] = []  # n at which a shard may be behind, as a heap
        for shard, size in enumerate(sizes):
            if size > 0:
                self._wait(shard)

    def assign(self, worker: int, steps: int) -> tuple[int, int]:
        """Returns a sampled shard, and the number of its steps assigned before."""
        while self._waiting and self._waiting[0][0] <= self._total:
            shard = heapq.heappop(self._waiting)[1]
            if self._is_behind(shard):
                self._behind[shard] = True
                self._add(shard, self._sizes[shard], self._assigned[shard])
            else:
                self._wait(shard)
        shard = self._sample()
        before = self._assigned[shard]
        self._assigned[shard] += steps
        self._total += steps
        if not self._behind[shard]:
            return shard, before
        if self._is_behind(shard):
            self._add(shard, 0, steps)
        else:
            self._behind[shard] = False
            self._add(shard, -self._sizes[shard], -before)
            self._wait(shard)
        return shard, before

    def _is_behind(self, shard: int) -> bool:
        return self._sizes[shard] * self._total > self._assigned[shard] * self._size

    def _wait(self, shard: int) -> None:
        """Queues a shard until it may be behind."""
        heapq.heappush(self._waiting, (self._assigned[shard] * self._size // self._sizes[shard] + 1, shard))

    def _sample(self) -> int:
        """Returns a shard in proportion to the terms, or, where all are zero, to the sizes."""
        if not self._size_behind:
            return bisect.bisect_right(self._cumulative, self._random() * self._cumulative[-1])
        total, size, sizes_tree, steps_tree = self._total, self._size, self._sizes_tree, self._steps_tree
        drawn = self._random() * (self._size_behind * total - self._steps_behind * size)
        count, shard, sizes_sum, steps_sum = len(self._sizes), 0, 0, 0
        width = 1 << (count.bit_length() - 1)
        while width:  # to the first shard at which the sum of terms is above what was drawn
            end = shard + width
            if end <= count:
                more_sizes, more_steps = sizes_sum + sizes_tree[end], steps_sum + steps_tree[end]
                if float(more_sizes * total - more_steps * size) <= drawn:
                    shard, sizes_sum, steps_sum = end, more_sizes, more_steps
            width >>= 1
        return shard

    def _add(self, shard: int, size: int, steps: int) -> None:
        self._size_behind += size
        self._steps_behind += steps
        node = shard + 1
        while node <= len(self._sizes):
            self._sizes_tree[node] += size
            self._steps_tree[node] += steps
            node += node & -node


@dataclasses.dataclass(frozen=True)
class LeastVisited:
    """The authors' toy notebook: a shard with the fewest local steps, ties at random."""

    def new_choices(self, assigned: Sequence[int], random: np.random.Generator) -> Assignments:
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

    def assign(self, worker: int, steps: int) -> tuple[int, int]:
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
class FixedShard:
    """Worker i trains on shard i mod shards."""

    def new_choices(self, assigned: Sequence[int], random: np.random.Generator) -> Assignments:
        """Returns the choices from here on."""
        return _FixedShard(assigned)


class _FixedShard:
    def __init__(self, assigned: Sequence[int]):
        self._assigned = list(assigned)

    def assign(self, worker: int, steps: int) -> tuple[int, int]:
        """Returns the worker's fixed shard, and the number of its steps assigned before."""
        shard = worker % len(self._assigned)
        before = self._assigned[shard]
        self._assigned[shard] = before + steps
        return shard, before
