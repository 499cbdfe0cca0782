"""Cost of a sweep, estimated before it is simulated."""

import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
from pydantic import TypeAdapter, ValidationError
from rich.table import Table
from rich.text import Text

from simulator.experiment import Experiment, ExperimentError, Point, Problem, SimulationError
from simulator.experiment.schema.budget import Budget
from simulator.experiment.schema.experiment import Pretrain
from simulator.experiment.schema.inner import ConstantSchedule
from simulator.experiment.schema.offer_schedule import NamedSchedule, PeriodicSchedule
from simulator.experiment.schema.policies import AsynchronousSynchronization
from simulator.experiment.schema.units import Flops
from simulator.host.format import byte_count, count, duration, short_count
from simulator.host.signals import Stopped
from simulator.host.terminal_table import TerminalTable
from simulator.host.text import plural, visible
from simulator.learning import Cache, MemoryNeedError, Setup
from simulator.learning.model import tokens_per_step
from simulator.progress.observer import Progress
from simulator.simulation.simulate import simulate
from simulator.sweep.plan import PlannedRun, planned_runs, start_of
from simulator.sweep.reuse_plan import Reuse, sharing
from simulator.sweep.task import finished

_TIMELINE_S = 3.0  # of the host, at most for one point; nothing is said of one that takes longer
_MEASURED_FLOPS = {"cpu": 2e11}  # about 2 s of a CPU
_MEASURED_FLOPS_ELSEWHERE = 1e14
_UNLIKE = 4  # times as large: a local step of which the speed is measured too
_MOST_TIMES = 30  # multiple of it at most, if one local step takes more


@dataclasses.dataclass(frozen=True)
class PointCost:
    """Cost of a point.

    Attributes:
      run: the point.
      shares: training that it reuses: "all of" or "a part of" that of a point, by its number from 1; "" if none.
      local_steps: over all workers, None where they are not known.
      tokens: likewise.
      simulated_s: of the clock in the end, None where it is not known.
      clock_s: of the host, for the clock alone, where that takes long: then the numbers before are estimates. 0 where
        it does not, infinite where there is no server update in a moment.
      memory: bytes, an upper estimate; None where it is more than there is.
      flops: of training and evaluating, pretraining included where no point before it has the same; None where not
        known. Training reused in part is counted in full.
    """

    run: PlannedRun
    shares: str
    local_steps: int | None
    tokens: int | None
    simulated_s: float | None
    clock_s: float
    memory: float | None
    flops: float | None

    @property
    def is_long(self) -> bool:
        """Returns whether the clock alone takes long, so that it was not followed to the end."""
        return self.clock_s > 0


@dataclasses.dataclass(frozen=True)
class SweepCost:
    """Cost of a sweep.

    Attributes:
      points: each.
      flops_per_s: how fast it trains, None where that is not known.
      source: where that number comes from, or why there is none.
      step_s: seconds that a local step takes at least, however small it is.
    """

    points: Sequence[PointCost]
    flops_per_s: float | None
    source: str
    step_s: float = 0.0

    def host_s(self, point: PointCost) -> float | None:
        """Returns the host seconds of a point, None if they are not known."""
        clock_s = point.clock_s if math.isfinite(point.clock_s) else 0.0
        if point.shares.startswith("all"):
            return clock_s
        if point.flops is None or self.flops_per_s is None:
            return None
        return max(point.flops / self.flops_per_s, (point.local_steps or 0) * self.step_s, clock_s)

    def lines(self) -> Iterator[str]:
        """Yields the lines on all points together."""
        trained = [point for point in self.points if not point.shares.startswith("all")]
        steps = sum(point.local_steps or 0 for point in trained)
        tokens = sum(point.tokens or 0 for point in trained)
        yield f"\n{plural(len(self.points), 'point')}, {len(trained):,} to train in full or in part"
        shown = f"about {short_count(steps)}" if any(point.is_long for point in trained) else f"{steps:,}"
        yield f"to train: {shown} local steps, {short_count(tokens)} tokens{self._unknown(trained)}"
        flops = sum(point.flops or 0.0 for point in trained)
        if all(point.flops is None for point in self.points):
            yield "cost: not known"
        elif self.flops_per_s is None:
            yield f"cost: {_flop(flops)}; {self.source}"
        else:
            time_s = sum(self.host_s(point) or 0.0 for point in self.points)
            speed = f"{_flop(self.flops_per_s)}/s"
            yield f"cost: {_flop(flops)}, about {duration(time_s)} in all at {speed} ({self.source})"
        yield from self._long()
        yield "a dry run: nothing is written"

    def _long(self) -> Iterator[str]:
        """Yields the remedies for points that take long whatever is trained."""
        long = [point for point in self.points if point.is_long]
        if long:
            longest = max(long, key=lambda point: point.clock_s)
            takes = f"takes {duration(longest.clock_s)}"
            if not math.isfinite(longest.clock_s):
                takes = f"comes to no server update within {duration(_TIMELINE_S)}"
            remedy = "use a smaller budget, slower devices, a larger model, or fewer evaluations and faults"
            yield f"long: the clock alone {takes} for point {longest.run.index + 1}; {remedy}"

    @staticmethod
    def _unknown(trained: Sequence[PointCost]) -> str:
        unknown = sum(point.local_steps is None for point in trained)
        return f", besides {plural(unknown, 'point')} of which that is not known" if unknown else ""


