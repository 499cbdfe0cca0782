"""Trainers: when rounds that were dispatched are computed, and how many in one program."""

import bisect
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from simulator.learning.compiled_rounds import Programs, everywhere
from simulator.learning.lane_schedule import lanes_on_each, whole_lanes
from simulator.learning.phases import phase
from simulator.learning.round import OptState, Params, RoundInputs, RoundResult, RoundSettings
from simulator.learning.round_data import RoundData


@dataclasses.dataclass
class Ticket:
    """A round that was dispatched, computed or not.

    Attributes:
      round: its settings.
      params: as the worker pulled them; held until the result is taken, and never donated to a program.
      result: None until it is computed.
      state: the worker's inner optimizer state after the round, likewise.
      forgotten: whether the worker has lost its state since.
    """

    round: RoundSettings
    params: Params
    result: RoundResult | None = None
    state: OptState = None
    forgotten: bool = False


class Trainer(ABC):
    """Computes rounds. Each worker's inner optimizer state stays here between its rounds.

    A round changes that state when its result is taken. One that is computed and never taken does not.

    Args:
      programs: the compiled rounds.
      data: theirs.
      overhead: cost of starting a step, in lanes; see `launch_overhead`.

    Attributes:
      inner_states: of the workers that have trained, as the rounds left them whose results were taken.
    """

    def __init__(self, programs: Programs, data: RoundData, overhead: float = 0.0):
        self.inner_states: dict[int, OptState] = {}
        self._programs, self._data, self._overhead = programs, data, overhead
        self._key = everywhere(data.key, programs.devices)
        self._fresh: OptState = ()
        self._pending: list[Ticket] = []  # rounds that are not computed, in order
        self._ahead: dict[int, list[Ticket]] = {}  # each worker's rounds that are computed and not taken, in order

    def submit(self, round: RoundSettings, params: Params) -> Ticket:
        """Registers a round that starts from `params`."""
        ticket = Ticket(round, params)
        self._register(ticket)
        return ticket

    def result(self, ticket: Ticket) -> RoundResult:
        """Returns a round's result, computing what is pending if need be. The arrays may still be on their way."""
        if ticket.result is None:
            self._compute(ticket)
        assert ticket.result is not None
        worker = ticket.round.worker
        ahead = self._ahead.get(worker, [])
        place = next((index for index, other in enumerate(ahead) if other is ticket), None)
        if place is not None:  # else a later one was taken before it
            del ahead[: place + 1]
            self.inner_states[worker] = ticket.state
        return ticket.result

    def shorten(self, ticket: Ticket, round: RoundSettings) -> None:
        """Shortens a round to fewer steps than it was submitted with."""
        self.drop(ticket)
        ticket.round, ticket.result, ticket.state = round, None, None
        self._register(ticket)

    def drop(self, ticket: Ticket) -> None:
        """Drops a round whose result nobody will ask for."""
        self._data.forget(ticket.round)
        ahead = self._ahead.get(ticket.round.worker, [])
        ahead[:] = [other for other in ahead if other is not ticket]
        self._pending = [other for other in self._pending if other is not ticket]

    def forget(self, worker: int) -> None:
        """Gives a worker the inner optimizer state of one that has not trained, for rounds submitted from now on."""
        for ticket in [each for each in self._pending if each.round.worker == worker]:
            self._compute(ticket)
        self.inner_states.pop(worker, None)
        for ticket in self._ahead.pop(worker, ()):
            ticket.forgotten = True

    def initial_state(self, params: Params) -> OptState:
        """Returns the inner optimizer state of a worker that has not trained, () where none is kept."""
        recipe = self._programs.recipe
        return recipe.initial_state(params) if recipe.keep_state else ()

    def resume(self, inner_states: Mapping[int, OptState], tickets: Sequence[Ticket]) -> None:
        """Takes over from another trainer: the workers' states, and the rounds that were not taken, in order."""
        self.inner_states.update(inner_states)
        for ticket in tickets:
            if ticket.result is not None and not ticket.forgotten:
                self._keep(ticket)
        for ticket in tickets:
            if ticket.result is None:
                self._register(ticket)

    @abstractmethod
    def _register(self, ticket: Ticket) -> None:
        """Registers a round that is not computed."""

    @abstractmethod
    def _compute(self, ticket: Ticket) -> None:
        """Computes a round, if it is not yet."""

    @phase("round")
    def _run(self, tickets: list[Ticket]) -> None:
        """Computes rounds of different workers in one program."""
        inputs = [self._inputs(ticket) for ticket in tickets]
        outcomes = self._programs.run(self._data.arrays, self._key, inputs, self._overhead)
        for ticket, (result, state) in zip(tickets, outcomes, strict=True):
            ticket.result, ticket.state = result, state
            self._keep(ticket)

    def _inputs(self, ticket: Ticket) -> RoundInputs:
        if not self._fresh:
            self._fresh = self.initial_state(ticket.params)
        worker = ticket.round.worker
        ahead = self._ahead.get(worker)
        state = ahead[-1].state if ahead else self.inner_states.get(worker, self._fresh)
        return self._data.inputs(ticket.round, ticket.params, state)

    def _keep(self, ticket: Ticket) -> None:
        """Keeps a round that is computed until it is taken or dropped."""
        self._ahead.setdefault(ticket.round.worker, []).append(ticket)


class SerialTrainer(Trainer):
    """The reference: every round by itself, at once when it is dispatched."""

    def _register(self, ticket: Ticket) -> None:
        self._compute(ticket)

    def _compute(self, ticket: Ticket) -> None:
        self._run([ticket])


class BatchedTrainer(Trainer):
    """Lazy: a needed result is computed together with other pending ones, in one program of up to `lanes`.

    A round that never shares a program and that nobody asks for, because its worker was lost or the simulation ended,
    is never computed. Every device has a power of two of lanes, so that no more than 1 + log2(lanes) programs are ever
    compiled. Rounds of one program may differ in length.

    Args:
      programs: the compiled rounds.
      data: theirs.
      lanes: most lanes of one program, on all devices; where that is not a power of two on each, fewer are used.
      overhead: cost of starting a step, in lanes; see `launch_overhead`.
    """

    def __init__(self, programs: Programs, data: RoundData, lanes: int, overhead: float = 0.0):
        if lanes < 1:
            raise ValueError(f"lanes must be at least 1, not {lanes}")
        if lanes < len(programs.devices):
            raise ValueError(f"{lanes} lanes cannot fill {len(programs.devices)} devices")
        super().__init__(programs, data, overhead)
        self._devices = len(programs.devices)
        self._lanes = whole_lanes(lanes, self._devices)

    def _register(self, ticket: Ticket) -> None:
        self._data.announce(ticket.round)
        bisect.insort(self._pending, ticket, key=lambda other: other.round.id)  # as after a checkpoint

    def _compute(self, ticket: Ticket) -> None:
        """Computes a round beside the pending rounds most like it."""
        while ticket.result is None:
            self._run(self._batch(ticket))
            self._pending = [other for other in self._pending if other.result is None]

    def _batch(self, needed: Ticket) -> list[Ticket]:
        """Rounds of different workers, each its worker's first, the needed one's worker in front."""
        ready: dict[int, Ticket] = {}
        for ticket in self._pending:
            ready.setdefault(ticket.round.worker, ticket)
        first = ready.pop(needed.round.worker)
        others = sorted(ready.values(), key=lambda other: abs(other.round.steps - first.round.steps))
        most = min(1 + len(others), self._lanes)
        size = self._devices * lanes_on_each(most, self._devices, self._overhead)
        return [first, *others[: min(size, most) - 1]]
