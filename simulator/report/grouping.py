"""Groups of runs in a figure or a table: repeats of one another under several seeds, or runs that agree in keys."""

import dataclasses
import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pandas as pd

from simulator.host.mappings import flattened
from simulator.host.text import one_line, plural
from simulator.record import FACTS, FILES, RunRecord, identity_of, settings_of
from simulator.report.arguments import Records, Results, records_of, results_of
from simulator.report.group_keys import ABSENT, KeyValue, ReportError, in_order, key_value, key_values

_SAID_ALONE = ("name", "variant")  # whose values say enough without the key
_ALL_DIFFERENCES = 3  # settings that differ: up to this many are all named, of more as few as tell runs apart
_LONGEST_VALUE = 24  # characters, of a setting in a label
MORE = "…"
"""Last part of a label that does not name all settings in which runs differ."""
_NOT_CLEAR = ("kind",)  # last parts of paths that say nothing without the part before


@dataclass(frozen=True)
class Group:
    """Runs that are taken together.

    Attributes:
        label: Name, no two groups alike: the variant; the sweep point's overrides when there are any; and, where those
            are not enough, the settings that differ. Or the values of the keys that were asked for.
        records: At least one, in the order given. Unless keys were asked for, all have the same settings, and no two
            the same seed.
        keys: Those that tell the group from others: key to value.
        parts: Those of the label, the variant first.
        settings: Which of the keys are settings that differ without having been swept.
        repeats: Runs that have both the settings and the seed of one of the records: they count for nothing.
    """

    label: str
    records: tuple[RunRecord, ...]
    keys: Mapping[str, KeyValue]
    parts: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    repeats: tuple[RunRecord, ...] = ()

    @property
    def variant(self) -> str:
        """Name of the variant, of the first run."""
        return str(self.records[0].summary["variant"])

    @property
    def summaries(self) -> list[Mapping[str, Any]]:
        """Summaries of the records."""
        return [record.summary for record in self.records]


