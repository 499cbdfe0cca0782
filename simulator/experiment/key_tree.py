"""Keys of the experiment file as its schema has them: where they stand, under which kinds, with an example each."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from simulator.experiment.file import DISCRIMINATORS
from simulator.experiment.schema.cluster import devices_form

Schema = Mapping[str, Any]

ANY = "NAME"
"""Stands in a dotted key for any name."""
OTHER = "any other name"
SAME_AS_FILE = ("#/$defs/Variant", "#/$defs/Scale")
"""Mappings whose keys are those of the file."""


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


class KeyTree:
    """Keys of an experiment file, each below its section.

    Args:
      schema: JSON Schema of the file, with the keys that have no default.
    """

    def __init__(self, schema: Schema):
        self._definitions = schema["$defs"]
        self.root = Place("", schema)

    def below(self, place: Place, depth: float = math.inf) -> Iterator[Place]:
        """Yields the places below one, as deep as `depth` names of a key."""
        if place.key.count(".") + bool(place.key) >= depth or place.schema.get("$ref") in SAME_AS_FILE:
            return
        for child in self.children(place):
            yield child
            yield from self.below(child, depth)

    def named(self, place: Place, name: str) -> list[Place]:
        """Returns the children of a name, of any name where the mapping is open; a number is a place in a list."""
        children = list(self.children(place))
        found = [child for child in children if child.name == name]
        if found:
            return found
        if name.isdecimal() and _is_list(self.resolved(place.schema)):
            return [place]
        return [
            child._replace(key=f"{child.key.removesuffix(ANY)}{name}", frames=_renamed(child.frames, name))
            for child in children
            if child.name == ANY
        ] or [
            Place(f"{place.key}.{name}", {"description": self.description(place.schema)}, under=place.under)
            for member in self.members(place)
            if member.schema.get("additionalProperties") is True
        ]

    def children(self, place: Place) -> Iterator[Place]:
        """Yields the keys of the mappings that a key's value can be, that which chooses among them once."""
        kinds: list[Member] = []
        for member in self.members(place):
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

    def members(self, place: Place) -> list[Member]:
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

    def example(self, place: Place) -> str | None:
        """Returns a line of YAML, from the top of a file, that gives a key a value; None where none is known."""
        value = self._value(place.schema)
        for frame in reversed(place.frames):
            value = {**frame.beside, frame.name: value}
            value = [value] if frame.listed else value
        return None if _lacks(value) else as_yaml(value).removeprefix("{").removesuffix("}")

    def resolved(self, schema: Schema) -> Schema:
        """Returns a schema with the definition that it refers to, over which its own words are laid."""
        if "$ref" not in schema:
            return schema
        own = {name: value for name, value in schema.items() if name != "$ref"}
        return {**self._definitions[schema["$ref"].rpartition("/")[2]], **own}

    def description(self, schema: Schema) -> str:
        """Returns a schema's own description, or that of the first alternative that has one."""
        schema = self.resolved(schema)
        found = (schema.get("description"), *map(self.description, schema.get("anyOf", ())))
        return next((each for each in found if each), "")

    def _child(self, place: Place, name: str, schema: Schema, member: Member, *, required: bool = False) -> Place:
        under, choice, in_example = place.under, member.choice, name
        if choice and name == "file":  # which stands for the columns of any form
            choice = choice._replace(value=name, of=(*choice.of, name))
        if name == ANY:
            schema = {"description": self.description(schema) or self.description(place.schema), **schema}
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
        schema = self.resolved(place.schema)
        members = self.members(place)
        choices = [member.choice.value for member in members if member.choice]
        own: dict[str, Any] = {"description": either(choices), "enum": choices}
        if name in (schema.get("default") or ()):
            own["default"] = schema["default"][name]
        chosen = next(member for member in members if member.choice and member.choice.value == self._value(own))
        frame = Frame(name, self._needed(chosen.schema), chosen.listed)
        key = f"{place.key}.{name}".lstrip(".")
        return Place(key, own, "default" not in own, place.under, (*place.frames, frame))

    def _mappings(self, schema: Schema, *, listed: bool = False) -> Iterator[tuple[Schema, bool]]:
        schema = self.resolved(schema)
        for each in schema.get("anyOf", ()):
            yield from self._mappings(each, listed=listed)
        if "items" in schema:
            yield from self._mappings(schema["items"], listed=True)
        if "properties" in schema or schema.get("additionalProperties"):
            yield schema, listed

    def _value(self, schema: Schema) -> Any:
        """Returns a value that a schema accepts, another one than the default where it is one of a few."""
        schema = self.resolved(schema)
        default = schema.get("default")
        if "examples" in schema:
            return schema["examples"][0]
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return next((each for each in schema["enum"] if each not in (default, OTHER)), schema["enum"][0])
        if "anyOf" in schema:
            return self._value(schema["anyOf"][0])
        if "properties" in schema:
            return self._needed(
                schema, at_least=2 if any(name in schema["properties"] for name in DISCRIMINATORS) else 1
            )
        if "items" in schema:
            item = self._value(schema["items"])
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
        return {name: self._value(properties[name]) for name in chosen}


def either(names: list[str]) -> str:
    """Returns names as alternatives: "a, b or c"."""
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]


def _number(schema: Schema) -> Any:
    """Returns a number within the bounds of a schema, None where it is none."""
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    high = schema.get("maximum", schema.get("exclusiveMaximum", math.inf))
    kinds: Mapping[str, Callable[[], Any]] = {
        "integer": lambda: max(low, 1),
        "number": lambda: low + 1.0 if high > low + 1 else (low + high) / 2,
    }
    return next((kinds[each]() for each in types_of(schema.get("type", ())) if each in kinds), None)


def _is_list(schema: Schema) -> bool:
    return "array" in types_of(schema.get("type", ())) or any(map(_is_list, schema.get("anyOf", ())))


def types_of(types: Any) -> list[str]:
    """Returns a schema's types, of which it may have one or a list."""
    return [types] if isinstance(types, str) else list(types)


def _renamed(frames: tuple[Frame, ...], name: str) -> tuple[Frame, ...]:
    return (*frames[:-1], frames[-1]._replace(name=name))


def _lacks(value: Any) -> bool:
    """Returns whether there is no example of a part of a value."""
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return value is None or any(map(_lacks, parts))


def as_yaml(value: Any) -> str:
    """Returns a value as YAML has it in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf)
    return text.removesuffix("\n").removesuffix("\n...")
