"""Policies: when groups restart, and how many steps. Pure functions of times, counts and ids."""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from simulator.cluster import Nanoseconds, nanoseconds


class ServerView(NamedTuple):
    """State of the server that a synchronization policy may look at. Times are whole nanoseconds, see `nanoseconds`.

    Attributes:
      now_ns: simulated time.
      opened_ns: when the first of the current group came; infinite while there is none.
      group: workers that wait to restart.
      outstanding: rounds that the server waits for: dispatched, not yet processed, not known to be lost, and, behind a
        barrier, not too late.
      next_arrival_ns: the earliest time at which a round can arrive; infinite when none can, or for a policy that does
        not look ahead.
      started_ns: when a group last restarted.
      arrived: rounds that wait to be averaged.
      workers: in the whole cluster, whether they are there or not.
    """

    now_ns: Nanoseconds
    opened_ns: Nanoseconds
    group: int
    outstanding: int
    next_arrival_ns: Nanoseconds
    started_ns: Nanoseconds = 0
    arrived: int = 0
    workers: int = 1


class SynchronizationPolicy:
    """Decides when the workers that have arrived, the group, restart together; a subclass defines `closes`.

    Attributes:
      averages_group: whether the group's mean is one server update; else each arrival is one, as it comes. Where groups
        are averaged, a round that comes after the group it belongs to is dropped.
      looks_ahead: whether `closes` looks at `next_arrival_ns`.
      timeout_s: simulated seconds after a restart at which `closes` is asked again though nothing has happened.
    """

    averages_group: bool = False
    looks_ahead: bool = False
    timeout_s: float = math.inf

    def closes(self, view: ServerView) -> bool:
        """Returns whether the group, which is not empty, restarts now from the server's parameters.

        It has to be true at the latest when nothing is outstanding: nobody else can come then.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say when a group restarts: define closes(view)")


@dataclasses.dataclass(frozen=True)
class Barrier(SynchronizationPolicy):
    """Synchronous rounds (DiLoCo, Algorithm 1): everybody waits for everybody, or not longer than for a timeout.

    A worker that comes back does the round again that it has lost. One that comes too late is dropped, as in federated
    learning (Bonawitz et al., arXiv 1902.01046), and starts with the next round.

    Attributes:
      timeout_s: of a round, counted from its start.
      quorum: fewest arrivals with which a round ends at its timeout; with fewer it ends as soon as there are as many,
        or when there is nobody left to wait for.
    """

    timeout_s: float = math.inf
    quorum: int = 1
    averages_group = True

    def closes(self, view: ServerView) -> bool:
        """Returns whether the last worker that is waited for has arrived, or the time is up."""
        late = self.timeout_s < math.inf and view.now_ns >= view.started_ns + nanoseconds(self.timeout_s)
        return view.outstanding == 0 or (late and view.arrived >= self.quorum)


@dataclasses.dataclass(frozen=True)
class Asynchronous(SynchronizationPolicy):
    """Algorithms 2, 4 and 5: who arrives within `grace_s` of the group's first joins it; the group restarts together.

    The server restarts a group as soon as nobody can still make the window, so an empty rest of a window costs no
    simulated time, as in the paper. Only where messages queue for the server's link may it wait for somebody who then
    misses the window, since it expects of a message that is yet to be sent that no other gets in before it. With an
    infinite window nothing is compared and the group is everybody.
    """

    grace_s: float
    looks_ahead = True

    def closes(self, view: ServerView) -> bool:
        """Returns whether no further arrival can fall into the window."""
        return view.outstanding == 0 or not view.next_arrival_ns - view.opened_ns <= nanoseconds(self.grace_s)


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
    return [_steps_at(fastest, own, local_steps) for own in step_s]


def _steps_at(fastest_s: float, own_s: float, local_steps: int) -> int:
    # A ratio that is a whole number but for rounding counts as that number.
    return max(1, math.floor(fastest_s / own_s * local_steps + 1e-9))


class StepsChoice(Protocol):
    """Decides the number of local steps of a worker's next round."""

    def new_choices(self) -> "Steps":
        """Returns the choices of a new simulation."""


class Steps(Protocol):
    """The choices of one simulation."""

    def observe(self, worker: int, step_s: float) -> None:
        """Takes into account the seconds of each local step of a worker's last round."""

    def steps(self, worker: int) -> int:
        """Returns the local steps of a worker's next round."""


@dataclasses.dataclass(frozen=True)
class MeasuredSpeed:
    """Dynamic Local Updates by the speed that each worker has shown.

    Attributes:
      step_s: seconds per local step, assumed of workers from which nothing has arrived.
      local_steps: H, the steps of the fastest.
    """

    step_s: Sequence[float] | np.ndarray
    local_steps: int

    def new_choices(self) -> "Speeds":
        """Returns the speeds of a new simulation."""
        return Speeds(np.array(self.step_s, float), self.local_steps)


class Speeds:
    """Known speeds of the workers."""

    def __init__(self, step_s: np.ndarray, local_steps: int):
        self._step_s, self._local_steps = step_s, local_steps

    def observe(self, worker: int, step_s: float) -> None:
        """Takes into account the seconds of each local step of a worker's last round; 0 is ignored."""
        if step_s > 0:
            self._step_s[worker] = step_s

    def steps(self, worker: int) -> int:
        """Returns the local steps of a worker's next round."""
        return _steps_at(float(self._step_s.min()), float(self._step_s[worker]), self._local_steps)
