"""Synchronization: when groups restart. Pure functions of times, counts and ids."""

import dataclasses
import math
from typing import NamedTuple

from simulator.cluster import Nanoseconds, nanoseconds
from simulator.timeline.policies.window import AdaptiveWindow


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
      workers: of the server, whether they are there or not.
      window_over: whether the policy's window is, and all that came in it was processed.
    """

    now_ns: Nanoseconds
    opened_ns: Nanoseconds
    group: int
    outstanding: int
    next_arrival_ns: Nanoseconds
    started_ns: Nanoseconds = 0
    arrived: int = 0
    workers: int = 1
    window_over: bool = False


class SynchronizationPolicy:
    """Decides when the workers that have arrived, the group, restart together; a subclass defines `closes`.

    Attributes:
      averages_group: whether the group's mean is one server update; else each arrival is one, as it comes. Where groups
        are averaged, a round that comes after the group it belongs to is dropped.
      looks_ahead: whether `closes` looks at `next_arrival_ns`.
      keeps_late: where groups are averaged, whether an offer counts in whatever group it comes to, none being too late.
      timeout_s: simulated seconds after a restart at which `closes` is asked again though nothing has happened.
      window_s: likewise, after the first of a group, or, with a quorum, after the last offer that it needs.
      quorum: offers that a group needs; 0 where the first suffices.
    """

    averages_group: bool = False
    looks_ahead: bool = False
    keeps_late: bool = False
    timeout_s: float = math.inf
    window_s: float = math.inf
    quorum: int = 0

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
      sample: workers that are drawn for each round, of those that are ready; None for all. The others stay ready.
    """

    timeout_s: float = math.inf
    quorum: int = 1
    sample: int | None = None
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

    @property
    def window_s(self) -> float:  # type: ignore[override]
        """Simulated seconds after the first of a group."""
        return self.grace_s

    def closes(self, view: ServerView) -> bool:
        """Returns whether no further arrival can fall into the window."""
        return view.outstanding == 0 or not view.next_arrival_ns - view.opened_ns <= nanoseconds(self.grace_s)


@dataclasses.dataclass(frozen=True)
class Quorum(SynchronizationPolicy):
    """Meetings of those who are there: a quorum, and who comes within a window after it (Decoupled DiLoCo).

    Nobody is awaited beyond that and nobody is too late: who misses a meeting comes to the next.

    Attributes:
      quorum: offers of a meeting, at least; fewer suffice when no other can come.
      window_s: simulated seconds from the last offer that the quorum needs.
      adaptive: window of each meeting, `window_s` at most; None for the same at all of them.
    """

    quorum: int = 1
    window_s: float = 0.0
    adaptive: AdaptiveWindow | None = None
    averages_group = True
    keeps_late = True

    def closes(self, view: ServerView) -> bool:
        """Returns whether the window after the quorum is over, or nobody else can come."""
        return view.outstanding == 0 or view.window_over
