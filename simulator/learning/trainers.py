"""Trainers: when rounds that were dispatched are computed, and how many in one program."""

import bisect
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol

from simulator.learning.compiled_rounds import Programs, everywhere
from simulator.learning.lane_schedule import lanes_on_each, whole_lanes
from simulator.learning.phases import phase
from simulator.learning.round import Assignment, OptState, Params, RoundInputs, RoundResult
from simulator.learning.round_data import Feed


@dataclasses.dataclass
class Ticket:
    """A round that was dispatched, computed or not.

    Attributes:
      assignment: of the round.
      params: as the worker pulled them; held until the result is taken, and never donated to a program.
      result: None until it is computed.
      state: the worker's inner optimizer state after the round, likewise.
      forgotten: whether the worker has lost its state since.
    """

    assignment: Assignment
    params: Params
    result: RoundResult | None = None
    state: OptState = None
    forgotten: bool = False


class Trainer(Protocol):
    """Computes rounds. Each worker's inner optimizer state stays here between its rounds.

    A round changes that state when its result is taken. One that is computed and never taken does not.
    """

    def submit(self, assignment: Assignment, params: Params) -> Ticket:
        """Registers a round that starts from `params`; costs nothing until a result is asked for."""

    def result(self, ticket: Ticket) -> RoundResult:
        """Returns a round's result, computing what is pending if need be. The arrays may still be on their way."""

    def shorten(self, ticket: Ticket, assignment: Assignment) -> None:
        """Shortens a round to fewer steps than it was submitted with."""

    def drop(self, ticket: Ticket) -> None:
        """Drops a round whose result nobody will ask for."""

    def forget(self, worker: int) -> None:
        """Gives a worker the inner optimizer state of one that has not trained, for rounds submitted from now on."""

    @property
    def inner_states(self) -> Mapping[int, OptState]:
        """The inner optimizer states of the workers that have trained."""

    def initial_state(self, params: Params) -> OptState:
        """Returns the inner optimizer state of a worker that has not trained, () where none is kept."""

    def resume(self, inner_states: Mapping[int, OptState], tickets: Sequence[Ticket]) -> None:
        """Takes over from another trainer: the workers' states, and the rounds that were not taken, in order."""


class _Workers:
    """Runs tickets and keeps each worker's inner optimizer state.

    Attributes:
      inner_states: as the rounds left them whose results were taken.
    """

    def __init__(self, programs: Programs, feed: Feed, overhead: float):
        self.inner_states: dict[int, OptState] = {}
        self._programs = programs
        self._feed = feed
        self._overhead = overhead
        self._key = everywhere(feed.key, programs.devices)
        self._fresh: OptState = ()
        self._ahead: dict[int, list[Ticket]] = {}  # each worker's rounds that are computed and not taken, in order

    def announce(self, assignment: Assignment) -> None:
        """Announces a round that may be run before long."""
        self._feed.announce(assignment)

    @phase("round")
    def run(self, tickets: list[Ticket]) -> None:
        """Computes rounds of different workers in one program."""
        inputs = [self._inputs(ticket) for ticket in tickets]
        outcomes = self._programs.run(self._feed.arrays, self._key, inputs, self._overhead)
        for ticket, (result, state) in zip(tickets, outcomes, strict=True):
            ticket.result, ticket.state = result, state
            self.keep(ticket)

    def keep(self, ticket: Ticket) -> None:
        """Keeps a round that is computed until it is taken or dropped."""
        self._ahead.setdefault(ticket.assignment.worker, []).append(ticket)

    def take(self, ticket: Ticket) -> RoundResult:
        """Returns the result of a round that is computed; the worker's state is then not older than the round's."""
        assert ticket.result is not None
        ahead = self._ahead.get(ticket.assignment.worker, [])
        place = next((index for index, other in enumerate(ahead) if other is ticket), None)
        if place is not None:  # else a later one was taken before it
            del ahead[: place + 1]
            self.inner_states[ticket.assignment.worker] = ticket.state
        return ticket.result

    def forget(self, worker: int) -> None:
        """Resets a worker's state, so that its next round begins like its first."""
        self.inner_states.pop(worker, None)
        for ticket in self._ahead.pop(worker, ()):
            ticket.forgotten = True

    def drop(self, ticket: Ticket) -> None:
        """Undoes a round, if it is computed."""
        self._feed.forget(ticket.assignment)
        ahead = self._ahead.get(ticket.assignment.worker, [])
        ahead[:] = [other for other in ahead if other is not ticket]

    def initial_state(self, params: Params) -> OptState:
        """Returns the state of a worker that has not trained."""
        recipe = self._programs.recipe
        return recipe.initial_state(params) if recipe.keep_state else ()

    def _inputs(self, ticket: Ticket) -> RoundInputs:
        if not self._fresh:
            self._fresh = self.initial_state(ticket.params)
        worker = ticket.assignment.worker
        ahead = self._ahead.get(worker)
        state = ahead[-1].state if ahead else self.inner_states.get(worker, self._fresh)
        return self._feed.inputs(ticket.assignment, ticket.params, state)


