"""Keys of the experiment file as its schema has them: where they stand, under which kinds, with an example each."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from simulator.experiment.file import DISCRIMINATORS
from simulator.experiment.schema.devices import devices_form

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


class Place(NamedTuple):
    """Key at one place of the schema: its value, and the kinds of the sections around it.

    Attributes:
      key: dotted.
      schema: of its value.
      required: whether it has no default.
      under: kinds of the sections around it.
      within: puts an example of its value into the mappings around it.
    """

    key: str
    schema: Schema
    required: bool = False
    under: tuple[Choice, ...] = ()
    within: Callable[[Any], Any] = lambda value: value

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
        found = [child for child in self.children(place) if child.name == name]
        if not found and name.isdecimal() and _is_list(self.resolved(place.schema)):
            return [place]
        return (
            found
            or [child for child in self.children(place, any_name=name) if child.name == name]
            or [
                Place(f"{place.key}.{name}", {"description": self.description(place.schema)}, under=place.under)
                for member in self.members(place)
                if member.schema.get("additionalProperties") is True
            ]
        )

    def children(self, place: Place, any_name: str = ANY) -> Iterator[Place]:
        """Yields the keys of the mappings that a key's value can be, that which chooses among them once."""
        members = self.members(place)
        for member in members:
            for name, schema in member.schema.get("properties", {}).items():
                if not member.choice or name != member.choice.by:
                    yield self._child(place, member, name, schema)
                elif member is members[0]:
                    yield self._kind(place, members, name)
            more, in_example = member.schema.get("additionalProperties"), any_name
            if isinstance(more, Mapping):
                more = {"description": self.description(more) or self.description(place.schema), **more}
                for example, value in (member.schema.get("examples") or ({},))[0].items():
                    more["examples"] = [value]
                    in_example = example if any_name == ANY else any_name
                yield self._child(place, member, any_name, more, in_example)

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
        value = place.within(self._value(place.schema))
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

    def _child(self, place: Place, member: Member, name: str, schema: Schema, in_example: str = "") -> Place:
        under, choice = place.under, member.choice
        if choice and name == "file":  # which stands for the columns of any form
            choice = choice._replace(value=name, of=(*choice.of, name))
        # A mapping of another kind, in a list, or that may be absent has to be complete.
        complete = (choice or member.listed or not place.required) and place.key and name != "file"
        beside = self._needed(member.schema) if complete else {}
        return Place(
            f"{place.key}.{name}".lstrip("."),
            schema,
            name in member.schema.get("required", ()),
            (*under, choice) if choice else under,
            _within(place, member.listed, in_example or name, beside),
        )

    def _kind(self, place: Place, members: list[Member], name: str) -> Place:
        schema = self.resolved(place.schema)
        choices = [member.choice.value for member in members if member.choice]
        own: dict[str, Any] = {"description": either(choices), "enum": choices}
        if name in (schema.get("default") or ()):
            own["default"] = schema["default"][name]
        chosen = members[choices.index(self._value(own))]
        within = _within(place, chosen.listed, name, self._needed(chosen.schema))
        return Place(f"{place.key}.{name}".lstrip("."), own, "default" not in own, place.under, within)

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
            return self._needed(schema, at_least=2 if set(DISCRIMINATORS) & set(schema["properties"]) else 1)
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


def _within(place: Place, listed: bool, name: str, beside: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Returns a function that puts the value of a child into an example, with what has to stand beside it."""

    def within(value: Any) -> Any:
        mapping = {**beside, name: value}
        return place.within([mapping] if listed else mapping)

    return within


def either(names: list[str]) -> str:
    """Returns names as alternatives: "a, b or c"."""
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]


def _number(schema: Schema) -> Any:
    """Returns a number within the bounds of a schema, None where it is none."""
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    high = schema.get("maximum", schema.get("exclusiveMaximum", math.inf))
    types = types_of(schema)
    if "integer" in types:
        return max(low, 1)
    return (low + 1.0 if high > low + 1 else (low + high) / 2) if "number" in types else None


def _is_list(schema: Schema) -> bool:
    return "array" in types_of(schema) or any(map(_is_list, schema.get("anyOf", ())))


def types_of(schema: Schema) -> list[str]:
    """Returns the types of a schema, which may have one or a list."""
    types = schema.get("type", ())
    return [types] if isinstance(types, str) else list(types)


def _lacks(value: Any) -> bool:
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return value is None or any(map(_lacks, parts))


def as_yaml(value: Any) -> str:
    """Returns a value as YAML has it in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf)
    return text.removesuffix("\n").removesuffix("\n...")
