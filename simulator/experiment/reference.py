"""The `reference` of an experiment file: published results to lay beside one's own."""

from collections.abc import Iterator
from typing import Any, Literal

import pydantic
from pydantic import Field

from simulator.experiment.base import Section
from simulator.experiment.document import Document
from simulator.experiment.explain import explain
from simulator.experiment.problems import Problem, nearest
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
    variants: Any = document.tree.get("variants") or {}
    if not isinstance(variants, dict):
        return
    named: list[tuple[tuple[str, ...], str]] = [(("baseline",), reference.baseline)]
    named += [
        (("results", str(row), "values", name), name)
        for row, each in enumerate(reference.results)
        for name in each.values
    ]
    for key, name in named:
        if name not in variants:
            yield document.problem(("reference", *key), f"no such variant; {nearest(name, variants)}", name)
