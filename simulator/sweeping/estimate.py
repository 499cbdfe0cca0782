"""What a sweep is going to cost, before it is simulated."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from simulator.engine import simulate
from simulator.experiment import Experiment, ExperimentError, Problem, SimulationError
from simulator.experiment.policies_schema import AsynchronousSynchronization
from simulator.experiment.schema import Budget, ConstantSchedule, Pretrain
from simulator.learning import MemoryNeedError, Workshop
from simulator.learning.modeling import tokens_per_step
from simulator.report.format import byte_count, count, duration, short_count
from simulator.reuse import Reuse
from simulator.sharing import sharing
from simulator.stopping import Stopped
from simulator.sweeping.plan import PlannedRun, planned_runs, start_of
from simulator.visible import plural, visible

if TYPE_CHECKING:
    from rich.table import Table

    from simulator.experiment import Point

_TIMELINE_S = 3.0  # of the host, at most for one point; nothing is said of one that takes longer
_MEASURED_FLOPS = {"cpu": 2e11}  # about 2 s of a CPU
_MEASURED_FLOPS_ELSEWHERE = 1e14
_MOST_TIMES = 30  # so many times that much at most, where one local step takes more


@dataclasses.dataclass(frozen=True)
class PointCost:
    """What a point costs.

    Attributes:
      run: the point.
      shares: what it takes over: "all of" or "a part of" the training of a point, by its number from 1; "" if nothing.
      local_steps: over all workers, None where they are not known.
      tokens: likewise.
      simulated_s: of the clock in the end, None where that takes long to know.
      memory: bytes, an upper estimate; None where it is more than there is.
      flops: of training and evaluating, pretraining included where no point before it has the same; None where not
        known. What is taken over in part is counted in full.
    """

    run: PlannedRun
    shares: str
    local_steps: int | None
    tokens: int | None
    simulated_s: float | None
    memory: float | None
    flops: float | None


@dataclasses.dataclass(frozen=True)
class SweepCost:
    """What a sweep costs.

    Attributes:
      points: each.
      flops_per_s: how fast it trains, None where that is not known.
      source: where that number comes from, or why there is none.
    """

    points: Sequence[PointCost]
    flops_per_s: float | None
    source: str

    def lines(self) -> Iterator[str]:
        """Yields what there is to say of all points together."""
        trained = [point for point in self.points if not point.shares.startswith("all")]
        steps = [point.local_steps for point in trained if point.local_steps is not None]
        tokens = sum(point.tokens or 0 for point in trained)
        yield f"\n{plural(len(self.points), 'point')}, {len(trained):,} to train in full or in part"
        yield f"to train: {sum(steps):,} local steps, {short_count(tokens)} tokens{self._unknown(trained)}"
        flops = sum(point.flops or 0.0 for point in trained)
        if self.flops_per_s is None:
            yield f"cost: {_flop(flops)}; {self.source}"
        else:
            time_s = flops / self.flops_per_s
            speed = f"{_flop(self.flops_per_s)}/s"
            yield f"cost: {_flop(flops)}, about {duration(time_s)} in all at {speed} ({self.source})"
        yield "a dry run: nothing is written"

    @staticmethod
    def _unknown(trained: Sequence[PointCost]) -> str:
        unknown = sum(point.local_steps is None for point in trained)
        return f", besides {plural(unknown, 'point')} whose timeline takes long" if unknown else ""


def estimate(
    points: "Sequence[Point]", workshop: Workshop, flops_per_s: float | None = None, *, reuse: bool = True
) -> SweepCost:
    """Returns what points are going to cost; of a point that trains, a short piece may be trained to measure the speed.

    Args:
      points: what is to be simulated.
      workshop: in which they were looked at.
      flops_per_s: the speed of training; measured when absent.
      reuse: whether points take over what others have trained.
    """
    runs, experiments = planned_runs(points), [point.experiment for point in points]
    plan = sharing(experiments, [run.label for run in runs], workshop) if reuse else Reuse()
    started: set[str] = set()
    costs = [_cost(run, experiment, plan, workshop, started) for run, experiment in zip(runs, experiments, strict=True)]
    source = "as stated"
    if flops_per_s is None:
        flops_per_s, source = _measured(runs, experiments, workshop)
    return SweepCost(costs, flops_per_s, source)


def _cost(
    run: PlannedRun,
    experiment: Experiment,
    plan: Reuse,
    workshop: Workshop,
    started: set[str],
) -> PointCost:
    source = plan.source(run.index)
    shares = "" if source is None else f"{'all' if source[1] else 'a part'} of {source[0] + 1}"
    local_steps, simulated_s, evaluations = _timeline(experiment, workshop)
    flops = None
    if local_steps is not None:
        flops = (
            local_steps * workshop.costs(experiment).flops_per_step
            + _pretraining(run, experiment, workshop, started)
            + evaluations * _evaluation(experiment, workshop)
        )
    try:
        memory: float | None = workshop.needs(experiment).total
    except MemoryNeedError:
        memory = None
    tokens = None if local_steps is None else local_steps * tokens_per_step(experiment)
    return PointCost(run, shares, local_steps, tokens, simulated_s, memory, flops)


def _timeline(experiment: Experiment, workshop: Workshop) -> tuple[int | None, float | None, int]:
    """Returns local steps, simulated time and evaluations, None where it takes long to know or nobody makes progress.

    Of a timeline that takes long, the evaluations are those at the start and at the end.
    """
    until_s = time.monotonic() + _TIMELINE_S
    try:
        record = simulate(experiment, trainer="null", workshop=workshop, stop=lambda: time.monotonic() > until_s)
    except Stopped:
        return experiment.budget.local_steps, None, 2
    except SimulationError:
        return None, None, 0
    summary = record.summary
    return int(summary["local_steps"]), float(summary["simulated_seconds"]), len(record.evaluations)


def _evaluation(experiment: Experiment, workshop: Workshop) -> float:
    """Returns the operations of an evaluation: a forward pass, which is a third of a training step's, per window."""
    of_all, of_shards = workshop.evaluated_windows(experiment)
    return (of_all + sum(of_shards or ())) * workshop.model(experiment).train_flops(1) / 3


