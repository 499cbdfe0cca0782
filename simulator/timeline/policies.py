"""Policies: when groups restart, how many steps, which shard. Pure functions of times, counts and ids."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np


class ServerView(NamedTuple):
    """What a synchronization policy may look at.

    Attributes:
      now_s: simulated time.
      opened_s: when the first arrival of the current group came; infinite while there is none.
      group: arrivals that were processed and wait to restart.
      outstanding: rounds that were dispatched and not yet processed.
      next_arrival_s: the earliest time at which one of those can arrive; infinite when there is none.
    """

    now_s: float
    opened_s: float
    group: int
    outstanding: int
    next_arrival_s: float


class Synchronization(Protocol):
    """Decides when the workers that have arrived, the group, restart together from the server's parameters."""

    @property
    def averages_group(self) -> bool:
        """Whether the group's mean is one server update; else each arrival is one."""

    def closes(self, view: ServerView) -> bool:
        """Returns whether the group, which is not empty, restarts now."""


@dataclasses.dataclass(frozen=True)
class Barrier:
    """Synchronous rounds (DiLoCo, Algorithm 1): everybody waits for everybody."""

    averages_group = True

    def closes(self, view: ServerView) -> bool:
        """Returns whether the last worker has arrived."""
        return view.outstanding == 0


@dataclasses.dataclass(frozen=True)
class Asynchronous:
    """Algorithms 2, 4 and 5: who arrives within `grace_s` of the group's first joins it; the group restarts together.

    The server restarts a group as soon as nobody can still make the window, so an empty rest of a window costs no
    simulated time, as in the paper. With an infinite window nothing is compared and the group is everybody.
    """

    grace_s: float
    averages_group = False

    def closes(self, view: ServerView) -> bool:
        """Returns whether no further arrival can fall into the window."""
        return view.outstanding == 0 or not view.next_arrival_s - view.opened_s <= self.grace_s


def fixed_steps(workers: int, local_steps: int) -> list[int]:
    """Returns H for every worker."""
    return [local_steps] * workers


def dynamic_steps(step_s: Sequence[float] | np.ndarray, local_steps: int) -> list[int]:
    """Dynamic Local Updates (Eq. 6): floor(v(w) / max v * H), at least 1, with v = 1 / step_s.

    Args:
      step_s: seconds per local step of each worker.
      local_steps: H, the steps of the fastest.
    """
    fastest = min(step_s)
    # A ratio that is a whole number but for rounding counts as that number.
    return [max(1, math.floor(fastest / own * local_steps + 1e-9)) for own in step_s]


class ShardChoice(Protocol):
    """Decides which shard a worker's next round trains on."""

    def choose(self, worker: int, assigned: np.ndarray, random: np.random.Generator) -> int:
        """Returns a shard.

        Args:
          worker: who asks.
          assigned: local steps assigned so far per shard, int64 of shape (shards,).
          random: the server's stream for this purpose.
        """


@dataclasses.dataclass(frozen=True)
class Proportional:
    """Eq. 2: p_i proportional to max(|D_i| / sum |D| - n_i / sum n, 0), n_i = what was assigned of shard i.

    Where all terms are zero, as at the start, p_i is proportional to |D_i|. The comparison is in whole numbers, so that
    equal shards that were used equally are exactly level.

    Attributes:
      sizes: examples per shard, |D_i|, int64 of shape (shards,).
    """

    sizes: np.ndarray

    @functools.cached_property
    def _total(self) -> int:
        return int(self.sizes.sum())

    def choose(self, worker: int, assigned: np.ndarray, random: np.random.Generator) -> int:
        """Returns a sampled shard."""
        behind = self.sizes * assigned.sum() - assigned * self._total
        cumulative = np.maximum(behind, 0).cumsum()
        if cumulative[-1] == 0:
            cumulative = self.sizes.cumsum()
        return int(cumulative.searchsorted(random.random() * cumulative[-1], side="right"))


@dataclasses.dataclass(frozen=True)
class LeastVisited:
    """The authors' toy notebook: a shard with the fewest local steps, ties at random."""

    def choose(self, worker: int, assigned: np.ndarray, random: np.random.Generator) -> int:
        """Returns one of the shards with the least assigned."""
        candidates = np.flatnonzero(assigned == assigned.min())
        return int(candidates[random.integers(len(candidates))])


@dataclasses.dataclass(frozen=True)
class OwnShard:
    """Worker i trains on shard i mod shards."""

    def choose(self, worker: int, assigned: np.ndarray, random: np.random.Generator) -> int:
        """Returns the worker's own shard."""
        return worker % len(assigned)