def estimate(
    points: Sequence[Point],
    cache: Cache,
    flops_per_s: float | None = None,
    *,
    reuse: bool = True,
    folder: Path | None = None,
) -> SweepCost:
    """Returns the cost of points; of a point that trains, a short piece may be trained to measure the speed.

    Args:
      points: to simulate.
      cache: in which they were checked.
      flops_per_s: the speed of training; measured when absent.
      reuse: whether points reuse others' training.
      folder: in which they are to go on, if any: points that are finished there are left out.

    Raises:
      RecordError: a record there is damaged, or of another experiment.
    """
    runs, experiments = planned_runs(points), [point.experiment for point in points]
    plan = _plan(runs, experiments, cache) if reuse else Reuse()
    left = [run for run in runs if folder is None or finished(folder / run.folder, run.experiment) is None]
    started: set[str] = set()
    costs = [_cost(run, experiments[run.index], plan, cache, started) for run in left]
    if flops_per_s is not None:
        return SweepCost(costs, flops_per_s, "as stated")
    if not left:
        return SweepCost(costs, None, "nothing is left to run")
    return SweepCost(costs, *_measured(left, [experiments[run.index] for run in left], cache))


def _plan(runs: Sequence[PlannedRun], experiments: Sequence[Experiment], cache: Cache) -> Reuse:
    """Returns the training that points reuse from each other, nothing where it takes long to know."""
    until_s = time.monotonic() + _TIMELINE_S * len(runs)
    try:
        return sharing(experiments, [run.label for run in runs], cache, lambda: time.monotonic() > until_s)
    except Stopped:
        return Reuse()


def _cost(
    run: PlannedRun,
    experiment: Experiment,
    plan: Reuse,
    cache: Cache,
    started: set[str],
) -> PointCost:
    source = plan.source(run.index)
    shares = "" if source is None else f"{'all' if source[1] else 'a part'} of {source[0] + 1}"
    setup = Setup(experiment, cache)
    local_steps, tokens, simulated_s, evaluations, clock_s = _timeline(experiment, cache)
    flops = None
    if tokens is not None:
        flops = (
            tokens / tokens_per_step(experiment) * setup.costs.flops_per_step
            + _pretraining(run, experiment, cache, started)
            + evaluations * _evaluation(experiment, cache)
        )
    try:
        memory: float | None = setup.needs.total
    except MemoryNeedError:
        memory = None
    return PointCost(run, shares, local_steps, tokens, simulated_s, clock_s, memory, flops)


class _Furthest:
    """Keeps the latest progress of a simulation."""

    def __init__(self) -> None:
        self.progress: Progress | None = None

    def pretrained(self, steps: int, of: int, loss: float) -> None:
        """Ignores pretraining: nothing is trained."""

    def advanced(self, progress: Progress) -> None:
        """Keeps the progress after a server update."""
        self.progress = progress


def _timeline(experiment: Experiment, cache: Cache) -> tuple[int | None, int | None, float | None, int, float]:
    """Returns local steps, tokens, simulated time, evaluations, and the host's time for a clock that takes long.

    Of such a clock the first three follow from how far it has come in a moment, None where they are not known; the
    evaluations are those at the start and at the end.
    """
    begun_s, furthest = time.monotonic(), _Furthest()
    try:
        record = simulate(
            experiment,
            trainer="null",
            cache=cache,
            observer=furthest,
            stop=lambda: time.monotonic() > begun_s + _TIMELINE_S,
        )
    except Stopped:
        reached = furthest.progress
        if reached is None or reached.fraction == 0:
            return *_of_budget(experiment), None, 2, math.inf
        done = reached.fraction
        steps, tokens = round(reached.local_steps / done), round(reached.tokens / done)
        return steps, tokens, reached.simulated_s / done, 2, (time.monotonic() - begun_s) / done
    except SimulationError:
        return None, None, None, 0, 0.0
    steps, tokens, simulated_s = (record.summary[key] for key in ("local_steps", "tokens", "simulated_seconds"))
    return int(steps), int(tokens), float(simulated_s), len(record.evaluations), 0.0


def _of_budget(experiment: Experiment) -> tuple[int | None, int | None]:
    """Returns the local steps of the budget, and their tokens where workers do as many; None without such a budget."""
    steps, workers = experiment.budget.local_steps, experiment.cluster.workers
    if steps is None:
        return None, None
    batches = sum(experiment.inner.first_micro_batches(worker) for worker in range(workers)) / workers
    return steps, round(steps * batches * tokens_per_step(experiment))


def _evaluation(experiment: Experiment, cache: Cache) -> float:
    """Returns the operations of an evaluation: a forward pass, which is a third of a training step's, per window."""
    setup = Setup(experiment, cache)
    of_all, of_shards = setup.evaluation.windows, setup.evaluation.known_shard_windows
    return (of_all + sum(of_shards or ())) * setup.model.train_flops(1) / 3


