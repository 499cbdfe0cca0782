"""Message on its way while its worker does something else."""

import dataclasses
import math
from collections.abc import Callable, Generator
from typing import Any, ClassVar, NamedTuple, Protocol

import simpy

from simulator.cluster import Nanoseconds

Process = Generator[simpy.Event, Any, None]


class Transit(NamedTuple):
    """A message that was sent.

    Attributes:
      duration_ns: that it takes; where others can still delay it, at least.
      end: event that succeeds when it is there, with whether it ever is; None where the duration is known.
    """

    duration_ns: Nanoseconds
    end: simpy.Event | None = None


NONE = Transit(0)
"""No message: it is there at once."""


class Way(Protocol):
    """A way for messages, such as a `Channel`."""

    def send(self, worker: int, share: float = 1.0) -> Transit:
        """Sends a message now."""


class Traffic(Protocol):
    """Clock and counts of what is on its way, see `Timeline`."""

    env: simpy.Environment
    under_way: int
    stalled: int
    stuck: set[int]

    def wake(self) -> None:
        """Has deadlocks looked for."""


@dataclasses.dataclass(frozen=True)
class Brought:
    """An answer that a collective has brought: it is there, by no message of its own.

    Attributes:
      sent: number of messages, none.
      sent_ns, arrival_ns: when.
    """

    sent_ns: Nanoseconds
    arrival_ns: Nanoseconds
    sent: ClassVar = 0

    def drop(self) -> None:
        """Has no effect: it is there."""


class Message:
    """A message between a worker and a server as a process of its own; it is sent again while it is lost.

    One that is dropped still takes its turn on a shared link.

    Args:
      traffic: in which it is counted while it is under way.
      way: that it takes.
      worker: whose link it takes.
      share: of the model's size.
      losses: number of times in a row that it is lost.
      attempts: most times that it is sent.
      retry_ns: after which it is known to be lost.
      done: called at its end with whether it got through.

    Attributes:
      sent: number of times that it was sent.
      sent_ns, arrival_ns: when first, and when it got through.
    """

    def __init__(
        self,
        traffic: Traffic,
        way: Way,
        worker: int,
        share: float,
        *,
        losses: int = 0,
        attempts: float = math.inf,
        retry_ns: Nanoseconds = 0,
        done: Callable[["Message", bool], None],
    ):
        self.sent, self.sent_ns = 0, traffic.env.now
        self.arrival_ns: Nanoseconds = math.inf
        self._traffic, self._way, self._worker, self._share = traffic, way, worker, share
        self._losses, self._attempts, self._retry_ns, self._done = losses, attempts, retry_ns, done
        self._dropped = self._stalled = False
        traffic.under_way += 1
        self._send()
        traffic.env.process(self._travel())

    def drop(self) -> None:
        """Makes it end without any effect."""
        if not self._dropped and self.arrival_ns == math.inf:
            self._dropped = True
            self._traffic.under_way -= 1
            self._traffic.stalled -= self._stalled
            self._traffic.stuck.discard(self._worker)

    def _send(self) -> None:
        self.sent += 1
        self._transit = self._way.send(self._worker, self._share)

    def _travel(self) -> Process:
        env = self._traffic.env
        while True:
            lost = self._losses > 0
            duration_ns, end = self._transit
            if end is not None:
                duration_ns = 0 if (yield end) else math.inf
            duration_ns += self._retry_ns if lost else 0
            if duration_ns == math.inf:
                self._stall()
                return
            yield env.timeout(duration_ns)
            if self._dropped:
                return
            if not lost or self.sent == self._attempts:
                break
            self._losses -= 1
            self._send()
        self.arrival_ns = env.now
        self._traffic.under_way -= 1
        self._done(self, not lost)

    def _stall(self) -> None:
        if not self._dropped:
            self._stalled = True
            self._traffic.stalled += 1
            self._traffic.stuck.add(self._worker)
            self._traffic.wake()
