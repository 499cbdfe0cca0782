"""Reading an experiment file: safe YAML with line numbers, `extends`, and settings from the command line."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from simulator.experiment.problems import ExperimentError, Problem

Key = tuple[str, ...]
Tree = dict[str, Any]
DISCRIMINATORS = ("kind", "optimizer", "source")


class _Loader(yaml.SafeLoader):
    """Safe loader that reads `1e-3` as a number (YAML 1.2), not as text (YAML 1.1)."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:float"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|\.(?:inf|Inf|INF)|\.nan)$"),
    list("-+0123456789."),
)


@dataclasses.dataclass
class Document:
    """An experiment file as written: nested mappings, and where each key stands.

    Attributes:
      path: the file, or None when it was made in Python.
      tree: the content with `extends` resolved and `variants` and `sweep` still in it.
      lines: dotted path, as a tuple, to (file, 1-based line).
      overrides: dotted path to value, applied last to every variant and sweep point.
    """

    path: Path | None
    tree: Tree
    lines: dict[Key, tuple[Path, int]] = dataclasses.field(default_factory=dict)
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)

    def problem(self, key: Key, message: str, value: Any = None, shown: str | None = None) -> Problem:
        """Returns a problem placed at `key`, or at its closest ancestor that has a line."""
        for end in range(len(key), 0, -1):
            if key[:end] in self.lines:
                file, line = self.lines[key[:end]]
                return Problem(shown or ".".join(key), message, value, file, line)
        return Problem(shown or ".".join(key), message, value, self.path)


def parse_value(text: str) -> Any:
    """Returns a command-line value as YAML reads it: number, text, list or mapping."""
    return yaml.load(text, Loader=_Loader)


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> Tree:
    """Returns `base` with `change` laid over it, mapping by mapping.

    A mapping that names another `kind`, `optimizer` or `source` replaces the one below it: the old one's settings
    would not be valid for it.
    """
    merged = dict(base)
    for key, value in change.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping) and not _replaces(below, value):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def _replaces(below: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    return any(name in value and name in below and value[name] != below[name] for name in DISCRIMINATORS)


def nested(key: Key, value: Any) -> Tree:
    """Returns the mapping that sets one dotted path."""
    for part in reversed(key):
        value = {part: value}
    return dict(value)


def load_document(path: str | Path, overrides: Iterable[str] = ()) -> Document:
    """Reads an experiment file and what it extends.

    Args:
      path: a YAML file.
      overrides: settings of the form `key.path=value`, where the value is YAML.

    Raises:
      ExperimentError: the file cannot be read, is not YAML, repeats a key, extends itself, or an override is malformed.
    """
    document = _load(Path(path), ())
    problems = []
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip() or not all(key.strip().split(".")):
            problems.append(Problem(text, "a setting is written key.path=value, such as inner.learning_rate=1e-3"))
            continue
        try:
            parsed = parse_value(value)
        except yaml.YAMLError as error:
            problems.append(Problem(key, f"not a YAML value: {_first_line(error)}", value))
            continue
        _override(document, key.strip(), parsed)
    if problems:
        raise ExperimentError(problems)
    return document


def _override(document: Document, key: str, value: Any) -> None:
    """Settings of the file itself (variants, sweep) are edited; any other is kept to be applied last."""
    parts = tuple(key.split("."))
    if parts[0] == "sweep" and len(parts) > 1:  # an axis is itself a dotted path
        parts = ("sweep", key.removeprefix("sweep."))
    if parts[0] in ("variants", "sweep", "name", "description"):
        document.tree = merge(document.tree, nested(parts, value))
    else:
        document.overrides[key] = value


def _load(path: Path, chain: tuple[Path, ...]) -> Document:
    path_seen = path.resolve()
    if path_seen in chain:
        raise ExperimentError([Problem("extends", f"{path} extends itself", file=chain[-1])])
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ExperimentError([Problem("", f"cannot be read: {reason}", file=path)]) from error
    tree, lines = _parse(path, text)
    _anchor_files(tree, path.parent)
    if "extends" not in tree:
        return Document(path, tree, lines)
    parent_name = tree.pop("extends")
    if not isinstance(parent_name, str):
        raise ExperimentError([Problem("extends", "expected the path of an experiment file", parent_name, path)])
    parent = _load(path.parent / parent_name, (*chain, path_seen))
    return Document(path, merge(parent.tree, tree), parent.lines | lines)


def _parse(path: Path, text: str) -> tuple[Tree, dict[Key, tuple[Path, int]]]:
    loader = _Loader(text)
    lines: dict[Key, tuple[Path, int]] = {}
    problems: list[Problem] = []
    try:
        root = loader.get_single_node()
        if root is not None:
            _index(root, (), path, lines, problems)
        tree = None if root is None or problems else loader.construct_document(root)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else None
        raise ExperimentError([Problem("", f"not valid YAML: {_first_line(error)}", file=path, line=line)]) from error
    finally:
        loader.dispose()
    if problems:
        raise ExperimentError(problems)
    if not isinstance(tree, dict):
        raise ExperimentError([Problem("", "expected a mapping with name, model, data, cluster, …", file=path)])
    return tree, lines


def _index(node: yaml.Node, key: Key, path: Path, lines: dict[Key, tuple[Path, int]], problems: list[Problem]) -> None:
    """Notes the line of every key and list element; keys must be text and stand once."""
    if len(lines) > 100_000:
        raise ValueError("over 100,000 entries (anchors that multiply?)")
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key_node, value_node in node.value:
            name = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else ""
            line = key_node.start_mark.line + 1
            child = (*key, name)
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag not in (
                "tag:yaml.org,2002:str",
                "tag:yaml.org,2002:merge",
            ):
                problems.append(Problem(".".join(child), "keys must be text: put it in quotes", file=path, line=line))
            if name in seen:
                problems.append(Problem(".".join(child), "this key stands here twice", file=path, line=line))
            seen.add(name)
            lines[child] = (path, line)
            _index(value_node, child, path, lines, problems)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*key, str(index))] = (path, item.start_mark.line + 1)
            _index(item, (*key, str(index)), path, lines, problems)


def _anchor_files(tree: Any, folder: Path) -> None:
    """Makes the paths of `data.files`, wherever they stand in the file, relative to the file's own folder."""
    if isinstance(tree, dict):
        files = tree.get("files")
        if isinstance(files, str):
            tree["files"] = str(folder / files)
        elif isinstance(files, list):
            tree["files"] = [str(folder / name) if isinstance(name, str) else name for name in files]
        for value in tree.values():
            _anchor_files(value, folder)


def _first_line(error: Exception) -> str:
    return str(getattr(error, "problem", None) or error).splitlines()[0]
