"""Keys that group runs: dotted keys of resolved experiments, axes of sweeps, keys of summaries."""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

from simulator.host.format import UNKNOWN, byte_count, short_count
from simulator.host.nearest import alike
from simulator.host.text import one_line
from simulator.record import RunRecord

_QUANTITY = re.compile(r"([0-9.eE+-]+) (B/s|FLOP/s)")
_UNBOUNDED = ("unlimited", "infinite")
_MOST_NAMES = 40


class ReportError(ValueError):
    """A figure or table that cannot be made from the given records; the message says which and why."""


class KeyValue(NamedTuple):
    """Value of a run under a key.

    Attributes:
        value: A number (of a quantity in seconds, bytes, bytes/s or FLOP/s), text, true or false; a list or a mapping
            as JSON; None where the run has nothing under the key.
        shown: Its label: as the sweep writes it, where it is swept.
    """

    value: float | str | bool | None
    shown: str


ABSENT = KeyValue(None, UNKNOWN)


def key_values(records: Sequence[RunRecord], key: str) -> list[KeyValue]:
    """Returns each run's value under a key.

    A key is an axis of the sweep by the name that the file gives it, a dotted path of the resolved experiment
    (`cluster.network.bandwidth`, `cluster.devices.accelerators.0.name`), or a key of the summary (`utilization`).

    Raises:
        ReportError: If no run has it; names the nearest keys.
    """
    values = [key_value(record, key) for record in records]
    if records and all(value is ABSENT for value in values):
        names = (name for record in records for name in _names(record))
        raise ReportError(f"no run has a key {key!r}; {nearest(key, names)}")
    return values


def in_order(values: Sequence[KeyValue]) -> tuple[list[KeyValue], list[int]]:
    """Returns the distinct values, and the place of each value among them.

    Numbers are in ascending order, others as they first appear, absent ones last.
    """
    names = [json.dumps(value.value) for value in values]
    distinct = dict(zip(reversed(names), reversed(values), strict=True))
    found = [(name, distinct[name]) for name in dict.fromkeys(names)]
    if all(is_number(value.value) for _, value in found if value.value is not None):
        found.sort(key=lambda each: float(each[1].value or 0.0))
    found.sort(key=lambda each: each[1].value is None)
    order = {name: place for place, (name, _) in enumerate(found)}
    return [value for _, value in found], [order[name] for name in names]


def is_number(value: object) -> TypeGuard[float]:
    """Returns whether the value is a number that is known; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def key_value(record: RunRecord, key: str) -> KeyValue:
    """Returns a run's value under a key, `ABSENT` if it has none."""
    overrides = record.summary["overrides"]
    found = _look_up(record.experiment, key)
    if found is None:
        found = _look_up(record.summary, key)
    if found is None:
        found = overrides.get(key)
    if found is None and overrides.get(key) is None:
        return ABSENT
    value = _plain(found)
    written = overrides.get(key)
    return KeyValue(value, one_line(str(written)) if written is not None else _shown(found, value))


def _look_up(tree: Any, key: str) -> Any:
    """Returns the value at a dotted path, None if there is none."""
    for part in key.split("."):
        if isinstance(tree, Mapping):
            tree = tree.get(part)
        elif isinstance(tree, Sequence) and not isinstance(tree, str) and part.isdecimal() and int(part) < len(tree):
            tree = tree[int(part)]
        else:
            return None
    return tree


def _plain(value: Any) -> float | str | bool | None:
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value)
    if isinstance(value, str):
        quantity = _QUANTITY.fullmatch(value)
        if quantity:
            return float(quantity[1])
        return math.inf if value in _UNBOUNDED else value
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def _shown(found: Any, value: float | str | bool | None) -> str:
    if isinstance(found, str) and isinstance(value, float) and math.isfinite(value):
        return f"{byte_count(value)}/s" if found.endswith(" B/s") else f"{short_count(value)}FLOP/s"
    return one_line(str(found if isinstance(found, str) else value))


def nearest(key: str, names: Iterable[str]) -> str:
    """Returns a hint that names those most like a key, by its end or as a whole, or lists all."""
    names = sorted(set(names))
    last = key.rsplit(".", 1)[-1]
    close = alike(key, names, most=3)
    parts = alike(last, {name.rsplit(".", 1)[-1] for name in names}, cutoff=0.75)
    close += [name for name in names if name.rsplit(".", 1)[-1] in parts]
    close = list(dict.fromkeys(close))[:3]
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    few = names[:_MOST_NAMES] + ["…"] * (len(names) > _MOST_NAMES)
    return f"valid: {', '.join(few)}"


def _names(record: RunRecord) -> Iterator[str]:
    yield from _paths(record.experiment, "")
    yield from (key for key, value in record.summary.items() if not isinstance(value, Mapping | list))
    yield from record.summary["overrides"]


def _paths(tree: Mapping[str, Any], before: str) -> Iterator[str]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _paths(value, f"{before}{name}.")
        elif value is not None:
            yield f"{before}{name}"
