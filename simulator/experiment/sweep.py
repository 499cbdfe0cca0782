"""The `sweep` of an experiment file: axes with listed values, axes that are searched, and points that are alike."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import pydantic
from pydantic import Field

from simulator.experiment.file import DISCRIMINATORS, Document, Tree, on_command_line
from simulator.experiment.messages import mistakes_of
from simulator.experiment.problems import Problem, nearest
from simulator.experiment.schema.experiment import Experiment
from simulator.experiment.schema.section import Conflicts, Section
from simulator.experiment.schema.units import NonNegativeInt, Number, PositiveInt
from simulator.experiment.yaml_text import Key
from simulator.host.mappings import lookup

TRIALS = 12
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

    @property
    def axis(self) -> str:
        """Dotted key of its axis."""
        return ".".join(self.origin[:2])


def axes_of(document: Document, problems: list[Problem]) -> list[list[Setting]]:
    """Returns the settings along every axis whose values are listed; adds invalid axes to `problems`."""
    sweep = {} if document.tree.get("sweep") is None else document.tree["sweep"]
    if not isinstance(sweep, dict):
        message = "expected a mapping from a dotted path to a list of values, such as {seed: [0, 1, 2]}"
        problems.append(document.problem(("sweep",), message, sweep))
        return []
    axes = []
    for name, values in sweep.items():
        key = ("sweep", name)
        if _is_search(values):
            continue
        if not isinstance(values, list | dict) or not values:
            problems.append(document.problem(key, "expected a list of at least one value", values))
            continue
        named = values if isinstance(values, dict) else {str(place): value for place, value in enumerate(values)}
        by_name = named is values
        words = {name}.union(*(value for value in named.values() if isinstance(value, dict)))
        refused = next((message for word, message in _NOT_SWEPT.items() if word in words), None)
        if refused is not None:
            problems.append(document.problem(key, refused))
        elif not by_name and name.split(".")[0] in Experiment.model_fields:
            axes.append([Setting((*key, place), {name: each}, {name: each}) for place, each in named.items()])
        elif all(isinstance(value, dict) for value in named.values()):  # zipped: each sets several paths together
            axes.append(
                [Setting((*key, place), each, {name: place} if by_name else each) for place, each in named.items()]
            )
        else:
            hint = nearest(name.split(".")[0], Experiment.model_fields)
            message = f"an axis is a path of the experiment ({hint}), or a list of mappings from paths to values, "
            problems.append(document.problem(key, message + "or such mappings by name"))
    return axes


class Search(Section):
    """Search of an axis, for every variant and every point of the other axes on its own.

    All seeds of a point have the value that was best on one seed.
    """

    search: Literal["log", "linear", "integer", "choice"] = Field(
        description="between low and high, on this scale; or one of values"
    )
    low: Number | None = Field(None, description="smallest value", examples=[0.001])
    high: Number | None = Field(None, description="largest value", examples=[0.1])
    values: tuple[Any, ...] | None = Field(None, description="of a choice", examples=[[0.01, 0.03]])
    trials: PositiveInt = Field(TRIALS, description="how many values are tried")
    seed: NonNegativeInt | None = Field(
        None, description="of the trials; the experiment's, or the first that is swept, if absent", examples=[0]
    )

    def _conflicts(self) -> Conflicts:
        low, high = self.low, self.high
        if self.search == "choice":
            if not self.values:
                yield "values", "a choice needs a list of at least one value"
            elif any(isinstance(value, Mapping | list | tuple) for value in self.values):
                yield "values", "expected numbers, texts, true or false: mappings are listed, not searched"
            elif low is not None or high is not None:
                yield "search", "a choice has values, and neither low nor high"
        elif self.values is not None:
            yield "values", f"belongs to a choice: leave it out, or write search: choice (not {self.search})"
        elif low is None or high is None:
            missing = [name for name in ("low", "high") if getattr(self, name) is None]
            yield from ((name, "is missing: a search needs low and high") for name in missing)
        elif low >= high:
            yield "high", f"must be above low, which is {low:g}"
        elif self.search == "log" and low <= 0:
            yield "low", "must be above 0 on a logarithmic scale"
        elif self.search == "integer" and not (low.is_integer() and high.is_integer()):
            yield "search", "low and high of an integer must be whole numbers"

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that have to be valid for all to be: the least and the largest, or every choice."""
        if self.values is not None:
            return self.values
        assert self.low is not None
        assert self.high is not None
        return (int(self.low), int(self.high)) if self.search == "integer" else (self.low, self.high)


