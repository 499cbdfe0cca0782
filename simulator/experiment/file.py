"""Reading an experiment file: safe YAML with line numbers, `extends`, and settings from the command line."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from simulator.experiment.paths import anchor, anchor_files, expand_path
from simulator.experiment.plugins import import_plugins
from simulator.experiment.problems import ExperimentError, Problem, nearest
from simulator.experiment.schema.devices import devices_form
from simulator.experiment.yaml_text import Key, parse_value, read_yaml, reason

Tree = dict[str, Any]
DISCRIMINATORS = ("kind", "optimizer", "source")


DOCUMENT_KEYS = ("variants", "select", "sweep", "scales", "extends", "reference", "plugins")


@dataclasses.dataclass
class Document:
    """An experiment file as written: nested mappings, and where each key stands.

    Attributes:
      path: the file, or None when it was made in Python.
      tree: the content with `extends` and `scales` resolved; `variants`, `select`, `sweep` and `reference` still in it.
      lines: dotted path, as a tuple, to (file, 1-based line), or None where the command line has set it.
      overrides: dotted path to value, applied last to every variant and sweep point.
      problems: keys and settings that are left out because they cannot be understood; `expand` reports them.
      scales: names of those that it could have been read at.
    """

    path: Path | None
    tree: Tree
    lines: dict[Key, tuple[Path, int] | None] = dataclasses.field(default_factory=dict)
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    problems: list[Problem] = dataclasses.field(default_factory=list)
    scales: tuple[str, ...] = ()

    def problem(self, key: Key, message: str, value: Any = None, shown: str | None = None) -> Problem:
        """Returns a problem placed at `key`, or at its closest ancestor that has a line."""
        name = shown or ".".join(key)
        around = next((key[:end] for end in range(len(key), 0, -1) if key[:end] in self.lines), None)
        if around is None:
            return Problem(name, message, value, self.path)
        place = self.lines[around]
        return on_command_line(name, message, value) if place is None else Problem(name, message, value, *place)


def on_command_line(key: str, message: str, value: Any) -> Problem:
    """Returns a problem of a setting of the command line."""
    return Problem(key, f"{message} (set on the command line)", value)


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> Tree:
    """Returns `base` with `change` laid over it, mapping by mapping.

    A mapping that names another `kind`, `optimizer` or `source`, or that describes the devices in another form,
    replaces the one below it: the old one's settings would not be valid for it. A model that names another preset
    replaces the sizes below it, and another inner optimizer its arguments.
    """
    merged = dict(base)
    for key, value in change.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping) and not _replaces(key, below, value):
            if key == "model" and value.get("preset") not in (None, below.get("preset")):
                below = {name: setting for name, setting in below.items() if name not in _OF_A_PRESET}
            if key == "inner" and value.get("optimizer", below.get("optimizer")) != below.get("optimizer"):
                below = {name: setting for name, setting in below.items() if name != "arguments"}
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


_OF_A_PRESET = ("layers", "width", "heads", "context", "head_width", "feed_forward", "vocabulary", "tied")


def tree_of(settings: Mapping[str, Any], of: Callable[[Any, Key], Any] = lambda value, key: value) -> Tree:
    """Returns the one mapping that sets dotted paths, whatever their order: none replaces what another has set.

    Args:
      settings: dotted path to value.
      of: from a value, and its path, to the value to set.
    """
    tree = Tree()
    for path, value in settings.items():
        key = tuple(path.split("."))
        tree = _join(tree, nested(key, of(value, key)))
    return tree


def _join(one: Mapping[str, Any], other: Mapping[str, Any]) -> Tree:
    tree = dict(one)
    for key, value in other.items():
        below = tree.get(key)
        tree[key] = _join(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return tree


def _replaces(key: str, below: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    if key == "devices":
        old, new = devices_form(below), devices_form(value)
        refines = (old, new) == ("relative_speed", "seconds_per_step")  # which relative speeds are relative to
        return None not in (old, new) and old != new and not refines
    if key in ("inner", "reference"):  # their optimizer or source is one setting of many
        return False
    pairs = [(below[name], value[name]) for name in DISCRIMINATORS if name in below and name in value]
    return any(isinstance(new, str) and new != old for old, new in pairs)


def nested(key: Key, value: Any) -> Tree:
    """Returns the mapping that sets one dotted path."""
    for part in reversed(key):
        value = {part: value}
    return dict(value)


def plain_tree(value: Any, key: Key = ()) -> Any:
    """Returns a copy of a value made in Python as a file would have it: mappings, lists, text and numbers.

    Raises:
      ExperimentError: a key is not text.
    """
    if hasattr(value, "model_dump"):  # a section
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise ExperimentError([Problem(".".join((*key, str(name))), "keys must be text", name)])
        return {name: plain_tree(item, (*key, name)) for name, item in value.items()}
    if isinstance(value, str | bytes) or not isinstance(value, Iterable | os.PathLike):
        return value.tolist() if hasattr(value, "tolist") else value  # a number of numpy's
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return [plain_tree(item, (*key, str(place))) for place, item in enumerate(value)]


def load_document(path: str | Path | Mapping[str, Any], overrides: Iterable[str] = ()) -> Document:
    """Reads an experiment file and what it extends.

    Args:
      path: a YAML file, or a mapping with the same keys, in which paths are relative to the working directory.
      overrides: settings of the form `key.path=value`, where the value is YAML.

    Returns:
      The document at the scale that it names, or that `scale=NAME` among the overrides does. Keys that stand twice,
      malformed overrides and scales are in its `problems`.

    Raises:
      ExperimentError: the file cannot be read, is not YAML, or extends itself.
    """
    if isinstance(path, Mapping):
        layers = _with_extended(Document(None, anchor_files(plain_tree(path), Path())), Path(), ())
    elif isinstance(path, str | os.PathLike):
        file = Path(path)
        layers = _load(file, (), lambda message: Problem("", message, file=file))
    else:
        message = f"{type(path).__name__} is given, and a file is needed, or a mapping with its keys"
        raise ExperimentError([Problem("", message)])
    problems = [problem for layer in layers for problem in layer.problems]
    for layer in layers:
        problems += _import_plugins(layer)
    settings = _read_settings(overrides, problems)
    names = _read_scales(layers, problems)
    scale = _choose_scale(layers, names, settings, problems)
    document = _lay_over(layers, scale)
    document.scales, document.problems = names, problems
    if names:
        document.tree["scale"] = scale or names[0]
    settings.pop("scale", None)
    _apply_settings(document, settings)
    return document


def _import_plugins(layer: Document) -> Iterator[Problem]:
    """Runs the plugins that a file says it needs; paths are relative to it. Yields what is wrong with them."""
    names = layer.tree.pop("plugins", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        yield layer.problem(("plugins",), "expected a list of Python files, or of modules that can be imported", names)
        return
    folder = Path() if layer.path is None else layer.path.parent
    for place, name in enumerate(names):
        found = str(folder / os.path.expanduser(name)) if name.endswith(".py") else name
        try:
            import_plugins([found])
        except ExperimentError as error:
            yield from (layer.problem(("plugins", str(place)), each.message, name) for each in error.problems)


def _read_settings(overrides: Iterable[str], problems: list[Problem]) -> dict[str, Any]:
    settings = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not all(part.strip() for part in key.split(".")):
            message = "a setting is written key.path=value, such as inner.learning_rate=1e-3"
            problems.append(Problem(text, message))
            continue
        try:
            settings[key.strip()] = parse_value(value)
        except yaml.YAMLError as error:
            problems.append(on_command_line(key.strip(), f"not a YAML value: {reason(error)}", value))
    return settings


def _read_scales(layers: Sequence[Document], problems: list[Problem]) -> tuple[str, ...]:
    """Returns the names of the scales; adds their mistakes to `problems`, and leaves out those that are no mappings."""
    names: dict[str, None] = {}
    for layer in layers:
        scales = layer.tree.get("scales", {})
        if not isinstance(scales, dict) or not all(isinstance(change, dict) for change in scales.values()):
            message = "expected a mapping from each scale's name to a mapping of what it changes"
            problems.append(layer.problem(("scales",), message, scales))
            layer.tree.pop("scales")
            continue
        names |= dict.fromkeys(scales)
        problems += [
            layer.problem(("scales", name, key), "cannot be set by a scale: move it to the top level")
            for name, change in scales.items()
            for key in change
            if key in ("extends", "scale", "scales", "name", "variant")
        ]
    return tuple(names)


def _choose_scale(
    layers: Sequence[Document], names: Sequence[str], settings: Mapping[str, Any], problems: list[Problem]
) -> str | None:
    """Returns the name of the chosen scale, None if there is nothing to choose from or no valid choice."""
    if not names:
        if "scale" in settings:
            problems.append(Problem("scale", "the file has no scales to choose from", settings["scale"]))
        return None
    written = next((layer for layer in reversed(layers) if "scale" in layer.tree), layers[-1])
    chosen = settings.get("scale", written.tree.get("scale"))
    if isinstance(chosen, str) and chosen in names:
        return chosen
    message = f"{'is missing' if chosen is None else 'no such scale'}; {nearest(chosen, names)}"
    set_here = "scale" in settings
    problem = on_command_line("scale", message, chosen) if set_here else written.problem(("scale",), message, chosen)
    problems.append(problem)
    return None


def _lay_over(layers: Sequence[Document], scale: str | None) -> Document:
    """Lays the files over each other, extended ones first, and over each the chosen one of its scales."""
    document = Document(layers[-1].path, {})
    at = ("scales", scale)
    for layer in layers:
        tree = dict(layer.tree)
        scales = tree.pop("scales", {})
        document.tree = merge(document.tree, tree)
        document.lines |= layer.lines
        if scale in scales:
            document.tree = merge(document.tree, scales[scale])
            document.lines |= {key[len(at) :]: line for key, line in layer.lines.items() if key[: len(at)] == at}
    return document


_EDITED = ("variants", "select", "sweep", "reference")


def _apply_settings(document: Document, settings: Mapping[str, Any]) -> None:
    """Adds settings to those that are applied last; those of `_EDITED` change the document's tree.

    A whole section of these, or an axis, is replaced; of the others none replaces what another has set.
    """
    below, laid = document.tree, Tree()
    for key, value in settings.items():
        section, _, rest = key.partition(".")
        if section not in (*_EDITED, "scales", "extends"):
            document.overrides[key] = anchor(value, tuple(key.split(".")), Path())
            continue
        try:
            path = _key_of_edit(document.tree, section, rest)
        except ValueError as error:
            document.problems.append(on_command_line(key, str(error), value))
            continue
        change = anchor_files(nested(path, value), Path())
        if section == "sweep" or not rest:
            axes = document.tree.get(section) if rest else None
            whole = {**(axes if isinstance(axes, Mapping) else {}), **change[section]} if rest else change[section]
            below = document.tree = document.tree | {section: whole}
            laid.pop(section, None)
        else:
            laid = _join(laid, change)
            document.tree = merge(below, laid)
        document.lines |= dict.fromkeys(_keys_within(path, value))


def _key_of_edit(tree: Tree, section: str, rest: str) -> Key:
    """Returns the key that a setting changes; an axis is itself a dotted path, and a variant's name may have dots.

    Raises:
      ValueError: it cannot be changed.
    """
    if section == "scales":
        raise ValueError("set the key itself, without scales and their name in front: it wins over every scale")
    if section == "extends":
        raise ValueError("cannot be set here: write into the file what it extends, or give that file")
    if not rest or section == "sweep":
        return (section, rest) if rest else (section,)
    if section == "reference":
        return (section, *rest.split("."))
    variants = tree.get(section)
    names = [str(name) for name in variants] if isinstance(variants, Mapping) else []
    name = next((name for name in names if f"{rest}.".startswith(f"{name}.")), None)
    if name is None and "." in rest:
        hint = nearest(rest.split(".")[0], names) if names else "the file has none"
        raise ValueError(f"there is no such variant; {hint}")
    return (section, rest) if name is None else (section, name, *rest.removeprefix(name).split(".")[1:])


def _keys_within(key: Key, value: Any) -> Iterator[Key]:
    """Yields the key of a value, and those of all that is in it."""
    yield key
    parts = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield from _keys_within((*key, str(name)), part)


def _load(path: Path, chain: tuple[Path, ...], blame: Callable[[str], Problem]) -> list[Document]:
    """Reads a file, after the files that it extends; `blame` places a mistake where the file's path was written."""
    try:
        resolved = path.resolve()
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError, RuntimeError) as error:  # ValueError: a null byte; RuntimeError: a loop of links
        reason = getattr(error, "strerror", None) or error
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else reason
        raise ExperimentError([blame(f"cannot be read: {reason}")]) from error
    if resolved in chain:
        raise ExperimentError([blame("the file extends itself")])
    document = _parse(path, text)
    document.tree = anchor_files(document.tree, path.parent)
    return _with_extended(document, path.parent, (*chain, resolved))


def _with_extended(document: Document, folder: Path, chain: tuple[Path, ...]) -> list[Document]:
    """Returns the documents that one extends, relative to a folder, and then the document itself."""
    if "extends" not in document.tree:
        return [document]
    name = document.tree.pop("extends")
    blame = functools.partial(document.problem, ("extends",), value=name)
    if not isinstance(name, str) or not name:
        raise ExperimentError([blame("expected the path of an experiment file, relative to this one")])
    return [*_load(folder / expand_path(name), chain, blame), document]


def _parse(path: Path, text: str) -> Document:
    try:
        tree, lines, problems = read_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else None
        if isinstance(error, yaml.reader.ReaderError):
            line = text.count("\n", 0, error.position) + 1
        raise ExperimentError([Problem("", f"not valid YAML: {reason(error)}", file=path, line=line)]) from error
    if not isinstance(tree, dict):
        raise ExperimentError([Problem("", "expected a mapping with name, model, data, cluster, …", file=path)])
    wrong = [Problem(".".join(key), message, file=path, line=line) for key, message, line in problems]
    return Document(path, tree, {key: (path, line) for key, line in lines.items()}, problems=wrong)
