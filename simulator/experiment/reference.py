"""The `reference` of an experiment file: published results to lay beside one's own."""

from collections.abc import Iterator
from typing import Any, Literal

import pydantic
from pydantic import Field

from simulator.experiment.base import Section
from simulator.experiment.document import Document
from simulator.experiment.explain import explain
from simulator.experiment.problems import Problem, nearest
from simulator.experiment.schema import Experiment
from simulator.experiment.units import Arguments, Positive


class ReferenceRow(Section):
    """What was published of one sweep point."""

    at: Arguments = Field({}, description="dotted path to value: the sweep points that this is about; {} is all")
    values: dict[str, Positive] = Field(description="name of a variant: what was published")


class Reference(Section):
    """Published results: `tardigrad compare` and the end of `tardigrad run` lay one's own beside them."""

    source: str = Field(min_length=1, description="where they were published")
    metric: Literal["final_perplexity", "final_loss"] = "final_perplexity"
    baseline: str = Field(description="the variant whose result all others are divided by")
    results: tuple[ReferenceRow, ...] = ()


def reference_of(document: Document) -> Reference | None:
    """Returns a document's reference, None where it has none or one with mistakes."""
    content = document.tree.get("reference")
    if content is None or any(mistakes_of_reference(document)):
        return None
    return Reference.model_validate(content)


def mistakes_of_reference(document: Document) -> Iterator[Problem]:
    """Yields what is wrong with a document's reference."""
    content = document.tree.get("reference")
    if content is None:
        return
    try:
        reference = Reference.model_validate(content)
    except pydantic.ValidationError as error:
        for key, message, value, _ in explain(error, content if isinstance(content, dict) else {}, Reference):
            yield document.problem(("reference", *key), message, value)
        return
    variants = document.tree.get("variants") or {document.tree.get("name"): {}}
    named: list[tuple[tuple[str, ...], str]] = [(("baseline",), reference.baseline)]
    for number, row in enumerate(reference.results):
        named += [(("results", str(number), "values", name), name) for name in row.values]
    for key, name in named:
        if isinstance(variants, dict) and name not in variants:
            yield document.problem(("reference", *key), f"no such variant; {nearest(name, variants)}", name)
    if not any(key[0] == "sweep" for key in document.edits):  # which the published results are not expected to follow
        yield from _mistakes_of_points(document, reference)


def _mistakes_of_points(document: Document, reference: Reference) -> Iterator[Problem]:
    """Yields the settings of published results that no sweep point has."""
    swept = _swept(document.tree.get("sweep"))
    for number, row in enumerate(reference.results):
        for path, value in row.at.items():
            key = ("reference", "results", str(number), "at", path)
            if path not in swept:
                hint = nearest(path, swept) if swept else "there is no sweep"
                yield document.problem(key, f"the sweep sets no such path; {hint}", value)
            elif value not in swept[path]:
                values = ", ".join(map(repr, swept[path]))
                yield document.problem(key, f"the sweep has no such value; it has {values}", value)


def _swept(sweep: Any) -> dict[str, list[Any]]:
    """Returns the values of every path that a sweep sets, but of the seed, over which results are averaged."""
    found: dict[str, list[Any]] = {}
    for axis, values in sweep.items() if isinstance(sweep, dict) else ():
        for value in values if isinstance(values, list) else ():
            zipped = isinstance(value, dict) and axis.split(".")[0] not in Experiment.model_fields
            for path, setting in value.items() if zipped else ((axis, value),):
                found.setdefault(str(path), []).append(setting)
    found.pop("seed", None)
    return found