def sweep_point(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the run's overrides without the seed."""
    return {key: value for key, value in summary["overrides"].items() if key != "seed"}


def short_names(keys: Sequence[str]) -> list[str]:
    """Returns the last part of each dotted key where it is clear among them, else the whole key."""
    last = [_last_part(key) for key in keys]
    return [short if last.count(short) == 1 else key for key, short in zip(keys, last, strict=True)]


def _last_part(key: str) -> str:
    parts = key.split(".")
    clear = parts[-1] not in _NOT_CLEAR and not parts[-1].isdecimal()
    return parts[-1] if clear else ".".join(parts[-2:])


def group_records(records: Records, by: Sequence[str] | None = None) -> list[Group]:
    """Returns runs in groups.

    Without `by`, runs are together that are repeats of one another under several seeds: their experiment and variant
    have the same name, and their resolved experiments are the same but for the seed and for what changes no result
    (descriptions, `checkpoint`, where files with the same content are). Runs that have the seed in common too are one:
    the first counts.

    Args:
        records: The runs: one, or several. Groups stay as they are.
        by: Keys whose values tell groups apart: dotted paths of the resolved experiment, names of a sweep's axes, or
            keys of the summary. Runs that agree in all of them make one group, whatever else they differ in.

    Returns:
        In order of first appearance; of keys that were asked for and are numbers, in ascending order.

    Raises:
        ReportError: If there are no runs, or none has a key that was asked for.
    """
    return _given_groups(records) or _grouped(records_of(records), by)


def group_results(results: Results, by: Sequence[str] | None = None) -> list[Group]:
    """Returns runs in groups as `group_records`, of which no more than the summary may be known.

    Raises:
        ReportError: As `group_records`, or two summaries have all that is known of their settings in common, and the
            seed: they may be of runs with other settings.
    """
    # grouping looks at experiment and summary alone
    groups = _given_groups(results) or _grouped(cast("list[RunRecord]", results_of(results)), by)
    for group in groups:
        unknown = [run for run in group.repeats if not run.experiment["name"]]
        if unknown:
            at = f" at {', '.join(group.parts[1:])}" if group.parts[1:] else ""
            raise ReportError(
                f"variant {group.variant!r} is given twice with seed {unknown[0].summary['seed']}{at}: give it once, "
                "or records, whose settings are known"
            )
    return groups


def _given_groups(given: object) -> list[Group]:
    if isinstance(given, Group):
        return [given]
    if isinstance(given, Sequence) and given and all(isinstance(each, Group) for each in given):
        return list(given)
    return []


def _grouped(records: Sequence[RunRecord], by: Sequence[str] | None) -> list[Group]:
    first: dict[Hashable, RunRecord] = {}
    repeats: dict[int, list[RunRecord]] = {}
    alike: dict[Hashable, list[RunRecord]] = {}
    for record in records:
        names = record.experiment["name"], record.summary["variant"]
        settings = (*names, identity_of(settings_of(record.experiment, record.summary)))
        run = (*settings, record.summary["seed"])
        if run in first:
            repeats.setdefault(id(first[run]), []).append(record)
        else:
            first[run] = record
            alike.setdefault(settings, []).append(record)
    groups = _by_settings(list(alike.values())) if by is None else _by_keys(list(first.values()), by)
    again = [[each for record in group.records for each in repeats.get(id(record), ())] for group in groups]
    return _distinct([dataclasses.replace(group, repeats=tuple(own)) for group, own in zip(groups, again, strict=True)])


def each_run(groups: Sequence[Group]) -> list[Group]:
    """Returns a group of its own for every run, told apart by the seed too."""
    alone = []
    for group in groups:
        for record, seed in zip(group.records, key_values(group.records, "seed"), strict=True):
            keys = {**group.keys, "seed": seed}
            parts = group.parts if "seed" in group.keys else (*group.parts, f"seed={seed.shown}")
            alone.append(Group(", ".join(parts), (record,), keys, parts, group.settings))
    return _distinct(alone)


def run_labels(records: Records) -> list[str]:
    """Returns the label of each run: that of its group, with the seed if the group has several."""
    given, labels = records_of(records), {}
    for group in group_records(given):
        several = len(group.records) > 1
        for record in (*group.records, *group.repeats):
            labels[id(record)] = f"{group.label}, seed={record.summary['seed']}" if several else group.label
    return [labels[id(record)] for record in given]


def only(groups: Iterable[Group], condition: Callable[[RunRecord], bool]) -> list[Group]:
    """Returns groups under their labels with those of their runs that meet a condition; those without any are gone."""
    kept = (dataclasses.replace(group, records=tuple(filter(condition, group.records))) for group in groups)
    return [group for group in kept if group.records]


def note_of_repeats(runs: Results) -> str:
    """Returns a note that runs were given twice, empty if none were."""
    number = sum(len(group.repeats) for group in group_results(runs))
    has = "has" if number == 1 else "have"
    return f"{plural(number, 'run')} {has} the settings and the seed of another: counted once" if number else ""


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


# By settings.


def _by_settings(alike: Sequence[Sequence[RunRecord]]) -> list[Group]:
    """Returns a group of each set of runs that are repeats of one another."""
    names = [(records[0].experiment["name"], records[0].summary["variant"]) for records in alike]
    several = len({experiment for experiment, _ in names}) > 1
    axes: dict[tuple[str, str], dict[str, None]] = {}  # of all runs of one name
    for own, records in zip(names, alike, strict=True):
        axes.setdefault(own, {}).update((axis, None) for each in records for axis in sweep_point(each.summary))
    groups = [
        _group(records, list(axes[own]), with_experiment=several) for own, records in zip(names, alike, strict=True)
    ]
    unclear: dict[tuple[str, str, str], list[int]] = {}
    for number, (own, group) in enumerate(zip(names, groups, strict=True)):
        unclear.setdefault((*own, group.label), []).append(number)
    for numbers in unclear.values():
        if len(numbers) > 1:
            for number, group in zip(numbers, _with_differences([groups[n] for n in numbers]), strict=True):
                groups[number] = group
    return groups


def _group(records: Sequence[RunRecord], axes: Sequence[str], *, with_experiment: bool) -> Group:
    """Returns runs that differ by their seed alone, under the names of their variant and sweep point."""
    first = records[0]
    experiment, variant = one_line(first.experiment["name"]), one_line(first.summary["variant"])
    keys = {"name": KeyValue(first.experiment["name"], experiment)} if with_experiment else {}
    keys["variant"] = KeyValue(first.summary["variant"], variant)
    keys |= {axis: value for axis in axes if (value := key_value(first, axis)).value is not None}
    name = f"{experiment}: {variant}" if with_experiment and variant else variant or experiment
    shown = [key for key in keys if key not in _SAID_ALONE]
    parts = (name, *_shown_parts(shown, [keys[key] for key in shown]))
    return Group(", ".join(part for part in parts if part), tuple(records), keys, parts)


def _shown_parts(keys: Sequence[str], values: Sequence[KeyValue]) -> list[str]:
    return [one_line(f"{name}={value.shown}") for name, value in zip(short_names(keys), values, strict=True)]


def _with_differences(groups: Sequence[Group]) -> list[Group]:
    """Returns groups of one variant and sweep point with the settings in which they differ."""
    keys, all_said = _settings_that_differ(groups)
    separated = []
    for group in groups:
        swept = [key for key in group.keys if key not in _SAID_ALONE]
        own = {key: _short(key_value(group.records[0], key)) for key in keys}
        shown = [*(group.keys[key] for key in swept), *own.values()]
        parts = (group.parts[0], *_shown_parts([*swept, *keys], shown), *([] if all_said else [MORE]))
        label = ", ".join(part for part in parts if part)
        separated.append(
            dataclasses.replace(group, label=label, keys={**group.keys, **own}, parts=parts, settings=keys)
        )
    return separated


def _settings_that_differ(groups: Sequence[Group]) -> tuple[tuple[str, ...], bool]:
    """Returns the settings that tell groups apart, and whether these are all in which they differ.

    Of many it is as few as will do: the scale first, then in the order of the file. What a summary has of files and
    trainers counts where settings are not enough.
    """
    each = [_comparable(group.records[0]) for group in groups]
    differ = _differing(each)
    settings = [key for key in differ if key not in FACTS]
    enough = _classes(each, settings) == len(groups)
    candidates = settings if enough else differ
    if len(candidates) <= _ALL_DIFFERENCES:
        return tuple(candidates), True
    chosen: list[str] = []
    while _classes(each, chosen) < len(groups):
        chosen.append(max(candidates, key=lambda key: _classes(each, [*chosen, key])))
    return tuple(chosen), len(chosen) == len(candidates)


def _comparable(record: RunRecord) -> dict[str, Any]:
    """Returns the settings in which a run may differ from another, in the order in which they are named."""
    written = flattened(record.experiment)
    named = {key: written[key] for key in ("scale", *FILES) if written.get(key) is not None}
    return named | settings_of(record.experiment, record.summary)


def _differing(each: Sequence[dict[str, Any]]) -> list[str]:
    """Returns the keys in which mappings differ; of lists of one length, and of what is in them, those that do."""
    found, pending = [], list(dict.fromkeys(key for own in each for key in own))
    while pending:
        key = pending.pop(0)
        values = [own.get(key) for own in each]
        if _classes(each, [key]) == 1:
            continue
        inner = [_inner(value) for value in values]
        if inner[0] and all(parts is not None and parts.keys() == inner[0].keys() for parts in inner):
            for own, parts in zip(each, inner, strict=True):
                own |= {f"{key}.{name}": value for name, value in (parts or {}).items()}
            pending = [f"{key}.{name}" for name in inner[0]] + pending
        else:
            found.append(key)
    return found


def _inner(value: Any) -> dict[str, Any] | None:
    """Returns what is in a list or a mapping, by names as in dotted paths, None of what is neither."""
    if isinstance(value, Mapping):
        return dict(value)
    return {str(place): each for place, each in enumerate(value)} if isinstance(value, list | tuple) else None


def _classes(each: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> int:
    """Returns the number of groups that some keys tell apart."""
    return len({tuple(_hashable(own.get(key)) for key in keys) for own in each})


def _hashable(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _short(value: KeyValue) -> KeyValue:
    long = len(value.shown) > _LONGEST_VALUE
    return value._replace(shown=f"{value.shown[: _LONGEST_VALUE - 1]}…") if long else value


# By keys.


def _by_keys(records: Sequence[RunRecord], by: Sequence[str]) -> list[Group]:
    columns = {key: key_values(records, key) for key in by}
    places = zip(*(in_order(values)[1] for values in columns.values()), strict=True) if by else [()] * len(records)
    members: dict[tuple[int, ...], list[int]] = {}
    for number, place in enumerate(places):
        members.setdefault(place, []).append(number)
    groups = []
    for _, numbers in sorted(members.items()):
        keys = {key: values[numbers[0]] for key, values in columns.items()}
        parts = tuple(_parts_of_keys(keys))
        groups.append(Group(", ".join(parts), tuple(records[number] for number in numbers), keys, parts))
    return groups


def _parts_of_keys(keys: Mapping[str, KeyValue]) -> list[str]:
    names = short_names(list(keys))
    parts = [
        value.shown if key in _SAID_ALONE and value.shown else f"{name}={value.shown}"
        for (key, value), name in zip(keys.items(), names, strict=True)
    ]
    return parts or ["all runs"]


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
        parts = group.parts if label == group.label else (f"{group.parts[0]} ({number})", *group.parts[1:])
        distinct.append(dataclasses.replace(group, label=label, parts=parts))
    return distinct
