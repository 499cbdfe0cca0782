"""Checksums of the files in a folder, compared again when a file may have been changed.

Reading many GB at every start would take too long. So the files' sizes and times of change at the last comparison are
saved beside the folder; while these hold, the files are not read again. A file that is written to, copied or restored
has a new time of change, which nobody can set.
"""

import contextlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path

from simulator.data.progress import PrepareProgress

_READ = 2**22  # bytes at a time
_REPORTED = 2**28  # bytes between reports: less takes no time


def checksum(content: bytes | memoryview, before: int = 0) -> int:
    """Returns the CRC-32 of some bytes, `before` that of those in front of them."""
    return zlib.crc32(content, before)


def changed_file(folder: Path, checksums: Mapping[str, int], report: PrepareProgress) -> str | None:
    """Returns the name of a changed or missing file, None if all files match their checksums.

    Args:
        folder: of the files; `FOLDER.checked` is written beside it.
        checksums: of each by its name.
        report: called with the progress now and then, if there is much to read.

    Raises:
        OSError: a file cannot be read.
    """
    gone = next((name for name in checksums if not (folder / name).exists()), None)
    if gone is not None:
        return gone
    note = folder.with_suffix(".checked")
    stamps = {name: _stamp(folder / name) for name in checksums}
    if _noted(note) == stamps:
        return None
    total, done = sum(size for size, *_ in stamps.values()), 0
    for name, expected in checksums.items():
        found = 0
        with open(folder / name, "rb") as file:
            while part := file.read(_READ):
                found, done = checksum(part, found), done + len(part)
                if done % _REPORTED < len(part) < done:
                    report("checking the tokens", done, total, "bytes")
        if found != expected:
            return name
    with contextlib.suppress(OSError):  # where nothing can be written, the files are read at every start
        note.write_text(json.dumps(stamps), encoding="utf-8")  # half of it is none
    return None


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _noted(note: Path) -> object:
    try:
        return json.loads(note.read_bytes())
    except (OSError, ValueError):  # there is none yet, or it is damaged itself
        return None
