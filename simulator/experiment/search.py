"""Axes of a sweep whose value is searched instead of listed."""

from collections.abc import Mapping
from typing import Any, Literal

import pydantic
from pydantic import Field, model_validator

from simulator.experiment.file import Document
from simulator.experiment.messages import explain
from simulator.experiment.problems import Problem, nearest
from simulator.experiment.schema.experiment import Experiment
from simulator.experiment.schema.section import ConflictError, Section
from simulator.experiment.schema.units import NonNegativeInt, Number, PositiveInt

TRIALS = 12
_SEED = "seed"


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

    @model_validator(mode="after")
    def _range_or_values(self) -> "Search":
        if self.search == "choice":
            if not self.values:
                raise ConflictError(("values", "a choice needs a list of at least one value"))
            if any(isinstance(value, Mapping | list | tuple) for value in self.values):
                raise ConflictError(
                    ("values", "expected numbers, texts, true or false: mappings are listed, not searched")
                )
            if self.low is not None or self.high is not None:
                raise ConflictError(("search", "a choice has values, and neither low nor high"))
            return self
        if self.values is not None:
            raise ConflictError(
                ("values", f"belongs to a choice: leave it out, or write search: choice (not {self.search})")
            )
        missing = [name for name in ("low", "high") if getattr(self, name) is None]
        if missing:
            raise ConflictError(*((name, "is missing: a search needs low and high") for name in missing))
        assert self.low is not None
        assert self.high is not None
        if self.low >= self.high:
            raise ConflictError(("high", f"must be above low, which is {self.low:g}"))
        if self.search == "log" and self.low <= 0:
            raise ConflictError(("low", "must be above 0 on a logarithmic scale"))
        if self.search == "integer" and not (self.low.is_integer() and self.high.is_integer()):
            raise ConflictError(("search", "low and high of an integer must be whole numbers"))
        return self

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that have to be valid for all to be: the least and the largest, or every choice."""
        if self.values is not None:
            return self.values
        assert self.low is not None
        assert self.high is not None
        return (int(self.low), int(self.high)) if self.search == "integer" else (self.low, self.high)


def is_search(values: Any) -> bool:
    """Returns whether an axis is one that is searched."""
    return isinstance(values, Mapping) and "search" in values and not isinstance(values["search"], Mapping)


def searches_of(document: Document, problems: list[Problem]) -> dict[str, Search]:
    """Returns the searched axes of a document's sweep, by path; adds invalid ones to `problems`."""
    sweep = document.tree.get("sweep")
    found: dict[str, Search] = {}
    for path, values in (sweep if isinstance(sweep, dict) else {}).items():
        if not is_search(values):
            continue
        key = ("sweep", path)
        if path.split(".")[0] not in Experiment.model_fields:
            hint = nearest(path.split(".")[0], Experiment.model_fields)
            problems.append(document.problem(key, f"only a path of the experiment can be searched ({hint})"))
            continue
        if path.split(".")[0] in (_SEED, "variant", "scale", "name"):
            problems.append(document.problem(key, "cannot be searched: search what a method depends on"))
            continue
        try:
            found[path] = Search.model_validate(values)
        except pydantic.ValidationError as error:
            for mistake in explain(error, values, Search):
                at = (*key, *mistake.key)
                where = at if at in document.lines else key
                problems.append(document.problem(where, mistake.message, mistake.value, shown=".".join(at)))
    if len({(search.trials, search.seed) for search in found.values()}) > 1:
        message = "axes that are searched are searched together: give all the same trials and seed"
        problems.append(document.problem(("sweep", list(found)[-1]), message))
    return found
