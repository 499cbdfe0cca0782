"""From pydantic's errors to dotted keys, plain sentences and the nearest valid name."""

import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import pydantic

from simulator.experiment.document import Key
from simulator.experiment.problems import nearest

_TAG_ERRORS = ("union_tag_invalid", "union_tag_not_found")


def explain(
    error: pydantic.ValidationError, tree: Mapping[str, Any], model: type[pydantic.BaseModel]
) -> Iterator[tuple[Key, str, Any]]:
    """Yields (key, message, value) for every mistake; `tree` is the input that `model` refused."""
    for detail in error.errors(include_url=False):
        kind, location = detail["type"], detail["loc"]
        key = _key(location, tree, keep_last=kind in ("missing", "extra_forbidden"))
        value = detail["input"]
        if kind in _TAG_ERRORS:
            key, value = (*key, _discriminator(detail)), None
        yield key, _message(kind, detail, location, model), None if kind == "missing" else value


def _key(location: tuple[int | str, ...], tree: Any, *, keep_last: bool) -> Key:
    """Returns the location as the file has it: without the tags by which pydantic names a union's members."""
    key: list[str] = []
    for position, part in enumerate(location):
        last = position == len(location) - 1
        if isinstance(tree, Mapping) and part in tree:
            tree = tree[part]
        elif isinstance(tree, list | tuple) and isinstance(part, int):
            tree = tree[part]
        elif not (last and keep_last):
            continue
        key.append(str(part))
    return tuple(key)


def _message(kind: str, detail: Any, location: tuple[int | str, ...], model: type[pydantic.BaseModel]) -> str:
    context = detail.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key; {nearest(location[-1], _fields(model, location[:-1]))}"
    if kind == "missing":
        return "is missing; it has no default"
    if kind in _TAG_ERRORS:
        names = sorted(_choices(model, location))
        if kind == "union_tag_invalid" and context["tag"]:
            return f"unknown {_discriminator(detail)} {context['tag']!r}; {nearest(context['tag'], names)}"
        return f"is missing; choose from {', '.join(names)}"
    if kind == "literal_error":
        names = [name.strip().strip("'") for name in context["expected"].replace(" or ", ",").split(",")]
        return f"not a valid choice; {nearest(detail['input'], names)}"
    if kind == "value_error":
        return str(context["error"])
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return "expected a mapping of keys to values"
    message = str(detail["msg"]).removeprefix("Input ")
    return f"{message[0].lower()}{message[1:]}"


def _discriminator(detail: Any) -> str:
    """Returns the key that says which member of a union is meant."""
    name = detail["ctx"]["discriminator"].strip("'")
    return "optimizer" if name == "_outer_tag()" else str(name)


def _choices(model: type[pydantic.BaseModel], location: tuple[int | str, ...]) -> set[str]:
    """Returns the valid values of a union's discriminator."""
    annotation: Any = model
    for part in location:
        annotation = _descend(annotation, part)
    return {tag for member in _models(annotation) for tag in _tags(annotation, member)} - {"named"}


def _fields(model: Any, location: tuple[int | str, ...]) -> list[str]:
    """Returns the names that are valid at a location, following fields, list elements and union tags."""
    annotation: Any = model
    for part in location:
        annotation = _descend(annotation, part)
    return [name for member in _models(annotation) for name in member.model_fields]


def _descend(annotation: Any, part: int | str) -> Any:
    members = _models(annotation)
    for member in members:
        if part in member.model_fields:
            return member.model_fields[str(part)].annotation
    tagged = [member for member in members if part in _tags(annotation, member)]
    if tagged:
        return tagged[0]
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