class _Keeping(ABC):
    """Base of both trainers: the handling of the workers' states."""

    def __init__(self, programs: Programs, feed: Feed, overhead: float = 0.0):
        self._workers = _Workers(programs, feed, overhead)

    @property
    def inner_states(self) -> Mapping[int, OptState]:
        """The inner optimizer states of the workers that have trained."""
        return self._workers.inner_states

    def initial_state(self, params: Params) -> OptState:
        """Returns the inner optimizer state of a worker that has not trained, () where none is kept."""
        return self._workers.initial_state(params)

    def resume(self, inner_states: Mapping[int, OptState], tickets: Sequence[Ticket]) -> None:
        """Takes over from another trainer: the workers' states, and the rounds that were not taken, in order."""
        self._workers.inner_states.update(inner_states)
        for ticket in tickets:
            if ticket.result is not None and not ticket.forgotten:
                self._workers.keep(ticket)
        self._take_over([ticket for ticket in tickets if ticket.result is None])

    def drop(self, ticket: Ticket) -> None:
        """Drops a round whose result nobody will ask for."""
        self._workers.drop(ticket)

    def shorten(self, ticket: Ticket, assignment: Assignment) -> None:
        """Shortens a round to fewer steps than it was submitted with."""
        self.drop(ticket)
        ticket.assignment, ticket.result, ticket.state = assignment, None, None
        self._take_over([ticket])

    def forget(self, worker: int) -> None:
        """Gives a worker the inner optimizer state of one that has not trained, for rounds submitted from now on."""
        self._compute(worker)
        self._workers.forget(worker)

    @abstractmethod
    def _compute(self, worker: int) -> None:
        """Computes the pending rounds of a worker."""

    @abstractmethod
    def _take_over(self, pending: Sequence[Ticket]) -> None:
        """Registers rounds that are not computed."""


class SerialTrainer(_Keeping):
    """The reference: every round by itself, at once when it is dispatched."""

    def _take_over(self, pending: Sequence[Ticket]) -> None:
        for ticket in pending:
            self._workers.run([ticket])

    def _compute(self, worker: int) -> None:
        """Does nothing: every round is computed when it is submitted."""

    def submit(self, assignment: Assignment, params: Params) -> Ticket:
        """Trains the round."""
        ticket = Ticket(assignment, params)
        self._take_over([ticket])
        return ticket

    def result(self, ticket: Ticket) -> RoundResult:
        """Returns the round's result."""
        return self._workers.take(ticket)


class BatchedTrainer(_Keeping):
    """Lazy: a needed result is computed together with other pending ones, in one program of up to `lanes`.

    A round that never shares a program and that nobody asks for, because its worker was lost or the simulation ended,
    is never computed. Every device has a power of two of lanes, so that no more than 1 + log2(lanes) programs are ever
    compiled. Rounds of one program may differ in length.

    Args:
      programs: the compiled rounds.
      feed: their data.
      lanes: most lanes of one program, on all devices; where that is not a power of two on each, fewer are used.
      overhead: cost of starting a step, in lanes; see `launch_overhead`.
    """

    def __init__(self, programs: Programs, feed: Feed, lanes: int, overhead: float = 0.0):
        if lanes < 1:
            raise ValueError(f"lanes must be at least 1, not {lanes}")
        if lanes < len(programs.devices):
            raise ValueError(f"{lanes} lanes cannot fill {len(programs.devices)} devices")
        super().__init__(programs, feed, overhead)
        self._devices = len(programs.devices)
        self._lanes = whole_lanes(lanes, self._devices)
        self._overhead = overhead
        self._pending: list[Ticket] = []

    def submit(self, assignment: Assignment, params: Params) -> Ticket:
        """Registers the round."""
        ticket = Ticket(assignment, params)
        self._take_over([ticket])
        return ticket

    def _take_over(self, pending: Sequence[Ticket]) -> None:
        for ticket in pending:
            self._workers.announce(ticket.assignment)
            bisect.insort(self._pending, ticket, key=lambda other: other.assignment.id)  # as after a checkpoint

    def result(self, ticket: Ticket) -> RoundResult:
        """Returns the round's result; if it is not there, computes it beside the pending rounds most like it."""
        self._ensure(ticket)
        return self._workers.take(ticket)

    def _ensure(self, ticket: Ticket) -> None:
        while ticket.result is None:
            batch = self._batch(ticket)
            self._workers.run(batch)
            self._pending = [other for other in self._pending if other.result is None]

    def _compute(self, worker: int) -> None:
        """Computes the pending rounds of a worker."""
        for ticket in [each for each in self._pending if each.assignment.worker == worker]:
            self._ensure(ticket)

    def drop(self, ticket: Ticket) -> None:
        """Drops a round whose result nobody will ask for."""
        super().drop(ticket)
        self._pending = [other for other in self._pending if other is not ticket]

    def _batch(self, needed: Ticket) -> list[Ticket]:
        """Rounds of different workers, each its worker's first, the needed one's worker in front."""
        ready: dict[int, Ticket] = {}
        for ticket in self._pending:
            ready.setdefault(ticket.assignment.worker, ticket)
        first = ready.pop(needed.assignment.worker)
        others = sorted(ready.values(), key=lambda other: abs(other.assignment.steps - first.assignment.steps))
        most = min(1 + len(others), self._lanes)
        size = self._devices * lanes_on_each(most, self._devices, self._overhead)
        return [first, *others[: min(size, most) - 1]]
