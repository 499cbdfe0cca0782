"""Round under way, and what a worker and its server tell each other."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from simulator.cluster import ClusterModel, MessageShares, Nanoseconds
from simulator.host.nodes import SERVER
from simulator.timeline.events import Arrival, Event, RegionOffer, Round
from simulator.timeline.links import Channel, SharedLinks
from simulator.timeline.message import NONE, Process, Traffic, Transit


class Request(NamedTuple):
    """A request for a round, of a worker without one.

    Attributes:
      worker: its number.
      arrival_ns: when.
      rounds: number of rounds it had been given by then.
    """

    worker: int
    arrival_ns: Nanoseconds
    rounds: int


class Assignment(NamedTuple):
    """A round that a worker is given, and what it begins with.

    Attributes:
      round: its own.
      offer: number of the worker's offer at its end.
      turn: number of the meeting to which that goes.
      versions: of the places whose parameters it begins with.
      source: node that has these, or whose answer it takes.
      since_ns: when that began to come to it, where nothing is pulled unless it was away meanwhile; None for a pull.
    """

    round: Round
    offer: int
    turn: int
    versions: Sequence[int]
    source: int
    since_ns: Nanoseconds | None


Incoming = Arrival | Request | RegionOffer
"""Messages that come to a server."""


@dataclasses.dataclass(slots=True, eq=False)
class RoundUnderWay:
    """A round and its progress.

    Attributes:
      round: as it was given, or as much as is left of it.
      ready_ns, pull_start_ns, compute_start_ns, push_start_ns: when phases began; None where one has not.
      compute_ns: time of the steps at full speed, with that in which a pipeline is filled before them.
      parts: of steps that are computed: its local steps, or, of those of layers, parts of them.
      fill_ns: that time.
      base: version of the place of its offer that the worker had last accepted when it made the offer.
      losses: number of times that the present message, of the pull at first, is still going to be lost.
      lost_pushes: number of times that that of the push is.
      message: that was sent last.
      pulls, pushes: messages that have been sent.
      done: parts before the stretch that is being computed.
      stretch_start_ns: when that began; None while nothing is computed.
      blocked_ns: time for which it waited between its steps.
      turn: number of the meeting to which its offer goes.
      source: node whose parameters it pulls, or whose answer.
      answer_ns: time that the last answer took which the worker had accepted when it made the offer.
    """

    round: Round
    ready_ns: Nanoseconds
    pull_start_ns: Nanoseconds
    compute_ns: Nanoseconds
    parts: int
    fill_ns: Nanoseconds = 0
    base: int = 0
    losses: int = 0
    lost_pushes: int = 0
    message: Transit = NONE
    pulls: int = 0
    pushes: int = 0
    compute_start_ns: Nanoseconds | None = None
    push_start_ns: Nanoseconds | None = None
    done: int = 0
    stretch_start_ns: Nanoseconds | None = None
    blocked_ns: Nanoseconds = 0
    turn: int = 0
    source: int = SERVER
    answer_ns: Nanoseconds | None = None

    def share_ns(self, parts: int) -> Nanoseconds:
        """Returns the time of the first of its parts at full speed."""
        if parts in (0, self.parts):
            return self.compute_ns if parts else 0
        return self.fill_ns + parts * (self.compute_ns - self.fill_ns) // self.parts

    def arrival(self, now_ns: Nanoseconds) -> Arrival:
        """Returns its offer as it arrives now."""
        assert self.compute_start_ns is not None
        assert self.push_start_ns is not None
        return Arrival(
            self.round,
            self.ready_ns,
            self.pull_start_ns,
            self.compute_start_ns,
            self.push_start_ns,
            now_ns,
            self.pulls,
            self.pushes,
            self.base,
            self.blocked_ns,
            self.turn,
            self.source,
            self.answer_ns,
        )


class SimulatedCluster(Traffic, Protocol):
    """Clock and network as a worker meets them, see `Timeline`."""

    cluster: ClusterModel
    links: SharedLinks
    down: Channel
    up: Channel
    shares: MessageShares

    def emit(self, event: Event) -> None:
        """Reports what happens."""

    def assign(self, worker: int, steps: int, fragment: int) -> Round:
        """Returns a worker's next round, on a shard that it chooses."""

    def until(self, time_ns: Nanoseconds) -> Process:
        """Waits until a time."""


class HomeServer(Protocol):
    """Server of a worker as it meets it, see `ServerProcess`."""

    node: int

    def receive(self, message: Incoming) -> None:
        """Takes in a message to the server."""

    def forget(self, worker: int) -> None:
        """Stops waiting for a worker."""

    def expect(self, worker: int, arrival_ns: Nanoseconds) -> None:
        """Updates the time at which a worker's round can arrive."""
