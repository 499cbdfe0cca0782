"""Text for display: control and invisible characters of untrusted text are escaped, and errors described."""

import errno
import os
from collections.abc import Iterable, Sequence

_REMEDIES = {
    errno.EACCES: "change its rights, or choose another place",
    errno.EDQUOT: "make room, or choose another place",
    errno.EEXIST: "it is a file, where a folder is needed: choose another name, or move it away",
    errno.EFBIG: "have the system allow larger files, or choose another place",
    errno.EISDIR: "it is a folder, where a file is needed: choose another name",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOENT: "check its name",
    errno.ENOSPC: "make room, or choose another place",
    errno.ENOTDIR: "a part of it is a file, where a folder is needed: choose another name",
    errno.EPERM: "change its rights, or choose another place",
    errno.EROFS: "choose a place that can be written to",
}


def visible(text: str) -> str:
    r"""Returns the text with every character that is not printable as an escape such as \x1b; line breaks stay.

    That is control characters, with which a terminal can be steered, and invisible ones, such as those that turn the
    direction of writing.
    """
    return "".join(char if char.isprintable() or char == "\n" else _escaped(char) for char in text)


def system_error(error: OSError) -> str:
    """Returns the message of an operating system's error: file or folder, reason, and a remedy if one is known."""
    if error.errno is None or error.filename is None:
        return error.strerror or str(error)
    known = error.errno in _REMEDIES  # then libraries may have said it in other words
    reason = [os.strerror(error.errno), _REMEDIES[error.errno]] if known else [error.strerror or "cannot be used"]
    return ", ".join([f"{error.filename}: {': '.join(reason)}", *getattr(error, "__notes__", ())])


def plural(number: int, noun: str) -> str:
    """Returns a number with its noun: "1 run", "2,000 runs"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def one_line(text: str) -> str:
    """Returns the text with every run of white space, line breaks included, as one space, and nothing invisible."""
    return visible(" ".join(text.split()))


def markdown_table(lines: Iterable[Sequence[str]]) -> str:
    """Returns a table in Markdown.

    Args:
      lines: cells of the header, of the ruler such as `:--`, and of the rows.
    """
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
