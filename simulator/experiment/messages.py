"""Translation of pydantic's errors to dotted keys, plain sentences and the nearest valid name."""

import functools
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pydantic

from simulator.experiment.file import DOCUMENT_KEYS
from simulator.experiment.problems import OF_PLUGINS, nearest
from simulator.experiment.registry import SLOTS, registered
from simulator.experiment.schema.experiment import Experiment
from simulator.experiment.schema.section import ConflictError, Conflicts
from simulator.experiment.yaml_text import Key
from simulator.host.mappings import MISSING, lookup

_TAG_ERRORS = ("union_tag_invalid", "union_tag_not_found")
_SENTENCES = {
    "bool_parsing": "expected true or false",
    "bool_type": "expected true or false",
    "dict_type": "expected a mapping of keys to values",
    "finite_number": "must be a finite number",
    "float_parsing": "expected a number",
    "float_type": "expected a number",
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "int_from_float": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_parsing_size": "is too large",
    "int_type": "expected a whole number",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le:g}",
    "missing": "is missing; it has no default",
    "model_attributes_type": "expected a mapping of keys to values",
    "model_type": "expected a mapping of keys to values",
    "string_too_short": "must not be empty",
    "string_type": "expected text (quotes make text of anything)",
    "too_short": "is empty: give at least one",
    "tuple_type": "expected a list",
}


class Mistake(NamedTuple):
    """One mistake in a tree: its dotted path, what is wrong, the value as written (or None), and pydantic's word."""

    key: Key
    message: str
    value: Any
    kind: str


def mistakes_of(
    error: pydantic.ValidationError, tree: Mapping[str, Any], model: type[pydantic.BaseModel]
) -> Iterator[Mistake]:
    """Yields every mistake that pydantic found; `tree` is the input that `model` refused."""
    details = error.errors(include_url=False)
    for detail in details:
        kind, location = detail["type"], detail["loc"]
        if kind == "too_short" and any(location == other["loc"][: len(location)] != other["loc"] for other in details):
            continue  # not empty: its elements were refused
        conflict = detail.get("ctx", {}).get("error")
        tagless = kind in _TAG_ERRORS and isinstance(detail["input"], Mapping)
        found: Conflicts = [(_discriminator(detail) if tagless else "", _message(kind, detail, location, model))]
        if isinstance(conflict, ConflictError):
            found = conflict.mistakes
        around = _key(location, tree, model, keep_last=kind in ("missing", "extra_forbidden"))
        for below, message in found:
            key = (*around, *below.split(".")) if below else around
            value = lookup(tree, key)
            yield Mistake(key, message, None if value is MISSING else value, kind)


def _key(location: tuple[int | str, ...], tree: Any, model: Any, *, keep_last: bool) -> Key:
    """Returns the location as the file has it: without the tags by which pydantic names a union's members."""
    # For example, of {"inner": {"schedule": {"kind": "cosine", "warmup_steps": -1}}} pydantic locates the mistake at
    # ("inner", "schedule", "cosine", "warmup_steps"). "cosine" is no key of the file, but the tag of a member of the
    # union at `schedule`: the annotation descends to the member, and the tree stays where it is. So the key is
    # inner.schedule.warmup_steps. Other parts that the tree lacks are no keys either, but for the last one of a
    # mistake that is about a missing or an unknown key.
    key: list[str] = []
    annotation = model
    for position, part in enumerate(location):
        members = _models(annotation)
        is_tag = len(members) > 1 or (not members and part in ("<one>", "<each>"))
        annotation = _descend(annotation, part)
        last = position == len(location) - 1
        below = MISSING if is_tag else lookup(tree, [str(part)])
        if below is not MISSING:
            tree = below
        if below is not MISSING or (last and keep_last):
            key.append(str(part))
    return tuple(key)


def _message(kind: str, detail: Any, location: tuple[int | str, ...], model: type[pydantic.BaseModel]) -> str:
    context = detail.get("ctx", {})
    if kind == "extra_forbidden":
        of_file = model is Experiment and len(location) == 1
        names = [name for member in _models(_at(model, location[:-1])) for name in member.model_fields]
        names += DOCUMENT_KEYS if of_file else ()
        return f"unknown key; {nearest(location[-1], names)}"
    if kind in _TAG_ERRORS:
        if not isinstance(detail["input"], Mapping):
            return _SENTENCES["dict_type"]
        union = _at(model, location)
        tags = {tag for member in _models(union) for tag in _tags(union, member)}
        names = sorted(tags - {"named"} | {*registered(str(location[-1]))})
        value = detail["input"].get(_discriminator(detail))
        if value is not None:
            own = f" {OF_PLUGINS}" if location[-1] in SLOTS else ""
            return f"unknown {_discriminator(detail)}; {nearest(value, names)}{own}"
        return f"is missing; choose from {', '.join(names)}"
    if kind == "literal_error":
        names = [name.strip().strip("'") for name in context["expected"].replace(" or ", ",").split(",")]
        return f"not a valid choice; {nearest(detail['input'], names)}"
    if kind == "value_error":
        return str(context["error"])
    if kind in _SENTENCES:
        return _SENTENCES[kind].format(**context)
    message = str(detail["msg"]).removeprefix("Input ")
    return f"{message[0].lower()}{message[1:]}"


def _discriminator(detail: Any) -> str:
    name = detail["ctx"]["discriminator"].strip("'")
    return {"_outer_tag()": "optimizer", "_time_tag()": "kind", "_kind_tag()": "kind"}.get(name, str(name))


def _at(model: type[pydantic.BaseModel], location: tuple[int | str, ...]) -> Any:
    """Returns the annotation at a location, following fields, list elements and union tags."""
    return functools.reduce(_descend, location, model)


def _descend(annotation: Any, part: int | str) -> Any:
    members = _models(annotation)
    if len(members) > 1:
        members = [member for member in members if part in _tags(annotation, member)] or members
    elif members and part in members[0].model_fields:
        return members[0].model_fields[str(part)].annotation
    return typing.Union[tuple(members)] if members else annotation  # noqa: UP007 (a union made at run time)


def _models(annotation: Any) -> list[type[pydantic.BaseModel]]:
    """Returns the section classes inside an annotation: of a union, an Annotated, a tuple of sections."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return [annotation]
    origin = typing.get_origin(annotation)
    if origin in (typing.Annotated, typing.Union, types.UnionType, tuple):
        return [member for argument in typing.get_args(annotation) for member in _models(argument)]
    return []


def _tags(annotation: Any, member: type[pydantic.BaseModel]) -> set[str]:
    tags = set()
    for argument in typing.get_args(annotation):
        if typing.get_origin(argument) is typing.Annotated and typing.get_args(argument)[0] is member:
            tags |= {meta.tag for meta in typing.get_args(argument)[1:] if isinstance(meta, pydantic.Tag)}
    for name in ("kind", "source", "optimizer"):
        if name in member.model_fields:
            choices = typing.get_args(member.model_fields[name].annotation)
            tags |= {choice for choice in choices if isinstance(choice, str)}
    return tags
