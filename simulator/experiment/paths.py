"""Paths in experiment files: relative to the file's own folder, with ~ and $NAME as a shell has them."""

import functools
import glob
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simulator.experiment.yaml_text import Key

_PATTERNS: Key = ("data", "files")
_PATHS: tuple[Key, ...] = (
    _PATTERNS,
    ("data", "data_dir"),
    ("data", "tokenizer", "path"),
    ("cluster", "devices", "file"),
    ("cluster", "network", "file"),
    ("cluster", "devices", "trace"),
    ("cluster", "network", "trace"),
    ("cluster", "faults", "trace"),
)
"""Settings that name files."""
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})", re.ASCII)


def expand_path(path: str, quote: Callable[[str], str] = str) -> str:
    """Returns a path with a home folder for ~ or ~user at its start, and the environment's value for $NAME or ${NAME}.

    Unknown users and variables stay as they are.

    Args:
      path: as it was written.
      quote: applied to each value that is put in.
    """

    def value(found: re.Match[str]) -> str:
        return quote(os.environ.get(found[1] or found[2], found[0]))

    first, slash, rest = path.partition("/")
    if first.startswith("~"):
        return quote(os.path.expanduser(first)) + slash + _VARIABLE.sub(value, rest)
    return _VARIABLE.sub(value, path)


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


def anchor(value: Any, at: Key, folder: Path) -> Any:
    """Returns a copy of the value at a key, with the paths in it anchored. Aliases share one object."""
    if at in _PATHS:
        of_one = functools.partial(_anchor_path, folder=folder, pattern=at == _PATTERNS)
        return [of_one(item) for item in value] if isinstance(value, list) else of_one(value)
    if isinstance(value, dict) and _may_hold_path(at):
        return {name: anchor(item, (*at, *str(name).split(".")), folder) for name, item in value.items()}
    return value


def _anchor_axis(axis: str, values: Any, folder: Path) -> Any:
    key = tuple(axis.split("."))
    at = key if _may_hold_path(key) else ()  # else a name of its own, whose values are mappings from paths
    if isinstance(values, dict):  # from names to mappings, or a search with a list of values
        return {
            name: _anchor_axis(axis, value, folder) if isinstance(value, list) else anchor(value, (), folder)
            for name, value in values.items()
        }
    return [anchor(value, at, folder) for value in values] if isinstance(values, list) else values


def _may_hold_path(key: Key) -> bool:
    return any(path[: len(key)] == key for path in _PATHS)


def _anchor_path(path: Any, *, folder: Path, pattern: bool) -> Any:
    """Returns a path from the working directory; characters that a pattern did not say itself are literal in it."""
    if not isinstance(path, str) or "://" in path:
        return path
    quote = glob.escape if pattern else str
    return str(Path(quote(str(folder))) / expand_path(path, quote))
