"""Safe YAML with line numbers, whose keys are text and stand once."""

import re
from typing import Any

import yaml

Key = tuple[str, ...]
_MERGE = "tag:yaml.org,2002:merge"


_MOST_DIGITS = 1000  # Python refuses to print numbers of several thousand


def _integer(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"more than {_MOST_DIGITS} digits")
    return int(text.replace("_", ""), 16 if "x" in text else 10)


class _Loader(yaml.SafeLoader):
    """Safe loader that reads numbers as YAML 1.2 does: `1e-3` is a number, `010` is ten and `1:30` is text."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError) as error:  # PyYAML lets these out of bad scalars
            tag = node.tag.rpartition(":")[2]
            message = f"{str(node.value)[:40]!r} is not a valid {tag}"
            raise yaml.constructor.ConstructorError(None, None, message, node.start_mark) from error


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in ("int", "float")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"[-+]?(?:\d[\d_]*|0x[\da-fA-F_]+)$", re.ASCII), list("-+0123456789")
)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: _integer(node.value))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|\.(?:inf|Inf|INF)|\.nan)$", re.ASCII),
    list("-+0123456789."),
)


def read_yaml(text: str) -> tuple[Any, dict[Key, int], list[tuple[Key, str, int]]]:
    """Returns the value, the line of every key, and (key, message, line) of keys that are not text or stand twice.

    Those keys are left out of the value.
    """
    lines: dict[Key, int] = {}
    problems: list[tuple[Key, str, int]] = []
    try:
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return None, lines, problems
            _index(root, (), lines, problems, limit=10_000 + len(text))
            return loader.construct_document(root), lines, problems
        finally:
            loader.dispose()
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply, or an anchor contains itself") from None


def _index(
    node: yaml.Node, key: Key, lines: dict[Key, int], problems: list[tuple[Key, str, int]], *, limit: int
) -> None:
    """Collects the line of every key and list element; collects and removes keys that are not text, or stand twice."""
    if len(lines) > limit:  # without anchors there are fewer entries than characters
        raise yaml.YAMLError(f"it has over {limit} entries: anchors that multiply")
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for pair in sorted(node.value, key=lambda pair: pair[0].tag != _MERGE):  # own keys come last
            key_node, value_node = pair
            line = key_node.start_mark.line + 1
            name = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else ""
            child = (*key, name)
            is_text = key_node.tag in ("tag:yaml.org,2002:str", _MERGE)
            if name in seen or not is_text:
                message = "this key stands here twice" if name in seen else "keys must be text: put it in quotes"
                problems.append((child, message, line))
                node.value.remove(pair)
                continue
            seen.add(name)
            if key_node.tag == _MERGE:
                merged = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                for mapping in reversed(merged):
                    _index(mapping, key, lines, problems, limit=limit)
                continue
            lines[child] = line
            _index(value_node, child, lines, problems, limit=limit)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*key, str(index))] = item.start_mark.line + 1
            _index(item, (*key, str(index)), lines, problems, limit=limit)


def parse_value(text: str) -> Any:
    """Returns a command-line value as YAML reads it: number, text, list or mapping.

    Raises:
      yaml.YAMLError: it is not YAML, repeats a key, or has a key that is not text.
    """
    value, _, problems = read_yaml(text)
    if problems:
        key, message, _ = problems[0]
        raise yaml.YAMLError(f"{'.'.join(key)}: {message}")
    return value


def reason(error: Exception) -> str:
    """Returns PyYAML's message in one line."""
    parts = [getattr(error, "context", None), getattr(error, "problem", None)]
    return ": ".join(part for part in parts if part) or str(error).splitlines()[0]
