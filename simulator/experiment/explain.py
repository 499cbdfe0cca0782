"""Keys of the experiment file, explained from its schema: meaning, unit, default, choices and an example."""

import inspect
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from simulator.experiment.file import DISCRIMINATORS
from simulator.experiment.problems import ExperimentError, Problem, nearest
from simulator.experiment.registry import BUILT_IN, GIVEN, Factory, registered
from simulator.experiment.schema.cluster import devices_form
from simulator.experiment.schema.json_schema import file_schema, quantity_of
from simulator.host.nearest import alike

Schema = Mapping[str, Any]

ANY = "NAME"
"""Stands in a dotted key for any name."""
OTHER = "any other name"
_MUST = "none: it has to be given"
_MAPPING = "a mapping with the keys below"
_TYPES = {"integer": "a whole number", "number": "a number", "string": "text", "boolean": "true or false"}
_IN_PYTHON = {"int": "integer", "float": "number", "str": "string", "bool": "boolean"}
_SAME_AS_FILE = ("#/$defs/Variant", "#/$defs/Scale")  # whose keys are those of the file


class Choice(NamedTuple):
    """Kind of a section, under which a key is there.

    Attributes:
      section: dotted key.
      by: name of the key that says the kind; "" where one of several keys is given instead.
      value: the kind, or the key that is given.
      of: all that there are.
    """

    section: str
    by: str
    value: str
    of: tuple[str, ...]


class Frame(NamedTuple):
    """Mapping around a value in an example: the key's name, what has to stand beside it, and whether in a list."""

    name: str
    beside: Mapping[str, Any]
    listed: bool


class Place(NamedTuple):
    """Key at one place of the schema: its value, and the kinds of the sections around it."""

    key: str
    schema: Schema
    required: bool = False
    under: tuple[Choice, ...] = ()
    frames: tuple[Frame, ...] = ()

    @property
    def name(self) -> str:
        """Last part of the key."""
        return self.key.rpartition(".")[2]


class Member(NamedTuple):
    """Mapping that a key's value can be: its schema, its kind where there are several, and whether in a list."""

    schema: Schema
    choice: Choice | None
    listed: bool


class Row(NamedTuple):
    """Key in a table, its meaning in short, and under which kinds it is there."""

    key: str
    meaning: str
    under: str


class Meaning(NamedTuple):
    """Meaning of a key under some kinds.

    Attributes:
      under: kinds of sections that it is there under; "" where it always is.
      facts: label to text: meaning, value, unit, default, choices, example.
    """

    under: str
    facts: dict[str, str]


class Explanation(NamedTuple):
    """Explanation of a key: its meanings, and the kinds and keys of a section."""

    key: str
    meanings: tuple[Meaning, ...]
    kinds: tuple[tuple[str, str], ...]
    keys: tuple[Row, ...]


