"""The `reference` of an experiment file: published results to compare with."""

import itertools
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Literal

import pydantic
from pydantic import Field

from simulator.experiment.file import Document
from simulator.experiment.messages import mistakes_of
from simulator.experiment.problems import Problem, nearest
from simulator.experiment.schema.section import Section
from simulator.experiment.schema.units import Arguments, Positive
from simulator.experiment.sweep import axes_of


class ReferenceRow(Section):
    """Published results of one sweep point."""

    at: Arguments = Field(
        {}, description="dotted path to value: the sweep points that this is about; {} is all", examples=[{"seed": 0}]
    )
    values: dict[str, Positive] = Field(
        description="name of a variant: what was published", examples=[{"barrier": 30.5}]
    )


class Reference(Section):
    """Published results: `tardigrad compare` and the end of `tardigrad run` lay one's own beside them."""

    source: str = Field(min_length=1, description="where they were published", examples=["Table 1"])
    metric: Literal["final_perplexity", "final_loss"] = Field("final_perplexity", description="what was measured")
    baseline: str = Field(description="the variant whose result all others are divided by", examples=["barrier"])
    results: tuple[ReferenceRow, ...] = Field((), description="of each sweep point")


def reference_of(document: Document) -> Reference | None:
    """Returns a document's reference, None where it has none or one with mistakes."""
    problems: list[Problem] = []
    reference = read_reference(document, problems)
    return None if problems else reference


def read_reference(document: Document, problems: list[Problem]) -> Reference | None:
    """Returns a document's reference, None if it has none or an unreadable one; adds its mistakes to `problems`."""
    content = document.tree.get("reference")
    if content is None:
        return None
    try:
        reference = Reference.model_validate(content)
    except pydantic.ValidationError as error:
        for key, message, value, _ in mistakes_of(error, content if isinstance(content, dict) else {}, Reference):
            problems.append(document.problem(("reference", *key), message, value))
        return None
    variants = document.tree.get("variants") or {document.tree.get("name"): {}}
    named: list[tuple[tuple[str, ...], str]] = [(("baseline",), reference.baseline)]
    for number, row in enumerate(reference.results):
        named += [(("results", str(number), "values", name), name) for name in row.values]
    for key, name in named:
        if isinstance(variants, dict) and name not in variants:
            problems.append(document.problem(("reference", *key), f"no such variant; {nearest(name, variants)}", name))
    if not any(key[:1] == ("sweep",) and place is None for key, place in document.lines.items()):
        problems.extend(_mistakes_of_points(document, reference))  # which need not follow the command line
    return reference


def _mistakes_of_points(document: Document, reference: Reference) -> Iterator[Problem]:
    """Yields the settings of published results that no sweep point has."""
    swept: defaultdict[str, list[Any]] = defaultdict(list)
    for setting in itertools.chain.from_iterable(axes_of(document, [])):  # whoever expands the document notes mistakes
        for path, value in setting.shown.items():
            swept[path].append(value)
    swept.pop("seed", None)  # over which results are averaged
    for number, row in enumerate(reference.results):
        for path, value in row.at.items():
            key = ("reference", "results", str(number), "at", path)
            if path not in swept:
                hint = nearest(path, swept) if swept else "there is no sweep"
                yield document.problem(key, f"the sweep sets no such path; {hint}", value)
            elif value not in swept[path]:
                values = ", ".join(map(repr, swept[path]))
                yield document.problem(key, f"the sweep has no such value; it has {values}", value)
