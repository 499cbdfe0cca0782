"""The `sweep` of an experiment file: its axes, and the settings of each of their values."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from simulator.experiment.file import Document
from simulator.experiment.problems import Problem, nearest
from simulator.experiment.schema.experiment import Experiment
from simulator.experiment.search import is_search
from simulator.experiment.yaml_text import Key

_NOT_SWEPT = {
    "variant": "variants are not swept: every one of them meets every point",
    "scale": "scales are not swept: choose one with scale=NAME",
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """One value of a sweep axis.

    Attributes:
      origin: where it was written.
      values: the settings, by path.
      shown: its name in records: the axis and the value's name where it has one, else `values`.
    """

    origin: Key
    values: Mapping[str, Any]
    shown: Mapping[str, Any]


def axes_of(document: Document, problems: list[Problem]) -> list[list[Setting]]:
    """Returns the settings along every axis of a document's sweep; adds invalid axes to `problems`.

    Axes that are searched are not among them.
    """
    sweep = {} if document.tree.get("sweep") is None else document.tree["sweep"]
    if not isinstance(sweep, dict):
        message = "expected a mapping from a dotted path to a list of values, such as {seed: [0, 1, 2]}"
        problems.append(document.problem(("sweep",), message, sweep))
        return []
    axes = []
    for name, values in sweep.items():
        key = ("sweep", name)
        if is_search(values):
            continue
        if not isinstance(values, list | dict) or not values:
            problems.append(document.problem(key, "expected a list of at least one value", values))
            continue
        each = list(values.values() if isinstance(values, dict) else values)
        origins: list[Key] = [
            (*key, str(place)) for place in (values if isinstance(values, dict) else range(len(values)))
        ]
        names = {name}.union(*(value for value in each if isinstance(value, dict)))
        refused = next((message for word, message in _NOT_SWEPT.items() if word in names), None)
        if refused is not None:
            problems.append(document.problem(key, refused))
        elif isinstance(values, list) and name.split(".")[0] in Experiment.model_fields:
            axes.append(
                [Setting(origin, {name: value}, {name: value}) for origin, value in zip(origins, each, strict=True)]
            )
        elif all(isinstance(value, dict) for value in each):  # zipped: each element sets several paths together
            axes.append([_zipped(name, values, origin, value) for origin, value in zip(origins, each, strict=True)])
        else:
            hint = nearest(name.split(".")[0], Experiment.model_fields)
            message = f"an axis is a path of the experiment ({hint}), or a list of mappings from paths to values, "
            problems.append(document.problem(key, message + "or such mappings by name"))
    return axes


def _zipped(name: str, values: object, origin: Key, value: Mapping[str, Any]) -> Setting:
    paths = {str(path): setting for path, setting in value.items()}
    return Setting(origin, paths, {name: origin[-1]} if isinstance(values, dict) else paths)
