"""Finding files, and reading them whether they are compressed or not."""

import glob
import gzip
import io
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

from simulator.data.errors import DataError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

_COMPRESSED = (".gz", ".zst")
_QUOTED = re.compile(r"\[([*?[])\]")  # in a pattern: a character that stands for itself
_BUFFER = 2**20  # bytes; a decompressor is slow to ask


def matching_files(patterns: Sequence[str]) -> list[str]:
    """Returns absolute paths, sorted; of several paths to the same file the first.

    Args:
        patterns: glob patterns, `**` included, or paths of files; relative ones are relative to the working directory.

    Raises:
        DataError: a pattern matches no file.
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


def _no_match(pattern: str, folders: Sequence[str]) -> DataError:
    if folders:
        inside = os.path.join(folders[0], "**", "*.txt")
        message = f"matches folders only: name the files in them, for instance {inside}"
        return DataError("data.files", pattern, message)
    where = "" if os.path.isabs(pattern) else f" (searched from {os.getcwd()})"
    remedy = "check the path; ** stands for any depth of folders, as in texts/**/*.txt"
    if "[" in _QUOTED.sub("", pattern):
        remedy += ", and [[] for a bracket"
    return DataError("data.files", pattern, f"matches no file{where}: {remedy}")


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turns what goes wrong with a file into a DataError that names it and the remedy."""
    from pyarrow import ArrowInvalid, ArrowNotImplementedError

    try:
        yield
    except (EOFError, zlib.error, ArrowInvalid, ArrowNotImplementedError) as error:
        raise _damaged(path, error) from error
    except OSError as error:
        if error.errno is None:  # from a decompressor, not from the operating system
            raise _damaged(path, error) from error
        reason = os.strerror(error.errno)
        message = f"this file cannot be read ({reason}): make it readable, or write a pattern that leaves it out"
        raise DataError("data.files", path, message) from error


def _damaged(path: str, error: Exception) -> DataError:
    reason = str(error).rstrip(".")
    return DataError("data.files", path, f"this file is cut short or damaged ({reason}): copy or download it again")


def open_bytes(path: str) -> BinaryIO:
    """Opens a file, decompressing `.gz` and `.zst`."""
    if path.endswith(".gz"):
        return io.BufferedReader(cast(io.RawIOBase, gzip.open(path)), _BUFFER)
    if path.endswith(".zst"):
        import pyarrow as pa

        return io.BufferedReader(pa.input_stream(path, compression="zstd"), _BUFFER)
    return open(path, "rb")


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
    """Returns what tells files from others, and from themselves when they were changed.

    Raises:
        DataError: a file cannot be read.
    """
    stamps = []
    for path in paths:
        with reading(path):
            stamps.append(stamp_of(path))
    return stamps


def text_size(stamps: Sequence[Stamp]) -> int | None:
    """Returns the size in bytes of the files' content, None where some are compressed."""
    if any(path.endswith(_COMPRESSED) for path, *_ in stamps):
        return None
    return sum(size for _, size, _ in stamps)
