"""What is between a worker and the server: rounds under way, and requests for one."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import simpy

from simulator.timeline.events import Arrival, Event, Round, arrival_of


class Request(NamedTuple):
    """A worker that has nothing to do asks for a round.

    Attributes:
      worker: who.
      arrival_s: when.
      rounds: how many rounds it had been given by then.
    """

    worker: int
    arrival_s: float
    rounds: int


class Server(Protocol):
    """What workers need of the server."""

    def emit(self, event: Event) -> None:
        """Something has happened."""

    def receive(self, message: Arrival | Request) -> None:
        """A pseudo-gradient or a request has arrived."""

    def told(self, worker: int) -> None:
        """A worker has said that its round will not come."""

    def rouse(self) -> None:
        """What the server waits for may have changed."""


@dataclasses.dataclass(slots=True, eq=False)
class Flight:
    """A round under way.

    Attributes:
      task: what is to be done.
      ready_s, pull_start_s, compute_start_s, push_start_s: when phases began; None where one has not.
      pull_s: how long the pull takes, None where it is not known before its message gets through.
      compute_s: how long the steps take at full speed.
      lost_pulls, lost_pushes: how many times the message is lost.
      pushes: how many messages have been sent with what was computed.
    """

    task: Round
    ready_s: float
    pull_start_s: float
    pull_s: float | None
    compute_s: float
    lost_pulls: int = 0
    lost_pushes: int = 0
    compute_start_s: float | None = None
    push_start_s: float | None = None
    pushes: int = 0

    def arrived(self, time_s: float) -> Arrival:
        """Returns the round as it arrives."""
        assert self.compute_start_s is not None
        assert self.push_start_s is not None
        times_s = self.ready_s, self.pull_start_s, self.compute_start_s, self.push_start_s, time_s
        return arrival_of((self.task, *times_s, self.lost_pulls + 1, self.pushes))


class Course(NamedTuple):
    """A round under way that nothing can disturb: how long each of its phases takes is known from the start.

    Attributes:
      timeout: makes a timeout of so many seconds.
      landed: is called at the end, with the arrival.
      arrival: what the server will receive.
      compute_s, push_s: how long phases take.
    """

    timeout: Callable[[float], simpy.Event]
    landed: Callable[[Arrival], None]
    arrival: Arrival
    compute_s: float
    push_s: float

    def compute(self, _: simpy.Event | None) -> None:
        """Computes, and then pushes."""
        self.timeout(self.compute_s).callbacks.append(self.push)

    def push(self, _: simpy.Event | None) -> None:
        """Pushes what was computed; no time needs no event."""
        if self.push_s > 0:
            self.timeout(self.push_s).callbacks.append(self.land)
        else:
            self.landed(self.arrival)

    def land(self, _: simpy.Event | None) -> None:
        """Arrives."""
        self.landed(self.arrival)


course_of: Callable[[tuple[Any, ...]], Course] = functools.partial(tuple.__new__, Course)  # see `round_of`
