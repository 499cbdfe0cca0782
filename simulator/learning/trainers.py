"""Trainers: when local steps that have begun are computed, and how many rounds in one program."""

import bisect
from abc import ABC, abstractmethod
from collections.abc import Sequence

from simulator.learning.compiled_rounds import Programs, everywhere
from simulator.learning.lane_schedule import lanes_on_each, whole_lanes
from simulator.learning.phases import phase
from simulator.learning.round import OptState, Params, RoundInputs, RoundResult, Stretch
from simulator.learning.round_data import RoundData
from simulator.learning.values import Value, Values, reachable

TRAINED = "trained"
"""Kind of the value of a training: its result and the inner optimizer state at its end."""


class Training(Value):
    """Value of some local steps: a pair of their result and the inner optimizer state at their end.

    Attributes:
      stretch: the local steps.
      start: parameters at their beginning; held until the result is there, and never donated to a program.
      inner: the worker's inner optimizer state by then; None of one that has not trained.
    """

    __slots__ = ("_trainer", "inner", "start", "stretch")

    def __init__(self, number: int, trainer: "Trainer", stretch: Stretch, start: Value, inner: Value | None):
        super().__init__(number, TRAINED, None, (start,) if inner is None else (start, inner))
        self.stretch, self.start, self.inner, self._trainer = stretch, start, inner, trainer

    def get(self) -> tuple[RoundResult, OptState]:
        """Returns the result, computing what is pending if need be. The arrays may still be on their way."""
        if not self.is_known:
            self._trainer.compute(self)
        result: tuple[RoundResult, OptState] = super().get()
        return result


class Trainer(ABC):
    """Computes local steps.

    Args:
      programs: the compiled rounds.
      data: theirs.
      overhead: cost of starting a step, in lanes; see `launch_overhead`.
    """

    def __init__(self, programs: Programs, data: RoundData, overhead: float = 0.0):
        self._programs, self._data, self._overhead = programs, data, overhead
        self._key = everywhere(data.key, programs.devices)
        self._fresh: OptState = ()

    @property
    def longest(self) -> int:
        """Most local steps of one training."""
        return self._data.longest_round

    @property
    def has_micro_batches(self) -> bool:
        """Batches of a local step: whether there are micro-batches, so that rounds have a noise scale."""
        return self._data.micro_batches is not None

    def training(self, values: Values, stretch: Stretch, start: Value, inner: Value | None) -> Training:
        """Returns the value of local steps, which `submit` is to be told of."""
        return Training(values.next_number(), self, stretch, start, inner)

    @abstractmethod
    def submit(self, training: Training) -> None:
        """Registers a training that is going to be needed."""

    def drop(self, training: Training) -> None:
        """Drops a training that nobody will ask for."""
        self._data.forget(training.stretch)

    @abstractmethod
    def compute(self, training: Training) -> None:
        """Computes a training that is not known."""

    def initial_state(self, params: Params) -> OptState:
        """Returns the inner optimizer state of a worker that has not trained, () where none is kept."""
        recipe = self._programs.recipe
        return recipe.initial_state(params) if recipe.keep_state else ()

    @phase("round")
    def _run(self, trainings: Sequence[Training]) -> None:
        """Computes trainings of different workers in one program."""
        inputs = [self._inputs(training) for training in trainings]
        outcomes = self._programs.run(self._data.arrays, self._key, inputs, self._overhead)
        for training, outcome in zip(trainings, outcomes, strict=True):
            training.set(outcome)

    def _inputs(self, training: Training) -> RoundInputs:
        params = training.start.get()
        if training.inner is not None:
            state = training.inner.get()
        elif self._programs.recipe.point is None:
            state = self._fresh = self._fresh or self.initial_state(params)
        else:
            state = self.initial_state(params)
        return self._data.inputs(training.stretch, params, state)


class SerialTrainer(Trainer):
    """The reference: every training by itself, at once when it begins."""

    def submit(self, training: Training) -> None:
        """Computes a training."""
        training.get()

    def compute(self, training: Training) -> None:
        """Computes a training that is not known."""
        self._run([training])


class BatchedTrainer(Trainer):
    """Lazy: what is needed is computed together with other pending trainings, in one program of up to `lanes`.

    A training that never shares a program and that nobody asks for, because its worker was lost or the simulation
    ended, is never computed. Every device has a power of two of lanes, so that no more than 1 + log2(lanes) programs
    are ever compiled. Trainings of one program may differ in length.

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
        self._pending: list[Training] = []  # in the order of their rounds

    def submit(self, training: Training) -> None:
        """Registers a training that is going to be needed."""
        self._data.announce(training.stretch)
        bisect.insort(self._pending, training, key=_order)  # as after a checkpoint

    def drop(self, training: Training) -> None:
        """Drops a training that nobody will ask for."""
        super().drop(training)
        self._pending = [other for other in self._pending if other is not training]

    def compute(self, training: Training) -> None:
        """Computes a training beside the pending ones most like it."""
        while not training.is_known:
            self._run(self._batch(training))
            self._pending = [other for other in self._pending if not other.is_known]

    def _batch(self, needed: Training) -> list[Training]:
        """Trainings of different workers, each its worker's first, the needed one's worker in front."""
        firsts: dict[int, Training] = {}
        for training in self._pending:
            firsts.setdefault(training.stretch.worker, training)
        first = firsts.pop(needed.stretch.worker)
        for each in first.inputs:
            each.get()
        ready = [other for other in firsts.values() if not other.is_known and _is_ready(other)]
        others = sorted(ready, key=lambda other: abs(other.stretch.steps - first.stretch.steps))
        most = min(1 + len(others), self._lanes)
        size = self._devices * lanes_on_each(most, self._devices, self._overhead)
        return [first, *others[: min(size, most) - 1]]


def _is_ready(training: Training) -> bool:
    """Returns whether all that it needs can be had without another training."""
    return all(value.is_known for value in reachable(training.inputs) if isinstance(value, Training))


def _order(training: Training) -> tuple[int, int]:
    return training.stretch.id, training.stretch.before
