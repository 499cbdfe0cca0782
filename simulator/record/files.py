"""Files that a reader never sees half written."""

import errno
import functools
import hashlib
import json
import math
import os
import reprlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simulator.record.schema import RecordError

if TYPE_CHECKING:
    import pydantic

_REFUSALS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EIO,
    errno.ENAMETOOLONG,
)


@contextmanager
def naming(path: Path, *, instead_of: Path | None = None) -> Iterator[None]:
    """Adds a file's or folder's name to the operating system's errors that lack one, or have `instead_of`."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(instead_of), instead_of):
            error.filename = str(path)
        raise


def refusal(error: Exception, path: Path) -> OSError:
    """Returns the operating system's error, about `path`, behind a library's own words."""
    code = next((code for code in _REFUSALS if os.strerror(code) in str(error)), None)
    if code is None:
        return OSError(f"{path}: cannot be written: {error}")
    return OSError(code, os.strerror(code), str(path))


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, which replaces `path` when the block ends well and is deleted otherwise.

    The folder is made when absent. A reader sees the old file or the new one, never a part of either. A link stays one:
    the file that it leads to is replaced. A device or a pipe is written to as it is.

    Raises:
        OSError: It cannot be written; names `path`.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        with naming(path):
            yield path
        return
    file = path.resolve() if path.is_symlink() else path
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.parent / f".{uuid.uuid4().hex}.tmp"  # not its name: it may be as long as a name can be
    with naming(path, instead_of=temporary):
        try:
            yield temporary
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)


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
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RecordError(f"{path}: cannot be read: {reason}. {remedy}") from error
    check_kind(content, kind, path, remedy)
    return content


def check_kind(content: Any, kind: Any, path: Path, remedy: str) -> None:
    """Checks that the content of a file is of a kind.

    Raises:
        RecordError: It is something else.
    """
    import pydantic

    try:
        _adapter(kind).validate_python(content, strict=True)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        found = f"{place} is {reprlib.repr(first['input'])}: " if place else ""
        raise RecordError(f"{path}: {found}{first['msg']}. {remedy}") from error


@functools.cache
def _adapter(kind: Any) -> "pydantic.TypeAdapter[Any]":
    import pydantic

    return pydantic.TypeAdapter(kind)


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


def write_summary(path: Path, summaries: Sequence[Mapping[str, Any]]) -> None:
    """Writes the summaries of several runs atomically as one JSON list; NaN and infinity become null.

    Raises:
        RecordError: If a summary holds something that JSON cannot.
    """
    text = to_json(list(summaries), path.name)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
