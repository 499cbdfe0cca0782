"""Settings in which the runs differ, and those that they share."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulator.host.mappings import flattened as by_path
from simulator.record import NAMES
from simulator.report.grouping import Group

_ABSENT = "–"  # noqa: RUF001 - an en dash, as tables print a missing value
_NULL = "null"
_LONGEST = 160  # characters of one value


@dataclass(frozen=True)
class Settings:
    """The settings of several groups of runs.

    Attributes:
        different: Dotted key to the value of each group, as text; a group whose runs differ among themselves has
            their values separated by commas. Null and absent mean the same, and make no difference.
        common: Dotted key to the value that all have.
    """

    different: Mapping[str, tuple[str, ...]]
    common: Mapping[str, str]


def settings_of(groups: Sequence[Group]) -> Settings:
    """Returns the settings of the groups' experiments, seeds and names left out."""
    flat = [[flattened(record.experiment) for record in group.records] for group in groups]
    keys = dict.fromkeys(key for runs in flat for run in runs for key in run)
    different: dict[str, tuple[str, ...]] = {}
    common: dict[str, str] = {}
    for key in keys:
        each = [list(dict.fromkeys(run.get(key, _ABSENT) for run in runs)) for runs in flat]
        values = {value for own in each for value in own}
        if len(values) == 1:
            common[key] = _cut(each[0][0])
        elif values != {_ABSENT, _NULL}:
            different[key] = tuple(_cut(", ".join(own)) for own in each)
    return Settings(different, common)


def flattened(experiment: Mapping[str, Any]) -> dict[str, str]:
    """Returns dotted key to value, as text, of an experiment: mappings are opened, lists are not."""
    said_elsewhere = {*NAMES} - {"scale"}
    return {path: _text(value) for path, value in by_path(experiment).items() if path not in said_elsewhere}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value or '""'
    if value is None:
        return _NULL
    return json.dumps(value, ensure_ascii=False, default=str)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
