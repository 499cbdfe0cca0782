"""Plan of the training that simulations of a sweep share: whole trajectories, and common beginnings.

A round is a pure function of what is known when it is dispatched, so training follows from the causal order of events
and from the learning settings; how long things take does not enter. Where two simulations agree in both, one is trained
and the other takes its losses at its own times. Where they agree up to an event, the second resumes from there, if that
saves enough and there is room for the state at which they part; else it is trained from the start, to the same bits.
"""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from simulator.experiment import Experiment
from simulator.host.signals import Stopped
from simulator.learning import Cache, Setup
from simulator.record import Checkpoint, RunRecord
from simulator.simulation.shared_training import Beginning, SharedTraining, Trajectory, state_bytes
from simulator.simulation.simulate import Simulation
from simulator.sweep.plan import PlannedRun, experiment_of
from simulator.timeline import CausalHash, Event, NoProgressError, Update

KEPT_OF_HOST = 0.1
"""The share of the host's memory that states may take at a time which simulations are to go on from.

It is what the default of `compute.memory` leaves."""

_Event = TypeVar("_Event")
_WORTHWHILE_SHARE, _WORTHWHILE_ROUNDS = 0.05, 2  # of a simulation's local steps, and rounds: what a state has to save


@dataclasses.dataclass(frozen=True)
class Order:
    """The causal order of a simulation's events. Events that nothing is learned from are left out.

    Attributes:
      fingerprints: of each event and all before it, uint64 of shape (events,).
      numbers: of each event among all of the simulation's, from 1, int64 of shape (events,).
      learned: number of events to the first update.
      worthwhile: number of events after which enough has been learned to be worth saving a state.
      whole: fingerprint of all.
    """

    fingerprints: npt.NDArray[np.uint64]
    numbers: npt.NDArray[np.int64]
    learned: int
    worthwhile: int
    whole: str

    def common(self, other: "Order") -> int:
        """Returns the number of events that two orders begin with in common."""
        length = min(len(self.fingerprints), len(other.fingerprints))
        differ = np.flatnonzero(self.fingerprints[:length] != other.fingerprints[:length])
        return int(differ[0]) if len(differ) else length


def order_of(events: Iterable[Event]) -> Order | None:
    """Returns the causal order of events, None if they end in a deadlock."""
    causal = CausalHash()
    last, fingerprints, numbers = causal.digest(), [], []
    learned = rounds = steps = 0
    learned_from = []  # rounds and local steps up to each event
    try:
        for number, event in enumerate(events, 1):
            causal.add([event])
            if isinstance(event, Update):
                rounds += len(event.arrivals)
                steps = event.local_steps
            if (digest := causal.digest()) != last:
                last = digest
                fingerprints.append(int.from_bytes(digest[:8], "little"))
                numbers.append(number)
                learned_from.append((rounds, steps))
                if not learned and isinstance(event, Update):
                    learned = len(numbers)
    except NoProgressError:
        return None
    enough = _WORTHWHILE_ROUNDS, _WORTHWHILE_SHARE * steps
    worthwhile = 1 + sum(before[0] < enough[0] or before[1] < enough[1] for before in learned_from)
    return Order(np.array(fingerprints, np.uint64), np.array(numbers, np.int64), learned, worthwhile, last.hex())


@dataclasses.dataclass(frozen=True)
class _Source:
    """Common beginning of two simulations: index of the earlier one, and events in it and in the later one."""

    index: int
    there: int
    here: int