def _pretraining(run: PlannedRun, experiment: Experiment, cache: Cache, started: set[str]) -> float:
    """Returns the operations of pretraining, none where a point before has the same start."""
    start = start_of(run)
    if start in started or not experiment.pretrain.steps:
        return 0.0
    started.add(start)
    batch_size = experiment.pretrain.batch_size or experiment.inner.micro_batch
    model = Setup(experiment, cache).model
    return experiment.pretrain.steps * (model.train_flops(batch_size) + model.repeated_flops(batch_size))


def _measured(
    runs: Sequence[PlannedRun], experiments: Sequence[Experiment], cache: Cache
) -> tuple[float | None, str, float]:
    """Returns the speed in FLOP/s where a local step is largest, of which point that is, and a local step's least time.

    That is the time of the smallest one, where it is much smaller: then it takes longer than its operations do.
    """
    sizes = [Setup(experiment, cache).costs.flops_per_step for experiment in experiments]
    largest, smallest = sizes.index(max(sizes)), sizes.index(min(sizes))
    of_largest = _steps_per_s(experiments[largest], sizes[largest], cache)
    if of_largest is None:
        message = "a local step takes long here: say how fast training is with --rate, such as --rate 20TFLOP/s"
        return None, message, 0.0
    source, step_s = f"measured on a moment of {visible(runs[largest].label)}", 0.0
    if sizes[largest] > _UNLIKE * sizes[smallest]:
        of_smallest = _steps_per_s(experiments[smallest], sizes[smallest], cache)
        if of_smallest is not None:
            source, step_s = f"{source}, and of {visible(runs[smallest].label)}", 1 / of_smallest
    return of_largest * sizes[largest], source, step_s


def _steps_per_s(experiment: Experiment, flops_per_step: float, cache: Cache) -> float | None:
    """Returns the local steps per second of an experiment, from a moment; None if a moment does not suffice."""
    enough = _MEASURED_FLOPS.get(jax.default_backend(), _MEASURED_FLOPS_ELSEWHERE)
    rounds = 2 * Setup(experiment, cache).lanes
    steps = int(min(experiment.inner.local_steps, max(1, enough / flops_per_step / rounds)))
    if steps * rounds * flops_per_step > _MOST_TIMES * enough:
        return None
    piece = _piece(experiment, steps, rounds)
    simulate(piece, cache=cache)  # compiles
    record = simulate(piece, cache=cache)
    return float(record.summary["tokens_per_host_second"] / tokens_per_step(experiment))


def _piece(experiment: Experiment, local_steps: int, rounds: int) -> Experiment:
    """Returns a short simulation with the same compiled rounds."""
    rate = ConstantSchedule(kind="constant")
    changes = {
        "inner": experiment.inner.model_copy(
            update={"local_steps": local_steps, "schedule": rate, "micro_batches": None}
        ),
        "schedule": PeriodicSchedule() if isinstance(experiment.schedule, NamedSchedule) else experiment.schedule,
        "cluster": experiment.cluster.model_copy(update={"faults": None}),
        "synchronization": AsynchronousSynchronization(kind="asynchronous"),
        "pretrain": Pretrain(),
        "budget": Budget(server_updates=rounds),
        "evaluate": experiment.evaluate.model_copy(
            update={
                "every_local_steps": None,
                "every_simulated": None,
                "windows": 1,
                "batch_size": 1,
                "per_shard": False,
            }
        ),
    }
    return experiment.model_copy(update=changes)


def read_rate(text: str | None) -> float | None:
    """Returns a speed that was stated, in FLOP/s.

    Raises:
      ExperimentError: it is none.
    """
    if text is None:
        return None
    try:
        rate: float = TypeAdapter(Flops).validate_python(text)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ExperimentError([Problem("--rate", message, text)]) from error
    return rate


def estimate_table(cost: SweepCost) -> Table:
    """Returns a row per point."""
    table = TerminalTable(keys=2)
    table.add_numbers("")
    table.add_words("point")
    table.add_words("takes\nover")
    for header in ("local\nsteps", "tokens", "simulated\ntime", "memory,\nat most", "cost"):
        table.add_numbers(header)
    for point in cost.points:
        table.add_row(
            str(point.run.index + 1),
            Text(visible(point.run.label)),
            Text(point.shares),
            f"~{short_count(point.local_steps)}" if point.is_long and point.flops else count(point.local_steps),
            short_count(point.tokens),
            duration(point.simulated_s),
            "too much" if point.memory is None else byte_count(point.memory),
            _host_time(point, cost),
        )
    return table


def _flop(number: float) -> str:
    """Returns a number of operations with its prefix: "3 GFLOP", "950 FLOP"."""
    text = short_count(number)
    return f"{text}FLOP" if text[-1].isalpha() else f"{text} FLOP"


def _host_time(point: PointCost, cost: SweepCost) -> str:
    if point.flops is not None and cost.flops_per_s is None:
        return _flop(point.flops)
    return duration(cost.host_s(point))
