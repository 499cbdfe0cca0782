"""Dotted paths in nested mappings."""

from collections.abc import Iterable, Mapping
from typing import Any

MISSING = object()


def lookup(tree: Any, key: Iterable[str]) -> Any:
    """Returns the value at the parts of a path in nested mappings and lists, or `MISSING`."""
    for part in key:
        if isinstance(tree, Mapping) and part in tree:
            tree = tree[part]
        elif isinstance(tree, list | tuple) and part.isdecimal() and int(part) < len(tree):
            tree = tree[int(part)]
        else:
            return MISSING
    return tree


def flattened(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Returns dotted path to value: mappings are opened, lists and empty mappings are values."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= {f"{key}.{path}": inner for path, inner in flattened(value).items()}
        else:
            flat[str(key)] = value
    return flat
