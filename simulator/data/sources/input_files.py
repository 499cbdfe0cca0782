"""Finding files, and reading them whether they are compressed or not."""

import bz2
import glob
import gzip
import io
import lzma
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, BinaryIO, cast

from simulator.host.errors import SettingError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

_CODECS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".xz": "xz"}
_COMPRESSED = {
    "gzip": (b"\x1f\x8b\x08",),
    "zstd": (b"\x28\xb5\x2f\xfd",),
    "bz2": tuple(b"BZh%d%s" % (level, block) for level in range(1, 10) for block in (b"1AY&SY", b"\x17rE8P\x90")),
    "xz": (b"\xfd7zXZ\x00",),
}
"""How files begin that are decompressed, whatever they are called."""
_PYTHON: dict[str, Callable[[str], object]] = {"gzip": gzip.GzipFile, "bz2": bz2.BZ2File, "xz": lzma.LZMAFile}
_UNPACK = "unpack it"
_PACKED = {
    (0, b"PK\x03\x04"): ("a zip archive", _UNPACK),
    (257, b"ustar"): ("a tar archive", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c"): ("a 7z archive", _UNPACK),
    (0, b"Rar!\x1a\x07"): ("a rar archive", _UNPACK),
    (0, b"\x04\x22\x4d\x18"): ("an lz4 file", _UNPACK),
    (0, b"\x1f\x9d"): ("a .Z file", _UNPACK),
    (0, b"%PDF-"): ("a PDF", "extract its text"),
    (0, b"PAR1\x15"): ("a Parquet file", "use source: parquet"),
    (0, b"ARROW1\x00\x00"): ("an Arrow file", "write it as Parquet, and use source: parquet"),
    (0, b"Obj\x01"): ("an Avro file", "write it as Parquet, and use source: parquet"),
    (0, b"\x89HDF\r\n\x1a\n"): ("an HDF5 file", "write its text to text files"),
    (0, b"SQLite format 3\x00"): ("an SQLite database", "write its text to text files"),
}
"""How files begin that hold text, if any, in another form, and what to do with them."""
_HEAD = 512  # bytes in which all of this is
_QUOTED = re.compile(r"\[([*?[])\]")  # in a pattern: a character that stands for itself
_BUFFER = 2**20  # bytes; a decompressor is slow to ask


def matching_files(patterns: Sequence[str]) -> list[str]:
    """Returns absolute paths, sorted; of several paths to the same file the first.

    Args:
        patterns: glob patterns, `**` included, or paths of files; relative ones are relative to the working directory.

    Raises:
        SettingError: a pattern matches no file.
    """
    paths: set[str] = set()
    for pattern in patterns:
        itself = _QUOTED.sub(r"\1", pattern)
        found = [itself] if os.path.exists(itself) else glob.glob(pattern, recursive=True)
        matches = [path for path in found if not os.path.isdir(path)]
        if not matches:
            raise _no_match(pattern, found)
        paths.update(os.path.abspath(path) for path in matches)
    first_of: dict[str, str] = {}
    for path in sorted(paths):
        first_of.setdefault(os.path.realpath(path), path)
    return list(first_of.values())


def _no_match(pattern: str, folders: Sequence[str]) -> SettingError:
    if folders:
        inside = os.path.join(folders[0], "**", "*.txt")
        message = f"matches folders only: name the files in them, for instance {inside}"
        return SettingError("data.files", pattern, message)
    where = "" if os.path.isabs(pattern) else f" (searched from {os.getcwd()})"
    remedy = "check the path; ** stands for any depth of folders, as in texts/**/*.txt"
    if "[" in _QUOTED.sub("", pattern):
        remedy += ", and [[] for a bracket"
    return SettingError("data.files", pattern, f"matches no file{where}: {remedy}")


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turns errors of reading a file into a SettingError that names the file and the remedy."""
    from pyarrow import ArrowInvalid, ArrowNotImplementedError  # here and below: text files do without pyarrow

    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, ArrowInvalid, ArrowNotImplementedError) as error:
        raise _damaged(path, error) from error
    except OSError as error:
        if error.errno is None:  # from a decompressor, not from the operating system
            raise _damaged(path, error) from error
        reason = os.strerror(error.errno)
        message = f"this file cannot be read ({reason}): make it readable, or write a pattern that leaves it out"
        raise SettingError("data.files", path, message) from error


def _damaged(path: str, error: Exception) -> SettingError:
    reason = str(error).rstrip(".")
    return SettingError("data.files", path, f"this file is cut short or damaged ({reason}): copy or download it again")


@contextmanager
def open_bytes(path: str) -> Iterator[BinaryIO]:
    """Opens a text file, and decompresses it if its name or its first bytes say so.

    Raises:
        SettingError: it is an archive, or holds text in another form.
    """
    with open(path, "rb") as file:
        codec = _CODECS.get(os.path.splitext(path)[1]) or _codec(_head(file))
        with nullcontext(file) if codec is None else _decompressed(path, codec) as stream:
            _check_text(path, _head(stream))
            yield stream


def _head(stream: io.BufferedReader) -> bytes:
    return stream.peek(_HEAD)[:_HEAD]


def _codec(head: bytes) -> str | None:
    return next((codec for codec, beginnings in _COMPRESSED.items() if head.startswith(beginnings)), None)


def _decompressed(path: str, codec: str) -> io.BufferedReader:
    if codec in _PYTHON:
        stream = _PYTHON[codec](path)
    else:
        import pyarrow as pa

        stream = pa.input_stream(path, compression=codec)
    return io.BufferedReader(cast(io.RawIOBase, stream), _BUFFER)


def _check_text(path: str, head: bytes) -> None:
    found = next((form for (at, start), form in _PACKED.items() if head[at : at + len(start)] == start), None)
    if found is None and _codec(head):
        found = "compressed twice", _UNPACK
    if found is not None:
        what, remedy = found
        message = f"is {what}, as it begins, and no text: {remedy}, or write a pattern that leaves it out"
        raise SettingError("data.files", path, message)


def open_parquet_file(path: str) -> "ParquetFile":
    """Opens a Parquet file to be read in batches, of which a row group may hold more than fit in memory."""
    import pyarrow.parquet as pq

    return pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER)


Stamp = tuple[str, int, int]
"""A file's path, its size in bytes and the time of its last change in ns."""


def stamp_of(path: str | os.PathLike[str]) -> Stamp:
    """Returns a file's stamp; raises OSError where it cannot be read."""
    status = os.stat(path)
    return os.fspath(path), status.st_size, status.st_mtime_ns


def stamp(paths: Sequence[str]) -> list[Stamp]:
    """Returns a stamp that identifies files and their state."""
    stamps = []
    for path in paths:
        with reading(path):
            stamps.append(stamp_of(path))
    return stamps


def text_size(stamps: Sequence[Stamp]) -> int | None:
    """Returns the size in bytes of the files' content, None where some are compressed."""
    if any(path.endswith(tuple(_CODECS)) for path, *_ in stamps):
        return None
    return sum(size for _, size, _ in stamps)
