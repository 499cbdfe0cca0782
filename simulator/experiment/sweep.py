"""The `sweep` of an experiment file: its axes, and what each of their values sets."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from simulator.experiment.document import Document
from simulator.experiment.problems import Problem, nearest
from simulator.experiment.schema import Experiment
from simulator.experiment.yaml_text import Key

_NOT_SWEPT = {
    "variant": "variants are not swept: every one of them meets every point",
    "scale": "scales are not swept: choose one with scale=NAME",
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """One value of a sweep axis: where it was written, and what it sets."""

    origin: Key
    values: Mapping[str, Any]


def axes_of(document: Document, problems: list[Problem]) -> list[list[Setting]]:
    """Returns the settings along every axis of a document's sweep, and notes the axes that are not valid."""
    sweep = {} if document.tree.get("sweep") is None else document.tree["sweep"]
    if not isinstance(sweep, dict):
        message = "expected a mapping from a dotted path to a list of values, such as {seed: [0, 1, 2]}"
        problems.append(document.problem(("sweep",), message, sweep))
        return []
    axes = []
    for name, values in sweep.items():
        key = ("sweep", name)
        if not isinstance(values, list) or not values:
            problems.append(document.problem(key, "expected a list of at least one value", values))
            continue
        names = {name}.union(*(value for value in values if isinstance(value, dict)))
        refused = next((message for word, message in _NOT_SWEPT.items() if word in names), None)
        if refused is not None:
            problems.append(document.problem(key, refused))
        elif name.split(".")[0] in Experiment.model_fields:
            axes.append([Setting((*key, str(i)), {name: value}) for i, value in enumerate(values)])
        elif all(isinstance(value, dict) for value in values):  # zipped: each element sets several paths together
            axes.append([Setting((*key, str(i)), _paths(value)) for i, value in enumerate(values)])
        else:
            hint = nearest(name.split(".")[0], Experiment.model_fields)
            message = f"an axis is a path of the experiment ({hint}), or a list of mappings from paths to values"
            problems.append(document.problem(key, message))
    return axes


def _paths(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return {str(path): setting for path, setting in value.items()}
