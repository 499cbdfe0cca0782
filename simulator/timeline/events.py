"""Events of the simulated world, in causal order. Times are in whole nanoseconds."""

import math
from typing import NamedTuple

from simulator.cluster import Nanoseconds
from simulator.host.event_kinds import FaultKind, Outcome


class Round(NamedTuple):
    """A worker's round: all that its training depends on, fixed when it is dispatched.

    Attributes:
      id: rounds are numbered in the order of dispatch.
      worker: number of the worker.
      shard: data shard that it trains on.
      first_step: the shard's count of local steps assigned before this round.
      steps: number of local steps.
      version: server version that the worker pulls.
    """

    id: int
    worker: int
    shard: int
    first_step: int
    steps: int
    version: int


class Dispatched(NamedTuple):
    """A worker was given a round and begins to pull."""

    time_ns: Nanoseconds
    round: Round


class Shortened(NamedTuple):
    """A round under way is cut off: it has only the steps that were finished by then.

    Attributes:
      time_ns: when.
      round: as it is now.
      given: number of steps it had.
    """

    time_ns: Nanoseconds
    round: Round
    given: int


class Lost(NamedTuple):
    """A round under way will never arrive.

    Attributes:
      time_ns: when it was lost.
      round: as it was by then.
      cause: of the loss.
      computed: number of its steps that had been computed, in vain.
      pulls, pushes: messages that were sent for it.
    """

    time_ns: Nanoseconds
    round: Round
    cause: FaultKind
    computed: int
    pulls: int
    pushes: int


class Fault(NamedTuple):
    """A fault in the cluster, or its end.

    Attributes:
      time_ns: when.
      worker: number of the worker; -1 is the server.
      kind: of the fault; "return" ends every absence, "late" is that of a worker that joins after the start.
      forgets: whether the worker has lost its inner optimizer state.
      factor: how many times as long a step takes from now on, of "slow"; else NaN.
    """

    time_ns: Nanoseconds
    worker: int
    kind: FaultKind
    forgets: bool = False
    factor: float = math.nan


class Arrival(NamedTuple):
    """A round whose pseudo-gradient has reached the server, with the times at which its phases began.

    The worker waited from `ready_ns` to `pull_start_ns`, pulled until `compute_start_ns`, computed until
    `push_start_ns` and pushed until `arrival_ns`. It took `pulls` and `pushes` messages, more than one where some were
    lost.
    """

    round: Round
    ready_ns: Nanoseconds
    pull_start_ns: Nanoseconds
    compute_start_ns: Nanoseconds
    push_start_ns: Nanoseconds
    arrival_ns: Nanoseconds
    pulls: int = 1
    pushes: int = 1


class Update(NamedTuple):
    """The server has processed one arrival, or, behind a barrier, all arrivals of a round at once.

    Attributes:
      time_ns: when it was done.
      arrivals: in order of arrival.
      staleness: server updates between each arrival's pull and its push.
      outcome: "applied" made a new version; "buffered" waits for more arrivals; "dropped" was too stale, or, behind a
        barrier, too late.
      version: of the server afterwards.
      local_steps: over all workers, of everything processed so far.
    """

    time_ns: Nanoseconds
    arrivals: tuple[Arrival, ...]
    staleness: tuple[int, ...]
    outcome: Outcome
    version: int
    local_steps: int


class Evaluation(NamedTuple):
    """The server's parameters are to be evaluated as they are now."""

    time_ns: Nanoseconds
    version: int
    local_steps: int


class Finished(NamedTuple):
    """The budget is used up; rounds that are still under way are never computed.

    Attributes:
      time_ns: when.
      version: of the server.
      local_steps: processed so far, over all workers.
      waiting: workers whose last round was processed and who had not been given another.
    """

    time_ns: Nanoseconds
    version: int
    local_steps: int
    waiting: tuple[int, ...] = ()


Event = Dispatched | Shortened | Lost | Fault | Update | Evaluation | Finished
