"""Which runs belong together in a figure or a table: repeats of a variant at one sweep point, or what keys tell."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from simulator.record import RunRecord
from simulator.report.keys import ABSENT, KeyValue, ReportError, in_order, key_values, one_line

_SAID_ALONE = ("name", "variant")  # whose values say enough without the key


@dataclass(frozen=True)
class Group:
    """Runs that are taken together.

    Attributes:
        label: What to call them, no two groups alike: the variant, and the sweep point's overrides when there are any;
            or the values of the keys that were asked for.
        records: At least one, in the order given.
        keys: What tells the group from others: key to value.
    """

    label: str
    records: tuple[RunRecord, ...]
    keys: Mapping[str, KeyValue]


def sweep_point(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the run's overrides without the seed."""
    return {key: value for key, value in summary["overrides"].items() if key != "seed"}


def sweep_point_key(summary: Mapping[str, Any]) -> str:
    """Returns the run's overrides without the seed as something to compare and to hash."""
    return json.dumps(sweep_point(summary), sort_keys=True, default=str)


def sweep_point_labels(summary: Mapping[str, Any]) -> list[str]:
    """Returns name=value for each override but the seed, named by the last part of its path where that is clear."""
    point = sweep_point(summary)
    return [one_line(f"{name}={value}") for name, value in zip(short_names(list(point)), point.values(), strict=True)]


def short_names(keys: Sequence[str]) -> list[str]:
    """Returns the last part of each dotted key where it is clear among them, else the whole key."""
    last = [key.rsplit(".", 1)[-1] for key in keys]
    return [short if last.count(short) == 1 else key for key, short in zip(keys, last, strict=True)]


def group_records(records: Sequence[RunRecord], by: Sequence[str] | None = None) -> list[Group]:
    """Returns runs in groups.

    Args:
        records: The runs.
        by: Keys whose values tell groups apart: dotted paths of the resolved experiment, names of a sweep's axes, or
            keys of the summary. Runs that agree in all of them make one group, whatever else they differ in. When
            absent, runs that differ by their seed alone make one: experiment, variant and sweep point tell them apart.

    Returns:
        In order of first appearance; of keys that were asked for and are numbers, in ascending order.

    Raises:
        ReportError: If there are no records, or none has a key that was asked for.
    """
    if not records:
        raise ReportError("no records given: read some with read_runs, or simulate an experiment")
    return _distinct(_by_default(records) if by is None else _by_keys(records, by))


def each_run(groups: Sequence[Group]) -> list[Group]:
    """Returns a group of its own for every run, told apart by the seed too."""
    alone = []
    for group in groups:
        for record, seed in zip(group.records, key_values(group.records, "seed"), strict=True):
            label = group.label if "seed" in group.keys else f"{group.label}, seed={seed.shown}"
            alone.append(Group(label, (record,), {**group.keys, "seed": seed}))
    return _distinct(alone)


def with_keys(table: pd.DataFrame, groups: Sequence[Group]) -> pd.DataFrame:
    """Returns the table with the groups' keys as columns behind its column `group`.

    A key that the table already has a column for is called `group.KEY`.
    """
    names = list(dict.fromkeys(key for group in groups for key in group.keys))
    for place, name in enumerate(names, start=1):
        values = {group.label: group.keys.get(name, ABSENT).value for group in groups}
        column = f"group.{name}" if name in table.columns else name
        table.insert(place, column, table["group"].map(values))
    return table


def _by_default(records: Sequence[RunRecord]) -> list[Group]:
    several = len({record.experiment["name"] for record in records}) > 1
    members: dict[tuple[str, str, str], list[RunRecord]] = {}
    for record in records:
        key = (record.experiment["name"], record.summary["variant"], sweep_point_key(record.summary))
        members.setdefault(key, []).append(record)
    groups = []
    for group in members.values():
        names = ["name"] * several + ["variant", *sweep_point(group[0].summary)]
        keys = {name: key_values(group[:1], name)[0] for name in names if _has(group[0], name)}
        groups.append(Group(_label(group[0], with_experiment=several), tuple(group), keys))
    return groups


def _has(record: RunRecord, name: str) -> bool:
    return name in ("name", "variant") or record.summary["overrides"].get(name) is not None


def _by_keys(records: Sequence[RunRecord], by: Sequence[str]) -> list[Group]:
    columns = {key: key_values(records, key) for key in by}
    places = {}
    for key, values in columns.items():
        order = {json.dumps(value.value): place for place, value in enumerate(in_order(values))}
        places[key] = [order[json.dumps(value.value)] for value in values]
    members: dict[tuple[int, ...], list[int]] = {}
    for number in range(len(records)):
        members.setdefault(tuple(places[key][number] for key in by), []).append(number)
    groups = []
    for _, numbers in sorted(members.items()):
        keys = {key: columns[key][numbers[0]] for key in by}
        groups.append(Group(_label_of_keys(keys), tuple(records[number] for number in numbers), keys))
    return groups


def _label(record: RunRecord, *, with_experiment: bool) -> str:
    variant = one_line(record.summary["variant"])
    experiment = one_line(record.experiment["name"])
    name = variant or experiment
    if with_experiment and variant:
        name = f"{experiment}: {variant}"
    return ", ".join(part for part in (name, *sweep_point_labels(record.summary)) if part)


def _label_of_keys(keys: Mapping[str, KeyValue]) -> str:
    names = short_names(list(keys))
    parts = [
        value.shown if key in _SAID_ALONE and value.shown else f"{name}={value.shown}"
        for (key, value), name in zip(keys.items(), names, strict=True)
    ]
    return ", ".join(parts) or "all runs"


def _distinct(groups: Sequence[Group]) -> list[Group]:
    """Returns the groups with a number behind labels that others have already."""
    used: set[str] = set()
    distinct = []
    for group in groups:
        label, number = group.label, 1
        while label in used:
            number += 1
            label = f"{group.label} ({number})"
        used.add(label)
        distinct.append(dataclasses.replace(group, label=label))
    return distinct