class Keys:
    """Keys that an experiment file can have.

    Args:
      outer: outer optimizers of one's own, by name; policies of one's own are known to the registry.
    """

    def __init__(self, outer: Mapping[str, Factory] | None = None):
        whole = file_schema(partial=False)
        self._definitions = whole["$defs"]
        for section in BUILT_IN:
            self._add_own(whole["properties"][section], section, "kind", registered(section), GIVEN[section])
        self._add_own(whole["properties"]["outer"], "outer", "optimizer", outer or {}, ("learning_rate",))
        self._root = Place("", whole)

    def rows(self, section: str = "", depth: int = 3) -> list[Row]:
        """Returns the keys below a section, the whole file at first, as deep as `depth` names."""
        found: dict[str, list[Place]] = {}
        for start in self._places(section):
            for place in self._walk(start, depth):
                found.setdefault(place.key, []).append(place)
        return [self._row(key, places) for key, places in found.items()]

    def explain(self, key: str) -> Explanation:
        """Returns the explanation of a dotted key.

        Raises:
          ExperimentError: there is no such key; the message has the nearest one.
        """
        places = self._places(key)
        same: dict[str, list[Place]] = {}
        for place in places:
            same.setdefault(json.dumps([place.schema, place.required], sort_keys=True), []).append(place)
        meanings = tuple(Meaning(_under(each), self._facts(each[0])) for each in same.values())
        section, _, name = key.rpartition(".")
        kinds: dict[str, str] = {}
        for place in (*places, *self._places(section)):
            for schema, choice, _ in self._members(place):
                if choice and (place.key == key or choice.by == name):
                    kinds.setdefault(choice.value, schema.get("description", ""))
        return Explanation(key, meanings, tuple(kinds.items()), tuple(self.rows(key, depth=key.count(".") + 2)))

    def examples(self) -> Iterator[tuple[str, str]]:
        """Yields every key with each of its examples."""
        for place in self._walk(self._root):
            example = self._example_of(place)
            if example is not None:
                yield place.key, example

    def _add_own(
        self, union: dict[str, Any], section: str, by: str, factories: Mapping[str, Factory], given: Iterable[str]
    ) -> None:
        """Adds what is registered to the kinds of a section; a policy's name is then one of these or a built-in one."""
        *_, named = union["anyOf"]
        if factories and section in BUILT_IN:
            union["anyOf"].remove(named)
        general = self._definitions[named["$ref"].rpartition("/")[2]]
        for name, factory in factories.items():
            own = {by: {"const": name}, "arguments": _arguments_of(name, factory, given)}
            description = (
                inspect.getdoc(getattr(factory, "func", factory)) or "Registered by a plugin."
            )  # or a partial's
            union["anyOf"].append(
                {**general, "description": description, "properties": {**general["properties"], **own}}
            )

    def _places(self, key: str) -> list[Place]:
        """Returns the places of a key, or of the whole file for "".

        Raises:
          ExperimentError: there is no such key.
        """
        places = [self._root]
        for part in key.split(".") if key else ():
            found = [child for place in places for child in self._named(place, part)]
            if not found:
                names = {child.name for place in places for child in self._children(place)}
                raise ExperimentError([Problem(key, f"unknown key; {self._hint(key, part, names)}")])
            places = found
        return places

    def _hint(self, key: str, part: str, names: Iterable[str]) -> str:
        """Returns the nearest name beside it, or the key elsewhere whose last name is the same or like it."""
        last = key.rpartition(".")[2]
        ends: dict[str, list[str]] = {}
        for place in self._walk(self._root):
            ends.setdefault(place.name, []).append(place.key)
        elsewhere = alike(last, ends)
        if elsewhere and (elsewhere == [last] or not alike(part, names)):
            return f"did you mean {alike(key, ends[elsewhere[0]], cutoff=0)[0]!r}?"
        return nearest(part, names)

    def _walk(self, place: Place, depth: float = math.inf) -> Iterator[Place]:
        """Yields the places below one, as deep as `depth` names of a key."""
        if place.key.count(".") + bool(place.key) >= depth or place.schema.get("$ref") in _SAME_AS_FILE:
            return
        for child in self._children(place):
            yield child
            yield from self._walk(child, depth)

    def _named(self, place: Place, name: str) -> list[Place]:
        """Returns the children of a name, of any name where the mapping is open; a number is a place in a list."""
        children = list(self._children(place))
        found = [child for child in children if child.name == name]
        if found:
            return found
        if name.isdecimal() and _is_list(self._resolved(place.schema)):
            return [place]
        return [
            child._replace(key=f"{child.key.removesuffix(ANY)}{name}", frames=_renamed(child.frames, name))
            for child in children
            if child.name == ANY
        ] or [
            Place(f"{place.key}.{name}", {"description": self._description(place.schema)})
            for member in self._members(place)
            if member.schema.get("additionalProperties") is True
        ]

    def _children(self, place: Place) -> Iterator[Place]:
        """Yields the keys of the mappings that a key's value can be, that which chooses among them once."""
        kinds: list[Member] = []
        for member in self._members(place):
            choice, properties = member.choice, member.schema.get("properties", {})
            required = member.schema.get("required", ())
            for name, schema in properties.items():
                if choice and name == choice.by:
                    kinds.append(member)
                    if len(kinds) == 1:
                        yield self._kind_key(place, name)
                    continue
                yield self._child(place, name, schema, member, required=name in required)
            more = member.schema.get("additionalProperties")
            if isinstance(more, Mapping):
                yield self._child(place, ANY, more, member)

    def _child(self, place: Place, name: str, schema: Schema, member: Member, *, required: bool = False) -> Place:
        under, choice, in_example = place.under, member.choice, name
        if choice and name == "file":  # which stands for the columns of any form
            choice = choice._replace(value=name, of=(*choice.of, name))
        if name == ANY:
            schema = {"description": self._description(schema) or self._description(place.schema), **schema}
            if "examples" in member.schema:
                in_example, value = next(iter(member.schema["examples"][0].items()))
                schema["examples"] = [value]
        # A mapping of another kind, in a list, or that may be absent has to be complete.
        complete = (choice or member.listed or not place.required) and place.key and name != "file"
        frame = Frame(in_example, self._needed(member.schema) if complete else {}, member.listed)
        under += (choice,) if choice else ()
        return Place(f"{place.key}.{name}".lstrip("."), schema, required, under, (*place.frames, frame))

    def _kind_key(self, place: Place, name: str) -> Place:
        """Returns the key that chooses among the kinds of a section."""
        schema = self._resolved(place.schema)
        members = self._members(place)
        choices = [member.choice.value for member in members if member.choice]
        own: dict[str, Any] = {"description": _or(choices), "enum": choices}
        if name in (schema.get("default") or ()):
            own["default"] = schema["default"][name]
        chosen = next(member for member in members if member.choice and member.choice.value == self._example(own))
        frame = Frame(name, self._needed(chosen.schema), chosen.listed)
        key = f"{place.key}.{name}".lstrip(".")
        return Place(key, own, "default" not in own, place.under, (*place.frames, frame))

    def _members(self, place: Place) -> list[Member]:
        """Returns the mappings that a key's value can be, by kind where there are several."""
        found = list(self._mappings(place.schema))
        properties = [schema.get("properties", {}) for schema, _ in found]
        if len(found) < 2 or not all(properties):
            return [Member(schema, None, listed) for schema, listed in found]
        by = next((name for name in DISCRIMINATORS if all(name in each for each in properties)), "")
        values: list[str | None] = [
            each[by].get("const", OTHER) if by else devices_form({name: None for name in each if name != "file"})
            for each in properties
        ]
        of = tuple(value for value in values if value)
        return [
            Member(schema, Choice(place.key, by, value, of) if value else None, listed)
            for (schema, listed), value in zip(found, values, strict=True)
        ]

    def _mappings(self, schema: Schema, *, listed: bool = False) -> Iterator[tuple[Schema, bool]]:
        schema = self._resolved(schema)
        for each in schema.get("anyOf", ()):
            yield from self._mappings(each, listed=listed)
        if "items" in schema:
            yield from self._mappings(schema["items"], listed=True)
        if "properties" in schema or schema.get("additionalProperties"):
            yield schema, listed

    def _resolved(self, schema: Schema) -> Schema:
        """Returns a schema with the definition that it refers to, over which its own words are laid."""
        if "$ref" not in schema:
            return schema
        own = {name: value for name, value in schema.items() if name != "$ref"}
        return {**self._definitions[schema["$ref"].rpartition("/")[2]], **own}

    def _description(self, schema: Schema) -> str:
        """Returns a schema's own description, or that of the first alternative that has one."""
        schema = self._resolved(schema)
        found = (schema.get("description"), *map(self._description, schema.get("anyOf", ())))
        return next((each for each in found if each), "")

    def _row(self, key: str, places: list[Place]) -> Row:
        texts = [" ".join(self._description(place.schema).partition("\n\n")[0].split()) for place in places]
        section = key.rpartition(".")[0]  # what those around it depend on is said of them
        own = [place._replace(under=tuple(each for each in place.under if each.section == section)) for place in places]
        return Row(key, "; or: ".join(dict.fromkeys(text for text in texts if text)), _under(own))

    def _facts(self, place: Place) -> dict[str, str]:
        """Returns what there is to say of a key at one place, label to text."""
        schema = self._resolved(place.schema)
        facts = {"meaning": self._description(schema), "value": self._values(place.schema)}
        quantity = quantity_of(schema)
        if quantity is not None:
            bare = f"{quantity.bare_unit}, or as written: " if quantity.bare_unit else ""
            facts["unit"] = f"{bare}{', '.join(quantity.units)}"
        if "enum" in schema:
            facts["choices"] = ", ".join(map(str, schema["enum"]))
        default = _MUST if place.required else "none" if schema.get("default") is None else _yaml(schema["default"])
        if facts["value"] != _MAPPING or default != "none":
            facts["default"] = default
        facts["example"] = self._example_of(place) or ""
        return {label: text for label, text in facts.items() if text}

    def _values(self, schema: Schema) -> str:
        """Returns in words which values are accepted."""
        if schema.get("$ref") in _SAME_AS_FILE:
            return "a mapping with keys of the file"
        schema = self._resolved(schema)
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
            return f"a list, each {self._values(schema['items'])}"
        if "properties" in schema:
            return _MAPPING
        types = schema.get("type", ())
        words = [_TYPES.get(each, {"array": "a list", "object": "a mapping"}.get(each, "")) for each in _listed(types)]
        return f"{' or '.join(word for word in words if word)}{_bounds(schema)}"

    def _example_of(self, place: Place) -> str | None:
        """Returns a line of YAML, from the top of a file, that gives a key a value; None where none is known."""
        value = self._example(place.schema)
        for frame in reversed(place.frames):
            value = {**frame.beside, frame.name: value}
            value = [value] if frame.listed else value
        return None if _lacks(value) else _yaml(value).removeprefix("{").removesuffix("}")

    def _example(self, schema: Schema) -> Any:
        """Returns a value that a schema accepts, another one than the default where it is one of a few."""
        schema = self._resolved(schema)
        default = schema.get("default")
        if "examples" in schema:
            return schema["examples"][0]
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return next((each for each in schema["enum"] if each not in (default, OTHER)), schema["enum"][0])
        if "anyOf" in schema:
            return self._example(schema["anyOf"][0])
        if "properties" in schema:
            return self._needed(
                schema, at_least=2 if any(name in schema["properties"] for name in DISCRIMINATORS) else 1
            )
        if "items" in schema:
            item = self._example(schema["items"])
            return None if item is None else [item]
        if schema.get("type") == "boolean":
            return not default
        return default if default is not None else _number(schema)

    def _needed(self, schema: Schema, at_least: int = 0) -> dict[str, Any]:
        """Returns examples of the keys of a mapping that have no default, and of the first others if those are few."""
        properties, required = schema.get("properties", {}), schema.get("required", ())
        others = [name for name in properties if name not in required]
        chosen = [*required, *others[: max(at_least - len(required), 0)]]
        chosen.sort(key=lambda name: (name not in DISCRIMINATORS, list(properties).index(name)))
        return {name: self._example(properties[name]) for name in chosen}


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
        elif isinstance(default, bool | int | float | str | list | tuple | dict):
            own |= {"default": default, "examples": [default]}
        elif default is not None:
            own["description"] += f", {getattr(default, '__qualname__', repr(default))} when absent"
        schema["properties"][parameter.name] = own
    return schema


