"""Keys of the experiment file, explained from its schema: meaning, unit, default, choices and an example."""

import contextlib
import inspect
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from simulator.experiment.key_tree import SAME_AS_FILE, Choice, KeyTree, Place, Schema, as_yaml, either, types_of
from simulator.experiment.problems import ExperimentError, Problem, nearest
from simulator.experiment.registry import SLOTS, Factory, Slot, registered
from simulator.experiment.schema.json_schema import file_schema, quantity_of
from simulator.host.nearest import alike

_MUST = "none: it has to be given"
_MAPPING = "a mapping with the keys below"
_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
}
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}
_IN_PYTHON = {"int": "integer", "float": "number", "str": "string", "bool": "boolean"}


class Row(NamedTuple):
    """Key in a table, its meaning in short, and under which kinds it is there."""

    key: str
    meaning: str
    under: str


class Meaning(NamedTuple):
    """Meaning of a key under some kinds of sections, "" under all; facts by label, such as unit, default, example."""

    under: str
    facts: dict[str, str]


class Explanation(NamedTuple):
    """Explanation of a key: its meanings, and the kinds and keys of a section."""

    key: str
    meanings: tuple[Meaning, ...]
    kinds: tuple[tuple[str, str], ...]
    keys: tuple[Row, ...]


class Keys:
    """Keys that an experiment file can have, those of registered policies and optimizers among them."""

    def __init__(self) -> None:
        schema = file_schema(partial=False)
        for section, slot in SLOTS.items():
            _add_own(schema, section, slot, registered(section))
        self._tree = KeyTree(schema)

    def rows(self, section: str = "", depth: int = 3) -> list[Row]:
        """Returns the keys below a section, the whole file at first, as deep as `depth` names."""
        found: defaultdict[str, list[Place]] = defaultdict(list)
        for start in self._places(section):
            for place in self._tree.below(start, depth):
                found[place.key].append(place)
        return [self._row(key, places) for key, places in found.items()]

    def explain(self, key: str) -> Explanation:
        """Returns the explanation of a dotted key.

        Raises:
          ExperimentError: there is no such key; the message has the nearest one.
        """
        places = self._places(key)
        same: defaultdict[str, list[Place]] = defaultdict(list)
        for place in places:
            same[json.dumps([place.schema, place.required], sort_keys=True, default=repr)].append(place)
        meanings = tuple(Meaning(_under(each), self._facts(each[0])) for each in same.values())
        section, _, name = key.rpartition(".")
        kinds: dict[str, str] = {}
        for place in (*places, *self._places(section)):
            for schema, choice, _ in self._tree.members(place):
                if choice and (place.key == key or choice.by == name):
                    kinds.setdefault(choice.value, schema.get("description", ""))
        return Explanation(key, meanings, tuple(kinds.items()), tuple(self.rows(key, depth=key.count(".") + 2)))

    def examples(self) -> Iterator[tuple[str, str]]:
        """Yields every key with each of its examples."""
        for place in self._tree.below(self._tree.root):
            example = self._tree.example(place)
            if example is not None:
                yield place.key, example

    def _places(self, key: str) -> list[Place]:
        places = [self._tree.root]
        for part in key.split(".") if key else ():
            found = [child for place in places for child in self._tree.named(place, part)]
            if not found:
                names = {child.name for place in places for child in self._tree.children(place)}
                raise ExperimentError([Problem(key, f"unknown key; {self._hint(key, part, names)}")])
            places = found
        return places

    def _hint(self, key: str, part: str, names: Iterable[str]) -> str:
        """Returns the nearest name beside it, or the key elsewhere whose last name is the same or like it."""
        last = key.rpartition(".")[2]
        ends: defaultdict[str, list[str]] = defaultdict(list)
        for place in self._tree.below(self._tree.root):
            ends[place.name].append(place.key)
        elsewhere = alike(last, ends)
        if elsewhere and (elsewhere == [last] or not alike(part, names)):
            filled = [each for each in ends[elsewhere[0]] if not each.startswith("method.")]  # by a method, or itself
            return f"did you mean {alike(key, filled or ends[elsewhere[0]], cutoff=0)[0]!r}?"
        return nearest(part, names)

    def _row(self, key: str, places: list[Place]) -> Row:
        texts = [" ".join(self._tree.description(place.schema).partition("\n\n")[0].split()) for place in places]
        section = key.rpartition(".")[0]  # what those around it depend on is said of them
        own = [place._replace(under=tuple(each for each in place.under if each.section == section)) for place in places]
        return Row(key, "; or: ".join(dict.fromkeys(text for text in texts if text)), _under(own))

    def _facts(self, place: Place) -> dict[str, str]:
        schema = self._tree.resolved(place.schema)
        facts = {"meaning": self._tree.description(schema), "value": self._values(place.schema)}
        quantity = quantity_of(schema)
        if quantity is not None:
            bare = f"{quantity.bare_unit}, or as written: " if quantity.bare_unit else ""
            facts["unit"] = f"{bare}{', '.join(quantity.units)}"
        if "enum" in schema:
            facts["choices"] = ", ".join(map(str, schema["enum"]))
        default = _MUST if place.required else "none" if schema.get("default") is None else as_yaml(schema["default"])
        if facts["value"] != _MAPPING or default != "none":
            facts["default"] = default
        facts["example"] = self._tree.example(place) or ""
        return {label: text for label, text in facts.items() if text}

    def _values(self, schema: Schema) -> str:
        """Returns in words which values are accepted."""
        if schema.get("$ref") in SAME_AS_FILE:
            return "a mapping with keys of the file"
        schema = self._tree.resolved(schema)
        quantity = None if "anyOf" in schema or "items" in schema else quantity_of(schema)
        if quantity is not None:
            return f"a {quantity.name}{f' or {quantity.unbounded}' if quantity.unbounded else ''}"
        if "enum" in schema:
            return "one of the choices"
        if "const" in schema:
            return str(schema["const"])
        if "anyOf" in schema:
            texts = dict.fromkeys(self._values(each) for each in schema["anyOf"] if each.get("type") != "null")
            return ", or ".join(text for text in texts if text)
        if "items" in schema:
            others = [_TYPES[each] for each in types_of(schema) if each != "array"]
            return ", or ".join([f"a list, each {self._values(schema['items'])}", *others])
        if "properties" in schema:
            return _MAPPING
        words = [_TYPES[each] for each in types_of(schema) if each in _TYPES]
        return f"{' or '.join(words)}{_bounds(schema)}"


