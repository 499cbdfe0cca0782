"""Comparison of results' settings with those of an experiment file."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pydantic

from simulator.experiment import Document, Experiment, ExperimentError, expand, registry
from simulator.experiment.problems import nearest
from simulator.host.text import plural
from simulator.record import Result, settings_of

_SHOWN = 5  # settings, and runs, in a message


AsUsed = Callable[[Experiment], Mapping[str, Any]]


def other_settings(document: Document, results: Sequence[Result], as_used: AsUsed) -> Iterator[str]:
    """Yields the settings in which runs differ from a file's simulations at the same sweep point, seeds aside.

    Args:
      document: the file as read, without mistakes.
      results: of runs; of some the experiment may not be known.
      as_used: from an experiment to all its settings, those that a file leaves to defaults too.
    """
    file = document.path or "the file"
    expected: dict[str, Experiment | str] = {}
    alike: dict[str, list[str]] = {}
    unknown = 0
    for result in results:
        summary = result.summary
        if not result.experiment["name"]:
            unknown += 1
            continue
        swept = {axis: value for axis, value in summary["overrides"].items() if axis != "seed"}
        label = ", ".join([summary["variant"], *(f"{axis}={value}" for axis, value in swept.items())])
        swept |= summary.get("tuned") or {}
        point = json.dumps([summary["variant"], swept], default=str)
        if point not in expected:
            expected[point] = _expected(document, summary["variant"], swept)
        found = expected[point]
        if isinstance(found, Experiment):
            found = "; ".join(_differences(result, found, as_used))
        if found:
            runs = alike.setdefault(found, [])
            runs += [label] if label not in runs else []
    for difference, labels in alike.items():
        more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
        yield f"{'; '.join(labels[:_SHOWN])}{more}: made with other settings than {file} has: {difference}"
    if unknown:
        of = plural(unknown, "run")
        yield f"of {of} there are summaries alone, which do not say whether the settings are those of {file}"


def _expected(document: Document, variant: str, swept: Mapping[str, Any]) -> Experiment | str:
    """Returns the experiment that a file describes at a sweep point, or why there is none."""
    axes = document.tree.get("sweep") or {}
    sweep: dict[str, Any] = {}
    for axis, value in swept.items():
        values = axes.get(axis) if isinstance(axes, Mapping) else None
        if isinstance(values, Mapping) and "search" not in values:
            if value not in values:
                return f"sweep.{axis} has no value {value!r}; {nearest(value, map(str, values))}"
            sweep[axis] = {value: values[value]}
        elif axis.split(".")[0] in Experiment.model_fields:
            sweep[axis] = [value]
        else:
            return f"the sweep has no axis {axis!r}; {nearest(axis, axes) if axes else 'there is no sweep'}"
    tree = {key: each for key, each in document.tree.items() if key not in ("sweep", "select", "reference")}
    try:
        with registry.any_name():  # what a plugin registers need not be registered here
            [point] = expand(dataclasses.replace(document, tree=tree | {"sweep": sweep}), variant=variant)
    except ExperimentError as error:
        return f"there is no such simulation: {error.problems[0]}"
    return point.experiment


def _differences(result: Result, expected: Experiment, as_used: AsUsed) -> Iterator[str]:
    """Yields the settings in which a run differs from the expected ones, the first of many."""
    settings = result.experiment
    try:
        with registry.any_name():
            settings = as_used(Experiment.model_validate(settings))
    except pydantic.ValidationError:
        pass  # of another version: compared as it was written
    theirs, ours = settings_of(settings, result.summary), settings_of(as_used(expected), result.summary)
    keys = [key for key in dict.fromkeys([*ours, *theirs]) if _plain(theirs.get(key)) != _plain(ours.get(key))]
    for key in keys[:_SHOWN]:
        yield f"{key} is {_shown(theirs.get(key))}, there {_shown(ours.get(key))}"
    if len(keys) > _SHOWN:
        yield f"and {len(keys) - _SHOWN} more"


def _plain(value: Any) -> Any:
    """Returns a value as a record on disk has it."""
    return json.loads(json.dumps(value, default=str))


def _shown(value: Any) -> str:
    return "absent" if value is None else repr(value)
