"""Points of a sweep that would be one run under several names, or whose names would not be true."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from simulator.experiment.file import DISCRIMINATORS, Document, Tree
from simulator.experiment.problems import Problem
from simulator.experiment.schema.experiment import Experiment
from simulator.experiment.sweep_axes import Setting
from simulator.host.mappings import lookup


def axes_without_effect(document: Document, settings: Sequence[Setting], tree: Tree) -> Iterator[Problem]:
    """Yields the axes of a point whose value another axis overwrites.

    Args:
      document: whose sweep it is.
      settings: of the point, one of each axis.
      tree: the point's experiment as a file has it.
    """
    for place, setting in enumerate(settings):
        for path, value in setting.values.items():
            if path not in setting.shown or holds(path, value, tree) or _on_command_line(document, path) is not None:
                continue
            later = (each for each in settings[place + 1 :] if any(_sets(*item, path) for item in each.values.items()))
            other = next((_axis(each) for each in later), "another axis")
            message = f"has no effect, as {other} overwrites {path}: leave one of them out"
            yield document.problem(setting.origin[:2], message)


def holds(path: str, value: Any, tree: Tree) -> bool:
    """Returns whether a point has the value that an axis has set; parts of a mapping may be set anew."""
    return isinstance(value, Mapping) or lookup(tree, path.split(".")) == value


class Seen:
    """The points so far, by their experiments."""

    def __init__(self) -> None:
        self._settings: dict[str, Sequence[Setting]] = {}

    def problems(self, document: Document, experiment: Experiment, settings: Sequence[Setting]) -> Iterator[Problem]:
        """Adds a point; yields a mistake if its variant has one with the same experiment already.

        Args:
          document: whose sweep it is.
          experiment: of the point.
          settings: likewise, one of each axis.
        """
        first = self._settings.setdefault(experiment_key(experiment), settings)
        for own, other in zip(settings, first, strict=True):
            if own.origin != other.origin:
                yield _same_run(document, own, other)
                return


def experiment_key(experiment: Experiment) -> str:
    """Returns a hashable key of an experiment."""
    return json.dumps(experiment.model_dump(mode="json"), sort_keys=True)


def _same_run(document: Document, own: Setting, other: Setting) -> Problem:
    """Returns that two values of an axis make one run, and why."""
    for path in own.values:
        key = _on_command_line(document, path)
        if key is not None:
            value = document.overrides[key]
            instead = f"set {_axis(own)}=[{value}]" if key == path == own.origin[1] else f"change {_axis(own)}"
            message = f"makes one run of all values of {_axis(own)}: {instead} instead (set on the command line)"
            return Problem(key, message, value)
    value = next(iter(own.values.values())) if len(own.values) == 1 else None
    return document.problem(own.origin, f"makes the same run as {'.'.join(other.origin)}: leave one of them out", value)


def _on_command_line(document: Document, path: str) -> str | None:
    """Returns the setting of the command line that overwrites a path, None if there is none."""
    return next((key for key, value in document.overrides.items() if _sets(key, value, path)), None)


def _axis(setting: Setting) -> str:
    return ".".join(setting.origin[:2])


def _sets(key: str, value: Any, path: str) -> bool:
    """Returns whether setting a key sets a path too, or replaces the mapping that it is in."""
    around, _, last = key.rpartition(".")
    replaced = last in DISCRIMINATORS and path.startswith(f"{around}.")
    return path == key or replaced or (path.startswith(f"{key}.") and isinstance(value, Mapping))
