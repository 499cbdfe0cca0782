"""Experiments made, varied, simulated and compared in Python."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from simulator.experiment import (
    Document,
    Experiment,
    ExperimentError,
    Experiments,
    Point,
    Problem,
    expand,
    load,
    one_experiment,
    points_of,
)
from simulator.experiment.file import merge, plain_tree, tree_of
from simulator.experiment.paths import anchor_files
from simulator.experiment.sweep import experiment_key
from simulator.progress.trackers import Tracker

if TYPE_CHECKING:
    from simulator.report.runs import Runs


def build_experiment(base: Experiment | Point | Mapping[str, Any] | None = None, /, **settings: Any) -> Experiment:
    """Returns an experiment from its sections, with the checks and messages of an experiment file.

    Args:
      base: an experiment or a point, or a mapping as a file has it, over which the settings are laid as a variant is.
      **settings: sections by name, such as `outer={"optimizer": "sgd", "learning_rate": 1.0}`, or single settings by
        dotted path, as `**{"inner.local_steps": 20}`. The name defaults to "experiment".

    Raises:
      ExperimentError: with every mistake that was found.

    Example:
      >>> from simulator import build_experiment
      >>> experiment = build_experiment(
      ...     model={"kind": "transformer", "layers": 1, "width": 16, "heads": 2, "context": 16},
      ...     data={"source": "synthetic", "vocabulary": 16, "tokens": 20_000, "validation_tokens": 2_000, "shards": 2},
      ...     cluster={"devices": {"seconds_per_step": [1, "2s"]}},
      ...     inner={"optimizer": "sgd", "learning_rate": 0.1, "batch_size": 4, "local_steps": 5},
      ...     synchronization={"kind": "barrier"},
      ...     outer={"optimizer": "sgd", "learning_rate": 1.0},
      ...     budget={"local_steps": 40},
      ... )
      >>> build_experiment(experiment, **{"inner.local_steps": 10}).inner.local_steps
      10
    """
    tree = plain_tree(base or {}) if base is None or isinstance(base, Mapping) else _tree(one_experiment(base))
    tree = merge(tree, tree_of(settings, plain_tree))
    points = load({"name": "experiment"} | tree)
    if len(points) > 1:
        message = "this describes several experiments: load(...) returns all of them"
        raise ExperimentError([Problem("", f"{message}: {', '.join(point.label for point in points)}")])
    return points[0].experiment


def vary(experiments: Experiments, axes: Mapping[str, Any] | None = None, /, **more: Any) -> list[Point]:
    """Returns the points of a sweep over one or several experiments, as a file's `sweep` makes them.

    Args:
      experiments: an experiment, points (as `load` returns them), or experiments by the names of their variants.
      axes: all combined: a dotted path with its values, or any name with mappings from dotted paths to values, in a
        list or each by a name of its own.
      **more: further axes, as `seed=range(3)`.

    Returns:
      Every experiment at every point, experiments outermost.

    Raises:
      ExperimentError: with every mistake that was found.

    Example:
      >>> from simulator import load, vary
      >>> points = vary(load("experiments/quickstart.yaml", variant="sync DiLoCo"), {"inner.local_steps": [25, 50]})
      >>> [point.label for point in points]
      ['sync DiLoCo, inner.local_steps=25', 'sync DiLoCo, inner.local_steps=50']
    """
    sweep = plain_tree({**(axes or {}), **more})
    anchored = anchor_files({"sweep": sweep}, Path())
    varied: list[Point] = []
    problems: list[Problem] = []
    sources: dict[str, Point] = {}
    for point in _settled(points_of(experiments)):
        document = Document(None, _tree(point.experiment) | anchored | {"variant": point.variant})
        try:
            found = expand(document, searched=False)
        except ExperimentError as error:
            problems += error.problems
            continue
        for each in found:
            first = sources.setdefault(experiment_key(each.experiment), point)
            if first.experiment != point.experiment:
                message = f"makes one run of {first.label!r} and {point.label!r}: leave out what these were varied in"
                problems.append(Problem(f"sweep.{', sweep.'.join(sweep)}", message))
            overrides = {**point.overrides, **each.overrides}
            varied.append(Point(point.variant, overrides, each.experiment, tuned=point.tuned))
    if problems:
        raise ExperimentError(problems)
    return varied


def simulate_all(
    experiments: Experiments,
    *,
    trainer: Literal["batched", "serial", "null"] | None = None,
    cache: Any = None,
    reuse: bool = True,
    progress: bool = True,
    trackers: Sequence[Tracker] = (),
) -> "Runs":
    """Simulates experiments one after another; data, programs and training that they share are made once.

    Args:
      experiments: as `vary` takes them, or its result.
      trainer: "batched", "serial", or "null" for the timelines alone; the experiments' own choice when None.
      cache: a `Cache`, shares data, compiled programs and pretraining with other simulations.
      reuse: whether to reuse the training of a simulation with the same order of events.
      progress: draws a bar for each, in terminals and in notebooks.
      trackers: notified of every simulation, see `TensorBoard` and `WeightsAndBiases`.

    Returns:
      The records, in order.

    Raises:
      ExperimentError: with all that is wrong with any of them; nothing has been simulated then.
      PointsFailedError: some of several failed; the error has the records of the others. A single one's error is raised
        itself.
    """
    from simulator.report.runs import Runs  # here and below: varying experiments loads no JAX
    from simulator.sweep.outcomes import Failure, PointsFailedError
    from simulator.sweep.plan import names_of, planned_runs
    from simulator.sweep.progress import PointViews
    from simulator.sweep.reuse_plan import Reuse, sharing
    from simulator.sweep.task import simulate_point

    points = _settled(points_of(experiments))
    cache = _checked(points, cache, data=trainer != "null")
    planned, names = planned_runs(points), names_of(points)
    runs, failures = Runs(), list[tuple[Failure, Exception]]()
    with _view(len(points), progress) as view:
        views = PointViews(view, [1.0] * len(points)) if view else None
        simulated = [point.experiment for point in points]
        shared = reuse and trainer is None
        plan = sharing(simulated, [point.label for point in points], cache) if shared else Reuse()

        def record_of(index: int, share: Any) -> Any:
            how = {"trainer": trainer, "cache": cache, "share": share}
            observer = views.of(planned[index]) if views else None
            return simulate_point(points[index], names[index], observer, trackers, **how)

        for index, result in plan.simulated(len(points), record_of):
            if views:
                views.close(planned[index], failed=isinstance(result, Exception))
            if not isinstance(result, Exception):
                runs.append(result)
            elif len(points) == 1:
                raise result
            else:  # whatever it is, it is this point's
                failures.append((Failure.of(planned[index], result), result))
    if failures:
        raise PointsFailedError([failure for failure, _ in failures], runs) from failures[0][1]
    return runs


def _settled(points: list[Point]) -> list[Point]:
    """Returns the points, which have no searched axes.

    Raises:
      ExperimentError: an axis is searched.
    """
    searched = dict.fromkeys(path for point in points for path in point.searches)
    if searched:
        message = "is searched, so it has no value yet: `run_points` searches"
        raise ExperimentError([Problem(f"sweep.{path}", message) for path in searched])
    return points


def _checked(points: Sequence[Point], cache: Any, *, data: bool) -> Any:
    """Checks every experiment; returns the cache, a new one if none is given."""
    from simulator.learning import Cache
    from simulator.progress.live import PreparationView
    from simulator.simulation.checks import Shortages, check

    with PreparationView(Console(stderr=True)) as shown:
        cache = cache or Cache(shown)
        problems, shortages = [], Shortages(cache)
        for point in points:
            found = check(point.experiment, cache, data=data, memory=False, train=data)
            problems += found
            if data and not found:
                shortages.look(point.experiment)
        problems += shortages.problems()
    if problems:
        raise ExperimentError(problems)
    return cache


@contextlib.contextmanager
def _view(runs: int, progress: bool) -> Iterator[Any]:
    from simulator.progress.live import LiveView

    if not progress:
        yield None
        return
    with LiveView(Console(stderr=True), runs) as view:
        yield view


def _tree(experiment: Experiment) -> dict[str, Any]:
    """Returns an experiment as a file has it."""
    return experiment.model_dump(mode="json", exclude_unset=True)
