"""Settings in which the runs differ, and those that they share."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from simulator.host.format import UNKNOWN
from simulator.host.mappings import flattened as by_path
from simulator.record import NAMES
from simulator.report.grouping import Group

_NULL = "null"
_LONGEST = 160  # characters of one value


def settings_of(groups: Sequence[Group]) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Returns the settings of the groups' experiments, seeds and names left out.

    Returns:
        Dotted key to the value of each group, as text, where they differ; a group whose runs differ among themselves
        has their values separated by commas, and null and absent make no difference. And dotted key to the value that
        all have.
    """
    flat = [[flattened(record.experiment) for record in group.records] for group in groups]
    different: dict[str, tuple[str, ...]] = {}
    common: dict[str, str] = {}
    for key in dict.fromkeys(key for runs in flat for run in runs for key in run):
        each = [list(dict.fromkeys(run.get(key, UNKNOWN) for run in runs)) for runs in flat]
        values = {value for own in each for value in own}
        if len(values) == 1:
            common[key] = _cut(each[0][0])
        elif values != {UNKNOWN, _NULL}:
            different[key] = tuple(_cut(", ".join(own)) for own in each)
    return different, common


def flattened(experiment: Mapping[str, Any]) -> dict[str, str]:
    """Returns dotted key to value, as text, of an experiment: mappings are opened, lists are not."""
    said_elsewhere = {*NAMES} - {"scale"}
    return {path: _text(value) for path, value in by_path(experiment).items() if path not in said_elsewhere}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value or '""'
    return json.dumps(value, ensure_ascii=False, default=str)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