def _under(places: Iterable[Place]) -> str:
    """Returns in words the kinds under which a key is at some places, "" where it is under all."""
    found: dict[tuple[str, str], tuple[list[str], Choice]] = {}
    name = ""
    for place in places:
        name = place.key
        for choice in place.under:
            values, _ = found.setdefault((choice.section, choice.by), ([], choice))
            if choice.value not in values:
                values.append(choice.value)
    return "; ".join(text for values, choice in found.values() if (text := _kinds(name, values, choice)))


def _kinds(key: str, values: list[str], choice: Choice) -> str:
    if set(values) >= set(choice.of):
        return ""
    if choice.by:
        return f"{choice.section}.{choice.by} is {_or(values)}"
    given = [f"{choice.section}.{value}" for value in values]
    if key.startswith(tuple(f"{each}." for each in given)):
        return ""
    if key in given:
        return f"in place of {_or([value for value in choice.of if value not in values])}"
    return f"beside {_or(given)}"


def _or(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]


def _bounds(schema: Schema) -> str:
    words: Mapping[str, str] = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    small = 2**31  # above which they are those of the computer
    return "".join(f", {word} {schema[key]:,}" for key, word in words.items() if schema.get(key, small) < small)


def _number(schema: Schema) -> Any:
    """Returns a number within the bounds of a schema, None where it is none."""
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    high = schema.get("maximum", schema.get("exclusiveMaximum", math.inf))
    kinds: Mapping[str, Callable[[], Any]] = {
        "integer": lambda: max(low, 1),
        "number": lambda: low + 1.0 if high > low + 1 else (low + high) / 2,
    }
    return next((kinds[each]() for each in _listed(schema.get("type", ())) if each in kinds), None)


def _is_list(schema: Schema) -> bool:
    return "array" in _listed(schema.get("type", ())) or any(map(_is_list, schema.get("anyOf", ())))


def _listed(types: Any) -> list[str]:
    return [types] if isinstance(types, str) else list(types)


def _renamed(frames: tuple[Frame, ...], name: str) -> tuple[Frame, ...]:
    return (*frames[:-1], frames[-1]._replace(name=name))


def _lacks(value: Any) -> bool:
    """Returns whether there is no example of a part of a value."""
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return value is None or any(map(_lacks, parts))


def _yaml(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf)
    return text.removesuffix("\n").removesuffix("\n...")