def _add_own(schema: dict[str, Any], section: str, slot: Slot, factories: Mapping[str, Factory]) -> None:
    """Adds what is registered to the kinds of a section; a policy's name is then one of these or a built-in one."""
    union = schema["properties"][section]["anyOf"]
    *_, named = union
    if factories and section != "outer":  # which may be any of optax too
        union.remove(named)
    general = schema["$defs"][named["$ref"].rpartition("/")[2]]
    for name, factory in factories.items():
        own = {slot.key: {"const": name}, "arguments": _arguments_of(name, factory, slot.given)}
        description = inspect.getdoc(getattr(factory, "func", factory)) or "Registered by a plugin."  # or a partial's
        union.append({**general, "description": description, "properties": {**general["properties"], **own}})


def _arguments_of(name: str, factory: Factory, given: Iterable[str]) -> dict[str, Any]:
    """Returns the schema of the arguments that a registered factory takes, besides those it is given anyway."""
    schema: dict[str, Any] = {"type": "object", "description": f"arguments of {name}", "properties": {}, "required": []}
    schema["additionalProperties"] = False
    try:
        parameters = inspect.signature(factory).parameters
    except ValueError:  # there is none to be had
        return schema | {"additionalProperties": True}
    for parameter in parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            schema["additionalProperties"] = True
        if parameter.name in given or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        empty, default = parameter.empty, parameter.default
        written = "" if parameter.annotation is empty else inspect.formatannotation(parameter.annotation)
        own: dict[str, Any] = {"description": f"argument of {name}: {written}" if written else f"argument of {name}"}
        if written.strip("'") in _IN_PYTHON:
            own["type"] = _IN_PYTHON[written.strip("'")]
        if default is empty:
            schema["required"].append(parameter.name)
            own["examples"] = [None]  # only the factory knows which values it takes
        else:
            with contextlib.suppress(yaml.YAMLError):  # of values that a file cannot have
                as_yaml(default)
                own |= {"default": default, "examples": [default]}
            if "default" not in own:
                own["description"] += f", {getattr(default, '__qualname__', repr(default))} when absent"
        schema["properties"][parameter.name] = own
    taken = ", ".join(schema["properties"]) or "none"
    return schema | {"description": f"arguments of {name}: {taken}"}


def _under(places: Iterable[Place]) -> str:
    """Returns in words the kinds under which a key is at some places, "" where it is under all."""
    found: defaultdict[tuple[str, str], dict[str, Choice]] = defaultdict(dict)
    key = ""
    for place in places:
        key = place.key
        for choice in place.under:
            found[choice.section, choice.by].setdefault(choice.value, choice)
    return "; ".join(text for choices in found.values() if (text := _kinds(key, list(choices.values()))))


def _kinds(key: str, choices: list[Choice]) -> str:
    section, by, _, of = choices[0]
    values = [choice.value for choice in choices]
    if set(values) >= set(of):
        return ""
    if by:
        return f"{section}.{by} is {either(values)}"
    given = [f"{section}.{value}" for value in values]
    if key.startswith(tuple(f"{each}." for each in given)):
        return ""
    if key in given:
        return f"in place of {either([value for value in of if value not in values])}"
    return f"beside {either(given)}"


def _bounds(schema: Schema) -> str:
    small = 2**31  # above which they are those of the computer
    return "".join(f", {word} {schema[key]:,}" for key, word in _BOUNDS.items() if schema.get(key, small) < small)
