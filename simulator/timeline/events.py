"""What happens in the simulated world, in causal order. Times are in simulated seconds."""

from typing import Literal, NamedTuple

Outcome = Literal["applied", "buffered", "dropped"]


class Round(NamedTuple):
    """What a worker is told to do: all that its training depends on, fixed when it is dispatched.

    Attributes:
      id: rounds are numbered in the order of dispatch.
      worker: who does it.
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

    time_s: float
    round: Round


class Arrival(NamedTuple):
    """A round whose pseudo-gradient has reached the server, with the times at which its phases began.

    The worker waited from `ready_s` to `pull_start_s`, pulled until `compute_start_s`, computed until `push_start_s`
    and pushed until `arrival_s`.
    """

    round: Round
    ready_s: float
    pull_start_s: float
    compute_start_s: float
    push_start_s: float
    arrival_s: float


class Update(NamedTuple):
    """The server has processed one arrival, or, behind a barrier, all arrivals of a round at once.

    Attributes:
      time_s: when it was done.
      arrivals: in order of arrival.
      staleness: server updates between each arrival's pull and its push.
      outcome: "applied" made a new version; "buffered" waits for more arrivals; "dropped" was too stale.
      version: of the server afterwards.
      local_steps: over all workers, of everything processed so far.
    """

    time_s: float
    arrivals: tuple[Arrival, ...]
    staleness: tuple[int, ...]
    outcome: Outcome
    version: int
    local_steps: int


class Evaluation(NamedTuple):
    """The server's parameters are to be evaluated as they are now."""

    time_s: float
    version: int
    local_steps: int


class Finished(NamedTuple):
    """The budget is used up; rounds that are still under way are never computed.

    Attributes:
      time_s: when.
      version: of the server.
      local_steps: processed so far, over all workers.
      waiting: workers whose last round was processed and who had not been given another.
    """

    time_s: float
    version: int
    local_steps: int
    waiting: tuple[int, ...] = ()


Event = Dispatched | Update | Evaluation | Finished
