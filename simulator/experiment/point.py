"""Simulations of an experiment file, and arguments that are some."""

import dataclasses
import html
import os
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from simulator.experiment.file import merge, tree_of
from simulator.experiment.problems import ExperimentError, Problem
from simulator.experiment.schema.experiment import Experiment
from simulator.experiment.sweep import Search
from simulator.host.text import visible


@dataclasses.dataclass(frozen=True)
class Point:
    """One simulation of a document.

    Attributes:
      variant: its name under `variants`, or the experiment's own name without any.
      overrides: settings of the sweep for this point: dotted path to value, or axis to the name of a value that has
        one.
      experiment: everything, resolved and checked. Where axes are searched, with the first value of each range.
      searches: the axes that are searched, by path; `at` gives them values.
      tuned: the values that a search has found, by path.
    """

    variant: str
    overrides: Mapping[str, Any]
    experiment: Experiment
    searches: Mapping[str, Search] = dataclasses.field(default_factory=dict)
    tuned: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def at(self, values: Mapping[str, Any]) -> "Point":
        """Returns the point with other settings, which its overrides name; nothing is searched any more.

        Args:
          values: dotted path to value.

        Raises:
          pydantic.ValidationError: the experiment takes no such value.
        """
        tree = merge(self.experiment.model_dump(mode="json"), tree_of(values))
        return Point(self.variant, {**self.overrides, **values}, Experiment.model_validate(tree))

    @property
    def label(self) -> str:
        """Label: the variant, and the sweep's settings."""
        return visible(", ".join([self.variant, *(f"{path}={value}" for path, value in self.overrides.items())]))

    def _repr_html_(self) -> str:
        """Shows the label and the experiment in a notebook."""
        return f"<b>{html.escape(self.label)}</b>{self.experiment._repr_html_()}"


Experiments: TypeAlias = Experiment | Point | Mapping[str, Experiment] | Iterable[Experiment | Point]


def points_of(experiments: Experiments) -> list[Point]:
    """Returns an experiment, a point, or several of these as points; names of a mapping become variants.

    Raises:
      ExperimentError: it is something else.
    """
    if isinstance(experiments, Point):
        return [experiments]
    if isinstance(experiments, Experiment):
        return [Point(experiments.variant or experiments.name, {}, experiments)]
    what = f"{type(experiments).__name__} is given"
    instead = "load(file) and build_experiment(...) return some"
    if isinstance(experiments, Mapping):
        if experiments and all(isinstance(each, Experiment) for each in experiments.values()):
            named = {str(name): each.model_copy(update={"variant": str(name)}) for name, each in experiments.items()}
            return [Point(name, {}, each) for name, each in named.items()]
        instead = "load(...) reads those of a mapping as a file has it, build_experiment(...) a single one"
    elif isinstance(experiments, str | os.PathLike):
        file = os.fspath(experiments)
        what, instead = f"{file!r} is given", f"load({file!r}) reads those of a file"
    elif isinstance(experiments, Iterable) and not isinstance(experiments, bytes):
        return [point for each in experiments for point in points_of(each)]
    raise ExperimentError([Problem("", f"{what}, and an experiment is needed: {instead}")])


def one_experiment(experiments: Experiments) -> Experiment:
    """Returns the only experiment that is given, as `one_point` does."""
    return experiments if isinstance(experiments, Experiment) else one_point(experiments).experiment


def one_point(experiments: Experiments) -> Point:
    """Returns the only experiment that is given, as a point.

    Raises:
      ExperimentError: there are several, or none, or it is something else.
    """
    points = points_of(experiments)
    if len(points) == 1:
        return points[0]
    several = "choose one of them, such as points[0], or simulate_all(points)"
    message = f"{len(points):,} are given: {several if points else 'load(file) returns those of a file'}"
    raise ExperimentError([Problem("", f"one experiment is needed, and {message}")])
