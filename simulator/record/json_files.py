"""JSON files of records: reading them with a check of what they are, and writing them."""

import functools
import hashlib
import json
import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pydantic
import yaml

from simulator.host.files import write_file
from simulator.record.schema import RecordError

_Content = TypeVar("_Content")


def read_json(path: Path, kind: Any, remedy: str) -> Any:
    """Returns the content of a JSON file.

    Args:
        path: Of the file.
        kind: What it has to be: a type, or a model of pydantic's.
        remedy: What to do where it cannot be read, or is something else; a sentence.

    Raises:
        FileNotFoundError: There is none.
        RecordError: It cannot be read, or is something else.
    """
    content = read(path, load_json, remedy)
    check_kind(content, kind, path, remedy)
    return content


def read(path: Path, load: Callable[[Path], _Content], remedy: str) -> _Content:
    """Returns what `load` makes of a file; raises what `read_json` does."""
    try:
        return load(path)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise RecordError(f"{path}: cannot be read: {reason}. {remedy}") from error


def load_json(path: Path) -> Any:
    """Returns the content of a JSON file; raises what its libraries do."""
    return json.loads(path.read_text(encoding="utf-8"))


def check_kind(content: Any, kind: Any, path: Path, remedy: str) -> None:
    """Checks that the content of a file is of a kind.

    Raises:
        RecordError: It is something else.
    """
    try:
        _adapter(kind).validate_python(content, strict=True)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        found = f"{place} is {reprlib.repr(first['input'])}: " if place else ""
        raise RecordError(f"{path}: {found}{first['msg']}. {remedy}") from error


_adapter = functools.cache(pydantic.TypeAdapter)


def digest_of(path: Path) -> str:
    """Returns the sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def plain(value: Any, where: str, *, finite: bool) -> Any:
    """Returns `value` as mappings, lists and scalars alone, which JSON and YAML can hold.

    Args:
        value: Anything made of mappings, sequences, strings, numbers (numpy's included), booleans and None.
        where: What to call it in an error message.
        finite: Turn NaN and infinity, which JSON does not know, into None.

    Raises:
        RecordError: If something else is inside.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return None if finite and not math.isfinite(value) else value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise RecordError(f"{where}: key {key!r} is of type {type(key).__name__}, but a key must be a string")
        return {key: plain(inner, f"{where}.{key}", finite=finite) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [plain(inner, f"{where}[{index}]", finite=finite) for index, inner in enumerate(value)]
    raise RecordError(
        f"{where}: {value!r} is of type {type(value).__name__}, which a file cannot hold. "
        "Turn it into numbers, strings, lists or mappings first"
    )


def to_json(value: Any, where: str) -> str:
    """Returns `value` as JSON text; NaN and infinity become null.

    Raises:
        RecordError: If it holds something that JSON cannot, named by `where` and its place inside.
    """
    return json.dumps(plain(value, where, finite=True), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Writes `value` to a file that is whole or absent, see `to_json` and `atomic_path`."""
    write_file(path, to_json(value, path.name), durable=durable)


def write_summary(path: Path, summaries: Sequence[Mapping[str, Any]]) -> None:
    """Writes the summaries of several runs as one JSON list; NaN and infinity become null.

    Raises:
        RecordError: If a summary holds something that JSON cannot.
    """
    write_json(path, list(summaries))
