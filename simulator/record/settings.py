"""Settings of a run: the resolved experiment by dotted paths, and the differences of two experiments."""

import json
from collections.abc import Mapping
from typing import Any

from simulator.host.mappings import flattened

NAMES = ("name", "description", "variant", "scale", "seed")
"""What an experiment and its repeats are called."""

FILES = ("data.files", "data.data_dir", "data.tokenizer.path")
"""Settings that name files, whose content is what counts."""

FACTS = ("trainer", "data_hash", "data.tokenizer_hash")
"""What a summary has of what was trained, and on what."""

_OF_NO_RESULT = ("checkpoint", "compute.trainer")


def settings_of(experiment: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that tell a run from those that are no repeats of it, by dotted path.

    These are the settings of the resolved experiment, but for null ones and those that change no result: the seed,
    names, `checkpoint`. Files count by their content, if known, and the trainer is the one that was used: see `FACTS`.
    Settings of a sweep count in any case, also under names of their own.

    Args:
        experiment: Resolved.
        summary: Of the run, see `SUMMARY_KEYS`.
    """
    data = summary.get("data") or {}
    found = (summary["trainer"], summary.get("data_hash"), data.get("tokenizer_hash"))
    facts = {name: value for name, value in zip(FACTS, found, strict=True) if value is not None}
    left_out = (*NAMES, *_OF_NO_RESULT, *(FILES if "data_hash" in facts else ()))
    within = tuple(f"{section}." for section in left_out)
    settings = {
        path: value
        for path, value in flattened(experiment).items()
        if value is not None and path not in left_out and not path.startswith(within)
    }
    for axis, value in summary["overrides"].items():
        known = axis in settings or any(path.startswith(f"{axis}.") for path in settings)
        if axis != "seed" and value is not None and not known:
            settings[axis] = value
    return settings | facts


def identity_of(settings: Mapping[str, Any]) -> str:
    """Returns a hashable key of settings."""
    return json.dumps(settings, sort_keys=True, default=str)


def differences(theirs: Any, ours: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """Returns the dotted paths at which two trees differ, with both values; null and absent are the same."""
    if not (isinstance(theirs, Mapping) and isinstance(ours, Mapping)):
        return [] if theirs == ours else [(path, theirs, ours)]
    keys = [*theirs, *(key for key in ours if key not in theirs)]
    return [
        each
        for key in keys
        for each in differences(theirs.get(key), ours.get(key), f"{path}.{key}" if path else str(key))
    ]
