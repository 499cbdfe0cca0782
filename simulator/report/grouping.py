"""Which runs belong together in a figure or a table: repeats of a variant at one sweep point, whatever their seed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulator.record import RunRecord
from simulator.visible import visible


class ReportError(ValueError):
    """A figure or table that cannot be made from the given records; the message says which and why."""


@dataclass(frozen=True)
class Group:
    """Runs that differ by no more than their seed.

    Attributes:
        label: What to call them: the variant, and the sweep point's overrides when there are any.
        records: At least one, in the order given.
    """

    label: str
    records: tuple[RunRecord, ...]


def sweep_point(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the run's overrides without the seed."""
    return {key: value for key, value in summary["overrides"].items() if key != "seed"}


def sweep_point_key(summary: Mapping[str, Any]) -> str:
    """Returns the run's overrides without the seed as something to compare and to hash."""
    return json.dumps(sweep_point(summary), sort_keys=True, default=str)


def sweep_point_labels(summary: Mapping[str, Any]) -> list[str]:
    """Returns name=value for each override but the seed, named by the last part of its path where that is clear."""
    point = sweep_point(summary)
    last = [key.rsplit(".", 1)[-1] for key in point]
    names = [short if last.count(short) == 1 else key for key, short in zip(point, last, strict=True)]
    return [one_line(f"{name}={value}") for name, value in zip(names, point.values(), strict=True)]


def group_records(records: Sequence[RunRecord]) -> list[Group]:
    """Returns the runs grouped by experiment, variant and sweep point, in order of first appearance.

    Raises:
        ReportError: If there are none.
    """
    if not records:
        raise ReportError("no records given: read some with read_runs, or simulate an experiment")
    several = len({record.experiment["name"] for record in records}) > 1
    members: dict[tuple[str, str, str], list[RunRecord]] = {}
    for record in records:
        key = (record.experiment["name"], record.summary["variant"], sweep_point_key(record.summary))
        members.setdefault(key, []).append(record)
    return [Group(_label(group[0], with_experiment=several), tuple(group)) for group in members.values()]


def _label(record: RunRecord, *, with_experiment: bool) -> str:
    variant = one_line(record.summary["variant"])
    experiment = one_line(record.experiment["name"])
    name = variant or experiment
    if with_experiment and variant:
        name = f"{experiment}: {variant}"
    return ", ".join(part for part in (name, *sweep_point_labels(record.summary)) if part)


def one_line(text: str) -> str:
    """Returns the text with every run of white space, line breaks included, as one space, and nothing invisible."""
    return visible(" ".join(text.split()))