def _pretraining(run: PlannedRun, experiment: Experiment, workshop: Workshop, started: set[str]) -> float:
    """Returns the operations of pretraining, none where a point before has the same start."""
    start = start_of(run)
    if start in started or not experiment.pretrain.steps:
        return 0.0
    started.add(start)
    batch_size = experiment.pretrain.batch_size or experiment.inner.batch_size
    return experiment.pretrain.steps * workshop.model(experiment).train_flops(batch_size)


def _measured(
    runs: Sequence[PlannedRun], experiments: Sequence[Experiment], workshop: Workshop
) -> tuple[float | None, str]:
    """Returns the speed of the point whose local step is the largest, in FLOP/s, trained for a moment."""
    import jax

    index = max(range(len(runs)), key=lambda each: workshop.costs(experiments[each]).flops_per_step)
    experiment, flops_per_step = experiments[index], workshop.costs(experiments[index]).flops_per_step
    enough = _MEASURED_FLOPS.get(jax.default_backend(), _MEASURED_FLOPS_ELSEWHERE)
    rounds = 2 * workshop.lanes(experiment)
    steps = int(min(experiment.inner.local_steps, max(1, enough / flops_per_step / rounds)))
    if steps * rounds * flops_per_step > _MOST_TIMES * enough:
        return None, "a local step takes long here: say how fast training is with --rate, such as --rate 20TFLOP/s"
    piece = _piece(experiment, steps, rounds)
    simulate(piece, workshop=workshop)  # compiles
    record = simulate(piece, workshop=workshop)
    steps_per_s = record.summary["tokens_per_host_second"] / tokens_per_step(experiment)
    return steps_per_s * flops_per_step, f"measured on a moment of {visible(runs[index].label)}"


def _piece(experiment: Experiment, local_steps: int, rounds: int) -> Experiment:
    """Returns a short simulation with the same compiled rounds."""
    schedule = ConstantSchedule(kind="constant")
    changes = {
        "inner": experiment.inner.model_copy(update={"local_steps": local_steps, "schedule": schedule}),
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
    from pydantic import TypeAdapter, ValidationError

    from simulator.experiment.units import Flops

    if text is None:
        return None
    try:
        rate: float = TypeAdapter(Flops).validate_python(text)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ExperimentError([Problem("--rate", message, text)]) from error
    return rate


def estimate_table(cost: SweepCost) -> "Table":
    """Returns a row per point."""
    from rich.text import Text

    from simulator.report.tables import new_table

    table = new_table(None, None)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("point", overflow="fold", min_width=12)
    table.add_column("takes\nover", overflow="fold")
    for header in ("local\nsteps", "tokens", "simulated\ntime", "memory,\nat most", "cost"):
        table.add_column(header, justify="right", no_wrap=True)
    for point in cost.points:
        table.add_row(
            str(point.run.index + 1),
            Text(visible(point.run.label)),
            Text(point.shares),
            count(point.local_steps),
            short_count(point.tokens),
            duration(point.simulated_s),
            "too much" if point.memory is None else byte_count(point.memory),
            _host_time(point, cost.flops_per_s),
        )
    return table


def _flop(number: float) -> str:
    """Returns a number of operations with its prefix: "3 GFLOP", "950 FLOP"."""
    text = short_count(number)
    return f"{text}FLOP" if text[-1].isalpha() else f"{text} FLOP"


def _host_time(point: PointCost, flops_per_s: float | None) -> str:
    if point.flops is None:
        return duration(None)
    if flops_per_s is None:
        return _flop(point.flops)
    return duration(0.0 if point.shares.startswith("all") else point.flops / flops_per_s)
