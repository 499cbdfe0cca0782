"""What is due at one time is done in the order in which it was put there."""

from collections.abc import Callable

import pytest
import simpy

from simulator.timeline.agenda import Agenda


class Clock:
    """An agenda beside SimPy's queue, and what happened when."""

    def __init__(self) -> None:
        self.env = simpy.Environment()
        self.agenda = Agenda(self.env)
        self.log: list[tuple[float, str]] = []

    def notes(self, what: str) -> Callable[..., None]:
        return lambda *_: self.log.append((self.env.now, what))

    def at(self, time_s: float, action: Callable[[], None]) -> None:
        self.env.timeout(time_s).callbacks.append(lambda _: action())

    def run(self) -> list[tuple[float, str]]:
        while self.agenda.due or self.env.peek() < simpy.core.Infinity:
            if self.agenda.due:
                self.agenda.due.popleft()()
            else:
                self.env.step()
        return self.log


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_is_put_comes_after_what_was_due_before(clock: Clock):
    clock.at(1.0, lambda: clock.agenda.put(clock.notes("put")))
    clock.at(1.0, clock.notes("due"))
    clock.at(2.0, clock.notes("later"))
    assert clock.run() == [(1.0, "due"), (1.0, "put"), (2.0, "later")]


@pytest.mark.parametrize("others", [0, 1])
def test_what_is_put_comes_before_what_is_due_afterwards(clock: Clock, others: int):
    def put() -> None:
        clock.agenda.put(clock.notes("first"))
        clock.at(0.0, clock.notes("second"))
        clock.agenda.put(clock.notes("third"))

    clock.at(1.0, put)
    for _ in range(others):
        clock.at(1.0, clock.notes("due"))
    assert clock.run() == [(1.0, "due")] * others + [(1.0, "first"), (1.0, "second"), (1.0, "third")]


def test_what_is_put_first_comes_before_what_was_due_before(clock: Clock):
    def put() -> None:
        clock.agenda.put(clock.notes("put"))
        clock.agenda.put_first(clock.notes("put first"))

    clock.at(1.0, put)
    clock.at(1.0, clock.notes("due"))
    assert clock.run() == [(1.0, "put first"), (1.0, "due"), (1.0, "put")]


def test_what_nothing_else_is_due_beside_needs_no_event(clock: Clock):
    clock.at(1.0, lambda: clock.agenda.put(clock.notes("put")))
    clock.env.step()
    assert clock.env.peek() == simpy.core.Infinity
    assert clock.run() == [(1.0, "put")]
