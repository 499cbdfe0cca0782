"""Standard output and error of a command, whose readers may leave before it ends."""

import errno
import io
import os
import sys
from typing import Any, TextIO

_GONE = (errno.EPIPE, errno.EIO)  # a pipe that nobody reads, a terminal that was closed


class UnreadError(Exception):
    """Standard output that nobody reads any more."""


class _Standard(io.FileIO):
    """Standard output or error. Errors in writing to standard error are dropped: there is nowhere to report them.

    Attributes:
      needed: whether it is an error that nobody reads it.
    """

    def __init__(self, descriptor: int, *, needed: bool):
        super().__init__(descriptor, "w", closefd=False)
        self.needed = needed
        self._title = "standard output" if descriptor == 1 else None
        self._failed = False

    def write(self, content: Any, /) -> int:
        """Writes bytes; after a failure, further bytes are dropped.

        Raises:
          UnreadError: nobody reads them.
          OSError: they cannot be written.
        """
        try:
            return super().write(content)
        except OSError as error:
            unread = error.errno in _GONE
            if self._failed or self._title is None or (unread and not self.needed):
                return len(content)
            self._failed = True
            if unread:
                raise UnreadError from error
            raise OSError(error.errno, error.strerror, self._title) from error


def open_standard_streams() -> None:
    """Makes standard output and error raise UnreadError without readers, and escape what their encoding lacks.

    One that is closed leads nowhere: else a file that is opened later would take its place.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout = _opened(sys.stdout, _Standard(1, needed=True))
    sys.stderr = _opened(sys.stderr, _Standard(2, needed=False))


def outlast_readers() -> None:
    """Makes a command run to its end though nobody reads its standard output any more: its results are files."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, _Standard):
        raw.needed = False


def _opened(former: TextIO | None, raw: _Standard) -> TextIO:
    """Returns a stream in place of the former one, which stays where it leads elsewhere, as in tests."""
    try:
        if former is not None and former.fileno() != raw.fileno():
            return former
    except OSError:  # it leads to no file
        assert former is not None
        return former
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=former.encoding if former else "utf-8",
        errors="backslashreplace",
        line_buffering=former is None or bool(former.line_buffering or getattr(former, "write_through", False)),
    )