def _is_search(values: Any) -> bool:
    return isinstance(values, Mapping) and "search" in values and not isinstance(values["search"], Mapping)


def searches_of(document: Document, problems: list[Problem]) -> dict[str, Search]:
    """Returns the searched axes of a document's sweep, by path; adds invalid ones to `problems`."""
    sweep = document.tree.get("sweep")
    found: dict[str, Search] = {}
    for path, values in (sweep if isinstance(sweep, dict) else {}).items():
        if not _is_search(values):
            continue
        key, section = ("sweep", path), path.split(".")[0]
        if section not in Experiment.model_fields:
            hint = nearest(section, Experiment.model_fields)
            problems.append(document.problem(key, f"only a path of the experiment can be searched ({hint})"))
            continue
        if section in ("seed", "variant", "scale", "name"):
            problems.append(document.problem(key, "cannot be searched: search what a method depends on"))
            continue
        overwriting = _overwriting(document, path)
        if overwriting is not None:
            value = document.overrides[overwriting]
            instead = f"set sweep.{path}=[{value}]" if overwriting == path else f"change sweep.{path}"
            message = f"has no effect, as {path} is searched: {instead} instead"
            problems.append(on_command_line(overwriting, message, value))
            continue
        try:
            found[path] = Search.model_validate(values)
        except pydantic.ValidationError as error:
            for mistake in mistakes_of(error, values, Search):
                at = (*key, *mistake.key)
                where = at if at in document.lines else key
                problems.append(document.problem(where, mistake.message, mistake.value, shown=".".join(at)))
    if len({(search.trials, search.seed) for search in found.values()}) > 1:
        message = "axes that are searched are searched together: give all the same trials and seed"
        problems.append(document.problem(("sweep", list(found)[-1]), message))
    return found


def axes_without_effect(document: Document, settings: Sequence[Setting], tree: Tree) -> Iterator[Problem]:
    """Yields the axes whose value another overwrites, of a point with one setting of each axis, and with its tree."""
    for place, setting in enumerate(settings):
        for path, value in setting.values.items():
            if path not in setting.shown or holds(path, value, tree) or _overwriting(document, path) is not None:
                continue
            later = (each for each in settings[place + 1 :] if any(_sets(*item, path) for item in each.values.items()))
            other = next((each.axis for each in later), "another axis")
            message = f"has no effect, as {other} overwrites {path}: leave one of them out"
            yield document.problem(setting.origin[:2], message)


def holds(path: str, value: Any, tree: Tree) -> bool:
    """Returns whether a point has the value that an axis has set; parts of a mapping may be set anew."""
    return isinstance(value, Mapping) or lookup(tree, path.split(".")) == value


def experiment_key(experiment: Experiment) -> str:
    """Returns a hashable key of an experiment."""
    return json.dumps(experiment.model_dump(mode="json"), sort_keys=True)


def same_run(document: Document, settings: Sequence[Setting], others: Sequence[Setting]) -> list[Problem]:
    """Returns that the settings of two points make one run, and why; nothing if it is one point."""
    for own, other in zip(settings, others, strict=True):
        if own.origin == other.origin:
            continue
        for path in own.values:
            key = _overwriting(document, path)
            if key is not None:
                value = document.overrides[key]
                instead = f"set {own.axis}=[{value}]" if key == path == own.origin[1] else f"change {own.axis}"
                message = f"makes one run of all values of {own.axis}: {instead} instead"
                return [on_command_line(key, message, value)]
        value = next(iter(own.values.values())) if len(own.values) == 1 else None
        message = f"makes the same run as {'.'.join(other.origin)}: leave one of them out"
        return [document.problem(own.origin, message, value)]
    return []


def _overwriting(document: Document, path: str) -> str | None:
    """Returns the setting of the command line that overwrites a path."""
    return next((key for key, value in document.overrides.items() if _sets(key, value, path)), None)


def _sets(key: str, value: Any, path: str) -> bool:
    """Returns whether setting a key sets a path too, or replaces the mapping that it is in."""
    around, _, last = key.rpartition(".")
    replaced = last in DISCRIMINATORS and path.startswith(f"{around}.")
    return path == key or replaced or (path.startswith(f"{key}.") and isinstance(value, Mapping))
