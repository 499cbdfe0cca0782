"""Settings that name files, made relative to the folder of the file that they stand in."""

import functools
import os
from pathlib import Path
from typing import Any

from simulator.experiment.yaml_text import Key

_PATHS: tuple[Key, ...] = (
    ("data", "files"),
    ("data", "data_dir"),
    ("data", "tokenizer", "path"),
    ("cluster", "faults", "trace"),
)
"""Settings that name files, relative to the experiment file's own folder."""


def anchor_files(tree: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Makes paths relative to the file's own folder: at the top, in variants, sweep and scales."""
    anchored: dict[str, Any] = anchor(tree, (), folder)
    for name in ("variants", "scales"):
        if isinstance(tree.get(name), dict):
            inner = anchor_files if name == "scales" else functools.partial(anchor, at=())
            anchored[name] = {
                each: inner(change, folder=folder) if isinstance(change, dict) else change
                for each, change in tree[name].items()
            }
    if isinstance(tree.get("sweep"), dict):
        anchored["sweep"] = {axis: _anchor_axis(axis, values, folder) for axis, values in tree["sweep"].items()}
    return anchored


def _anchor_axis(axis: str, values: Any, folder: Path) -> Any:
    if isinstance(values, dict):
        return {name: anchor(value, (), folder) for name, value in values.items()}
    if not isinstance(values, list):
        return values
    key = tuple(axis.split("."))
    at = key if _may_hold_path(key) else ()  # else a name of its own, whose values are mappings from paths
    return [anchor(value, at, folder) for value in values]


def _may_hold_path(key: Key) -> bool:
    return any(path[: len(key)] == key for path in _PATHS)


def anchor(value: Any, at: Key, folder: Path) -> Any:
    """Returns a copy of what stands at a key, with the paths in it anchored. Aliases share one object."""
    if at in _PATHS:
        return [_anchored(item, folder) for item in value] if isinstance(value, list) else _anchored(value, folder)
    if isinstance(value, dict) and _may_hold_path(at):
        return {name: anchor(item, (*at, *str(name).split(".")), folder) for name, item in value.items()}
    return value


def _anchored(path: Any, folder: Path) -> Any:
    if not isinstance(path, str) or "://" in path:
        return path
    return str(folder / os.path.expanduser(path))
