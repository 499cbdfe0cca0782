"""Exchanges of a worker that goes on meanwhile: its offers on their way, and the answers that it has yet to accept."""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import simpy

from simulator.cluster import Nanoseconds
from simulator.host.event_kinds import FaultKind
from simulator.timeline.message import Brought, Message


@dataclasses.dataclass(slots=True, eq=False)
class OpenOffer:
    """An offer whose answer has not been accepted.

    Attributes:
      round: that it ended.
      received: succeeds when the answer is there.
      answer: on its way, or there; None before it is sent.
      version: of the place when it answered.
      next_turn: number of the meeting that was open then.
    """

    round: int
    received: simpy.Event
    answer: Message | Brought | None = None
    version: int = 0
    next_turn: int = 0


class Exchanges:
    """Open offers of each fragment, oldest first, and messages on their way.

    Attributes:
      offer: number of the offer that the present round ends with; its first since the last copy is `first`.
      versions: of each fragment, those of the place that were last accepted.
      answer_ns: time that the last answer took which was accepted; None before the first.
    """

    def __init__(self, env: simpy.Environment):
        self._env = env
        self._posts: dict[Message, Callable[[FaultKind], None]] = {}
        self.answer_ns: Nanoseconds | None = None
        self.reset(0, (0,))

    def reset(self, offer: int, versions: Sequence[int], *, is_eager: bool = False) -> None:
        """Begins anew with a copy of everything.

        Args:
          offer: number of the next one.
          versions: of each fragment's place.
          is_eager: whether there is something to accept already: nothing, of the only fragment.
        """
        self.offer = self.first = offer
        self.versions = list(versions)
        self._ahead = [0 for _ in versions]  # of its own count of meetings, where some were held without it
        self.open: list[deque[OpenOffer]] = [deque() for _ in versions]
        if is_eager:
            self.first -= 1
            nothing = OpenOffer(-1, self._env.event(), version=versions[0])
            nothing.received.succeed()
            self.open[0].append(nothing)

    @property
    def turn(self) -> int:
        """Number of the meeting to which the next offer goes."""
        return self.offer // len(self.versions) + self._ahead[self.offer % len(self.versions)]

    def add(self, fragment: int, round: int) -> None:
        """Adds the offer of a round; the one after it is of the next fragment."""
        self.open[fragment].append(OpenOffer(round, self._env.event()))
        self.offer += 1

    def offer_of(self, fragment: int, round: int) -> OpenOffer | None:
        """Returns the open offer of a round, None if there is none."""
        return next((each for each in self.open[fragment] if each.round == round), None)

    def accept(self, fragment: int) -> OpenOffer:
        """Takes the oldest offer, whose answer is there, from those that are open."""
        accepted = self.open[fragment].popleft()
        self.versions[fragment] = accepted.version
        count = len(self.versions)
        if accepted.answer is None:
            return accepted
        self.answer_ns = accepted.answer.arrival_ns - accepted.answer.sent_ns
        following = self.offer + (fragment - self.offer) % count  # the next offer of this fragment
        self._ahead[fragment] = max(self._ahead[fragment], accepted.next_turn - following // count)
        return accepted

    def posted(self, message: Message, lose: Callable[[FaultKind], None]) -> None:
        """Notes an offer on its way, and what is to be done if it is lost with its worker."""
        self._posts[message] = lose

    def ended(self, message: Message) -> None:
        """Forgets an offer that has come to its end."""
        self._posts.pop(message, None)

    def drop(self, cause: FaultKind | None) -> None:
        """Drops the answers on their way, and the offers too if there is a cause for which they are lost."""
        for each in self._answers():
            each.drop()
        for queue in self.open:
            queue.clear()
        if cause is not None:
            posts, self._posts = self._posts, {}
            for message, lose in posts.items():
                message.drop()
                lose(cause)

    def _answers(self) -> Iterator[Message | Brought]:
        return (each.answer for queue in self.open for each in queue if each.answer is not None)

    def is_sending(self) -> bool:
        """Returns whether an offer is on its way."""
        return bool(self._posts)
