"""Arguments that are experiments or points; anything else is refused with the remedy."""

import os
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from simulator.experiment.expand import Point
from simulator.experiment.problems import ExperimentError, Problem
from simulator.experiment.schema.experiment import Experiment

Simulated: TypeAlias = Experiment | Point | Mapping[str, Experiment] | Iterable[Experiment | Point]


def points_of(given: Simulated) -> list[Point]:
    """Returns the given experiments as points; names of a mapping become variants.

    Args:
      given: an experiment, a point, a mapping from names to experiments, or several of these.

    Raises:
      ExperimentError: it is something else.
    """
    if isinstance(given, Point):
        return [given]
    if isinstance(given, Experiment):
        return [Point(given.variant or given.name, {}, given)]
    if isinstance(given, Mapping) and given and all(isinstance(each, Experiment) for each in given.values()):
        named = {str(name): each.model_copy(update={"variant": str(name)}) for name, each in given.items()}
        return [Point(name, {}, each) for name, each in named.items()]
    if isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping):
        return [point for each in given for point in points_of(each)]
    raise ExperimentError([Problem("", f"{_what(given)}, and an experiment is needed: {_instead(given)}")])


def one_experiment(given: Simulated) -> Experiment:
    """Returns the only experiment that is given, as `one_point` does."""
    return given if isinstance(given, Experiment) else one_point(given).experiment


def one_point(given: Simulated) -> Point:
    """Returns the only experiment that is given, as a point.

    Raises:
      ExperimentError: there are several, or none, or it is something else.
    """
    points = points_of(given)
    if len(points) == 1:
        return points[0]
    several = "choose one of them, such as points[0], or simulate_all(points)"
    message = f"{len(points):,} are given: {several if points else 'load(file) returns those of a file'}"
    raise ExperimentError([Problem("", f"one experiment is needed, and {message}")])


def _what(given: Any) -> str:
    return (
        f"{os.fspath(given)!r} is given" if isinstance(given, str | os.PathLike) else f"{type(given).__name__} is given"
    )


def _instead(given: Any) -> str:
    if isinstance(given, str | os.PathLike):
        return f"load({os.fspath(given)!r}) reads those of a file"
    if isinstance(given, Mapping):
        return "load(...) reads those of a mapping as a file has it, build_experiment(...) a single one"
    return "load(file) and build_experiment(...) return some"
