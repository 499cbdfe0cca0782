"""Events of the simulated world, in causal order. Times are in whole nanoseconds.

Numbers of nodes are those of `host.nodes`.
"""

import math
from typing import Literal, NamedTuple

from simulator.cluster import Nanoseconds
from simulator.host.event_kinds import FaultKind, Outcome
from simulator.host.nodes import SERVER

Start = Literal["copy", "answer", "own"]
"""Parameters that a round starts from: a copy of all that a node holds, the worker's own merged with the answer to its
last offer, or its own, with the answers that it has accepted since its last round."""


class Round(NamedTuple):
    """A worker's round: all that its training depends on, fixed when it is dispatched.

    Attributes:
      id: rounds are numbered in the order of dispatch.
      worker: number of the worker.
      shard: data shard that it trains on.
      first_step: the shard's count of local steps assigned before this round.
      steps: number of local steps.
      version: number of updates, over all places, when it was dispatched.
      fragment: that is offered at its end; 0 where the whole model is.
      pulls: numbers of its local steps that are pulls, which take no time.
      micro_batches: whose mean gradient each of its local steps takes.
      first_batch: the shard's count of micro-batches assigned before this round.
    """

    id: int
    worker: int
    shard: int
    first_step: int
    steps: int
    version: int
    fragment: int = 0
    pulls: tuple[int, ...] = ()
    micro_batches: int = 1
    first_batch: int = 0


class Dispatched(NamedTuple):
    """A worker was given a round and begins to pull, or to compute where it goes on by itself.

    Attributes:
      time_ns: when.
      round: of the worker.
      start: parameters that it starts from.
      source: node that is copied, or that answers.
    """

    time_ns: Nanoseconds
    round: Round
    start: Start = "copy"
    source: int = SERVER


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
    """An offer that has reached a place, with the times at which the phases of its round began.

    The worker waited from `ready_ns` to `pull_start_ns`, pulled until `compute_start_ns`, computed until
    `push_start_ns` and pushed until `arrival_ns`. It took `pulls` and `pushes` messages, more than one where some were
    lost. `base` is the place's version that it had last accepted when it made the offer. While it computed, it waited
    `blocked_ns` for answers. The offer goes to the meeting with the number `turn`, 0 where it may come to any. What it
    pulled was that of the node `source`. The last answer that the worker had accepted took `answer_ns` on its way; None
    before the first, and of one that pulls its answers.
    """

    round: Round
    ready_ns: Nanoseconds
    pull_start_ns: Nanoseconds
    compute_start_ns: Nanoseconds
    push_start_ns: Nanoseconds
    arrival_ns: Nanoseconds
    pulls: int = 1
    pushes: int = 1
    base: int = 0
    blocked_ns: Nanoseconds = 0
    turn: int = 0
    source: int = SERVER
    answer_ns: Nanoseconds | None = None


class RegionOffer(NamedTuple):
    """An offer of a region's server that has reached the upper server.

    Attributes:
      region: its number.
      base: version of the upper server that the region had last accepted.
      version: of the region, all of whose updates are in the offer.
      sent_ns: when it was sent.
      arrival_ns: when it arrived.
    """

    region: int
    base: int
    version: int
    sent_ns: Nanoseconds
    arrival_ns: Nanoseconds


class Update(NamedTuple):
    """A meeting: a place has processed one offer, or, where it averages, all offers of a group at once.

    Attributes:
      time_ns: when it was done.
      arrivals: in order of arrival; of workers, or, at the upper server, of regions.
      staleness: updates of the place between what each worker had last accepted from it and now.
      outcome: "applied" made a new version; "buffered" waits for more arrivals; "dropped" was too stale, or, behind a
        barrier or at a peer, too late.
      version: number of updates afterwards, over all places.
      local_steps: over all workers, of everything processed so far.
      node: that has the place.
      fragment: of the model, 0 where it is whole.
      place_version: of the place afterwards.
      since_ns: when the collective began that has brought the offers together; None where messages have.
    """

    time_ns: Nanoseconds
    arrivals: tuple[Arrival | RegionOffer, ...]
    staleness: tuple[int, ...]
    outcome: Outcome
    version: int
    local_steps: int
    node: int = SERVER
    fragment: int = 0
    place_version: int = 0
    since_ns: Nanoseconds | None = None


def own_arrivals(event: Update) -> list[tuple[int, Arrival]]:
    """Returns the offers of an update that are at home there, with their places among all: those of its workers."""
    return [
        (place, arrival)
        for place, arrival in enumerate(event.arrivals)
        if isinstance(arrival, Arrival) and (event.node < 0 or event.node == arrival.round.worker)
    ]


class Answered(NamedTuple):
    """A place sends what it holds now to a node that has offered and goes on meanwhile.

    Attributes:
      time_ns: when.
      node: that answers.
      to: node that is answered.
      round: whose offer is answered.
      fragment: of the place.
      version: of the place.
    """

    time_ns: Nanoseconds
    node: int
    to: int
    round: int
    fragment: int
    version: int


class Offered(NamedTuple):
    """A node sends an offer to others: a region's server what it has learned since it last accepted, or a peer.

    Attributes:
      time_ns: when.
      node: that offers.
      round: at whose end a peer offers; -1 of a region's.
      to: nodes to which it is sent.
      version: of its place.
    """

    time_ns: Nanoseconds
    node: int
    round: int
    to: tuple[int, ...]
    version: int


class Accepted(NamedTuple):
    """A node merges an answer that it has received: a worker the oldest that it has of a fragment.

    Attributes:
      time_ns: when.
      node: that accepts.
      round: whose offer was answered; -1 of a region's, and where nothing is answered yet.
      fragment: of the answer.
      after: number of local steps of its present round that are done; 0 before the first of its next one.
      sent_ns: when the answer was sent.
      arrival_ns: when it arrived.
      messages: that were sent for it, more than one where some were lost.
      version: of the place when it answered.
    """

    time_ns: Nanoseconds
    node: int
    round: int
    fragment: int
    after: int
    sent_ns: Nanoseconds
    arrival_ns: Nanoseconds
    messages: int
    version: int


class Evaluation(NamedTuple):
    """The server's parameters, or the mean of the workers' where there is no server, are to be evaluated as they are.

    Attributes:
      time_ns: when.
      version: number of updates so far, over all places.
      local_steps: processed so far, over all workers.
    """

    time_ns: Nanoseconds
    version: int
    local_steps: int


class Finished(NamedTuple):
    """The budget is used up; rounds that are still under way are never computed.

    Attributes:
      time_ns: when.
      version: number of updates, over all places.
      local_steps: processed so far, over all workers.
      waiting: workers whose last round was processed and who had not been given another.
    """

    time_ns: Nanoseconds
    version: int
    local_steps: int
    waiting: tuple[int, ...] = ()


Event = Dispatched | Shortened | Lost | Fault | Update | Answered | Offered | Accepted | Evaluation | Finished