class Reuse:
    """Decides, for the simulations of a sweep in order, which training of earlier ones each reuses.

    Args:
      labels: of the simulations.
      settings: those that decide their training besides the order of events.
      orders: of their events; None if there is none, or if no other has the same settings. Without any, nothing is
        reused.
      room: bytes of the host's memory that states may take at a time.
    """

    def __init__(
        self,
        labels: Sequence[str] = (),
        settings: Sequence[str] = (),
        orders: Sequence[Order | None] = (),
        *,
        room: float = math.inf,
    ) -> None:
        self._room = room
        self._labels = labels
        self._whole: dict[int, int] = {}  # whose trajectory it is
        self._part: dict[int, _Source] = {}
        self._records: dict[int, RunRecord] = {}
        self._kept: dict[tuple[int, int], Checkpoint] = {}
        alike: dict[str, list[int]] = defaultdict(list)
        for index, order in enumerate(orders):
            if order is not None and order.learned:
                self._place(index, alike[settings[index]], orders)

    def _place(self, index: int, trained: list[int], orders: Sequence[Order | None]) -> None:
        """Finds the source of a simulation's training among the earlier ones with the same settings."""
        own = orders[index]
        assert own is not None
        longest, source = own.worthwhile - 1, None
        for other in trained:
            order = orders[other]
            assert order is not None
            if order.whole == own.whole:
                self._whole[index] = other
                return
            if (common := own.common(order)) > longest:
                longest, source = common, other
        trained.append(index)
        if source is not None:
            theirs = orders[source]
            assert theirs is not None
            self._part[index] = _Source(source, int(theirs.numbers[longest - 1]), int(own.numbers[longest - 1]))

    def source(self, index: int) -> tuple[int, bool] | None:
        """Returns the index of the earlier simulation whose training is reused and whether all of it is, or None."""
        if index in self._whole:
            return self._whole[index], True
        return (self._part[index].index, False) if index in self._part else None

    def groups(self, count: int) -> list[list[int]]:
        """Returns the groups of simulations that share training, in order; one that shares none is by itself.

        Args:
          count: number of simulations.
        """
        groups: dict[int, list[int]] = {}
        first: list[int] = []
        for index in range(count):
            source = self.source(index)
            first.append(index if source is None else first[source[0]])
            groups.setdefault(first[index], []).append(index)
        return list(groups.values())

    def share(self, index: int) -> SharedTraining:
        """Returns the training that a simulation reuses from those that are done, and the states to keep of it."""
        wanted = frozenset(part.there for part in self._part.values() if part.index == index)
        room = self._room - sum(map(state_bytes, self._kept.values()))  # with the one that it resumes from
        record = self._records.get(self._whole.get(index, -1))
        if record is not None:
            return SharedTraining(Trajectory(self._labels[self._whole[index]], record))
        part = self._part.pop(index, None)
        if part is None or (part.index, part.there) not in self._kept:
            return SharedTraining(wanted=wanted, room=room)
        kept = self._kept[part.index, part.there]
        if not any((each.index, each.there) == (part.index, part.there) for each in self._part.values()):
            del self._kept[part.index, part.there]
        return SharedTraining(
            None, Beginning(self._labels[part.index], dataclasses.replace(kept, events=part.here)), wanted, room
        )

    def simulated(
        self, count: int, simulate: Callable[[int, SharedTraining], RunRecord]
    ) -> Iterator[tuple[int, RunRecord | Exception]]:
        """Makes the simulations in order, each with the training that it reuses.

        Args:
          count: number of simulations.
          simulate: makes the one of an index.

        Yields:
          The index of each, and its record, or its error, which is none of the others'.
        """
        for index in range(count):
            share = self.share(index)
            try:
                record = simulate(index, share)
            except Exception as error:
                yield index, error
            else:
                self.done(index, record, share.kept)
                yield index, record

    def done(self, index: int, record: RunRecord, kept: Mapping[int, Checkpoint] | None = None) -> None:
        """Takes a simulation's record and states, for those that reuse its training.

        Args:
          index: of the simulation.
          record: of the simulation.
          kept: its states that were wanted.
        """
        if index in self._whole.values():
            self._records[index] = record
        for events, checkpoint in (kept or {}).items():
            self._kept[index, events] = checkpoint


def sharing(
    experiments: Sequence[Experiment],
    labels: Sequence[str],
    cache: Cache,
    stop: Callable[[], bool] = lambda: False,
) -> Reuse:
    """Returns the plan of the training that simulations share: those with the same learning settings are compared.

    Args:
      experiments: to simulate, in order.
      labels: their names in records.
      cache: theirs.
      stop: asked after every event of their timelines whether to stop.

    Raises:
      Stopped: it was asked to stop.
    """
    settings = [_settings(cache, experiment, f"of {index} alone") for index, experiment in enumerate(experiments)]
    orders: list[Order | None] = [None] * len(experiments)
    for index, experiment in enumerate(experiments):
        if settings.count(settings[index]) > 1:
            orders[index] = _order(cache, experiment, stop)
    return Reuse(labels, settings, orders, room=KEPT_OF_HOST * cache.host_bytes)


def groups_of(runs: Sequence[PlannedRun], cache: Cache, *, reuse: bool) -> list[list[int]]:
    """Returns the groups of points that share training: each is to be simulated by one process.

    Raises:
      ExperimentError: an experiment does not fit its data, model or optimizers.
    """
    if not reuse:
        return [[run.index] for run in runs]
    experiments = [experiment_of(run) for run in runs]
    return sharing(experiments, [run.label for run in runs], cache).groups(len(runs))


def _settings(cache: Cache, experiment: Experiment, unknown: str) -> str:
    """Returns the learning settings, or `unknown`: then the simulation itself says why it cannot begin."""
    try:
        setup = Setup(experiment, cache)
    except Exception:
        return unknown
    return setup.learning_settings


def _order(cache: Cache, experiment: Experiment, stop: Callable[[], bool]) -> Order | None:
    """Returns the order of an experiment's events, None where it depends on training, or its simulation will fail."""
    try:
        return order_of(_until(stop, Simulation(experiment, cache=cache).timeline))
    except Stopped:
        raise
    except Exception:
        return None


def _until(stop: Callable[[], bool], events: Iterable[_Event]) -> Iterator[_Event]:
    for event in events:
        if stop():
            raise Stopped(0)
        yield event
