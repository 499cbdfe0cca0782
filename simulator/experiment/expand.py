"""From a document to the simulations that it describes: variants times sweep points, each one checked."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pydantic

from simulator.experiment.document import Document, Key, Tree, load_document, merge, nested
from simulator.experiment.explain import explain
from simulator.experiment.problems import ExperimentError, Problem, nearest
from simulator.experiment.schema import Experiment

_DOCUMENT_ONLY = ("variants", "sweep", "extends")


@dataclasses.dataclass(frozen=True)
class Point:
    """One simulation of a document.

    Attributes:
      variant: its name under `variants`, or the experiment's own name where there are none.
      overrides: what the sweep set for this point, dotted path to value.
      experiment: everything, resolved and checked.
    """

    variant: str
    overrides: Mapping[str, Any]
    experiment: Experiment


@dataclasses.dataclass(frozen=True)
class _Setting:
    """One value of a sweep axis: where it was written, and what it sets."""

    origin: Key
    values: Mapping[str, Any]


def load(path: str | Path, *overrides: str, variant: str | None = None) -> list[Point]:
    """Reads an experiment file and returns its simulations.

    Args:
      path: the YAML file.
      *overrides: settings of the form `key.path=value`.
      variant: only this one of the file's variants.

    Raises:
      ExperimentError: with every mistake that was found.
    """
    return expand(load_document(path, overrides), variant=variant)


def expand(document: Document, *, variant: str | None = None) -> list[Point]:
    """Returns every variant at every sweep point, in the order of the file (variants outermost).

    Raises:
      ExperimentError: with every mistake of every variant and point, each reported once.
    """
    base = {key: value for key, value in document.tree.items() if key not in _DOCUMENT_ONLY}
    problems: list[Problem] = []
    variants = _variants(document, problems)
    if variant is not None and variant not in variants:
        problem = Problem("--variant", nearest(variant, variants), variant, document.path)
        raise ExperimentError([*problems, problem])
    axes = _axes(document, problems)
    points = []
    for name, change in variants.items():
        if variant is not None and name != variant:
            continue
        for settings in itertools.product(*axes):
            point = _point(document, base, name, change, settings, problems)
            if point is not None:
                points.append(point)
    if problems:
        raise ExperimentError(sorted(problems, key=lambda problem: (str(problem.file), problem.line or 0)))
    return points


def _variants(document: Document, problems: list[Problem]) -> Mapping[str, Tree]:
    variants = document.tree.get("variants", {})
    if not isinstance(variants, dict) or not all(isinstance(change, dict) for change in variants.values()):
        message = "expected a mapping from each variant's name to what it changes"
        problems.append(document.problem(("variants",), message, variants))
        return {}
    for name, change in variants.items():
        for key in change:
            if key in _DOCUMENT_ONLY or key in ("name", "variant"):
                message = "cannot be set by a variant: move it to the top level"
                problems.append(document.problem(("variants", name, key), message))
    if not variants:
        return {str(document.tree.get("name", "")): {}}
    return {name: {k: v for k, v in change.items() if k not in _DOCUMENT_ONLY} for name, change in variants.items()}


def _axes(document: Document, problems: list[Problem]) -> list[list[_Setting]]:
    sweep = document.tree.get("sweep", {})
    if not isinstance(sweep, dict):
        message = "expected a mapping from a dotted path to a list of values, such as {seed: [0, 1, 2]}"
        problems.append(document.problem(("sweep",), message, sweep))
        return []
    axes = []
    for name, values in sweep.items():
        key = ("sweep", name)
        if not isinstance(values, list) or not values:
            problems.append(document.problem(key, "expected a list of at least one value", values))
        elif name.split(".")[0] in Experiment.model_fields:
            axes.append([_Setting((*key, str(i)), {name: value}) for i, value in enumerate(values)])
        elif all(isinstance(value, dict) for value in values):  # zipped: each element sets several paths together
            axes.append([_Setting((*key, str(i)), _paths(value)) for i, value in enumerate(values)])
        else:
            hint = nearest(name.split(".")[0], Experiment.model_fields)
            message = f"an axis is a path of the experiment ({hint}), or a list of mappings from paths to values"
            problems.append(document.problem(key, message))
    return axes


def _paths(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return {str(path): setting for path, setting in value.items()}


def _point(
    document: Document,
    base: Tree,
    name: str,
    change: Tree,
    settings: tuple[_Setting, ...],
    problems: list[Problem],
) -> Point | None:
    tree = merge(base, change)
    overrides: dict[str, Any] = {}
    for setting in settings:
        overrides |= setting.values
    for path, value in [*overrides.items(), *document.overrides.items()]:
        tree = merge(tree, nested(tuple(path.split(".")), value))
    tree["variant"] = name
    try:
        return Point(name, overrides, Experiment.model_validate(tree))
    except pydantic.ValidationError as error:
        for key, message, value in explain(error, tree, Experiment):
            problems.append(_place(document, name, settings, key, message, value))
        return None


def _place(
    document: Document, variant: str, settings: tuple[_Setting, ...], key: Key, message: str, value: Any
) -> Problem:
    """Attributes a mistake at `key` to where its value was written: command line, sweep, variant or base."""
    dotted = ".".join(key)
    for path in document.overrides:
        if _covers(path, dotted):
            return Problem(dotted, f"{message} (set on the command line)", value)
    for setting in settings:
        for path in setting.values:
            if _covers(path, dotted):
                return document.problem(setting.origin, message, value, shown=dotted)
    for candidate in _ancestors(key):
        if ("variants", variant, *candidate) in document.lines:
            return document.problem(("variants", variant, *candidate), message, value, f"variants.{variant}.{dotted}")
        if candidate in document.lines:
            return document.problem(candidate, message, value, shown=dotted)
    return Problem(dotted, message, value, document.path)


def _covers(path: str, dotted: str) -> bool:
    return dotted == path or dotted.startswith(f"{path}.")


def _ancestors(key: Key) -> Iterator[Key]:
    return (key[:end] for end in range(len(key), 0, -1))
