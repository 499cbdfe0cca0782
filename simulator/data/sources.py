"""Where documents come from: the standard library's sources, and text files. A document is its bytes, undecoded."""

import fnmatch
import glob
import os
import re
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from simulator.data.errors import DataError

_OTHER_FOLDERS = ("site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test", "config-*")
_OTHER_FILES = ("_sysconfigdata*", "sitecustomize.py", "usercustomize.py")
"""What lies in the standard library's folder and differs between installations of the same Python version."""

_BLANK_LINES = re.compile(rb"\r?\n(?:[ \t]*\r?\n)+")


def read_standard_library(root: Path | None = None) -> list[bytes]:
    """Returns the sources of the standard library, one document per module, in the order of their POSIX relative paths.

    Tests, installed packages and files that the interpreter's own build or administrator wrote are left out.

    Args:
        root: the library's folder; the running interpreter's when absent.

    Raises:
        DataError: the interpreter has no readable sources.
    """
    root = Path(sysconfig.get_path("stdlib")) if root is None else root
    paths = sorted(_python_files(root), key=lambda path: path.relative_to(root).as_posix())
    try:
        documents = [path.read_bytes() for path in paths]
    except OSError as error:
        raise DataError(
            "data.source",
            "python-stdlib",
            f"{error.filename} cannot be read ({error.strerror}): make it readable, or use source: text",
        ) from error
    documents = [document for document in documents if document.strip()]
    if not documents:
        raise DataError(
            "data.source",
            "python-stdlib",
            f"no Python sources under {root}: use an interpreter that comes with them, or source: text",
        )
    return documents


def _python_files(root: Path) -> Iterator[Path]:
    def left_out(name: str, patterns: Sequence[str]) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if not left_out(name, _OTHER_FOLDERS)]
        for name in names:
            if name.endswith(".py") and not left_out(name, _OTHER_FILES):
                yield Path(folder, name)


def read_text_files(patterns: Sequence[str], unit: Literal["file", "paragraph", "line"]) -> list[bytes]:
    """Returns the documents of all files that match, files sorted by absolute path and each taken once.

    Args:
        patterns: glob patterns, `**` included; relative ones are relative to the working directory.
        unit: what one document is. Paragraphs are separated by blank lines; the separating line ends belong to no
            document. Documents of nothing but white space are skipped.

    Raises:
        DataError: a pattern matches no file, a file cannot be read, or no document is left.
    """
    documents = []
    for path in _matching_files(patterns):
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise DataError(
                "data.files",
                path,
                f"this file cannot be read ({error.strerror}): make it readable, or write a pattern that leaves it out",
            ) from error
        documents += [document for document in _split(content, unit) if document.strip()]
    if not documents:
        raise DataError("data.files", list(patterns), "the matching files hold no text: name files that are not empty")
    return documents


def _matching_files(patterns: Sequence[str]) -> list[str]:
    """Returns absolute paths, sorted; of several paths to the same file the first."""
    paths: set[str] = set()
    for pattern in patterns:
        matches = [path for path in glob.glob(pattern, recursive=True) if not os.path.isdir(path)]
        if not matches:
            where = "" if os.path.isabs(pattern) else f" (searched from {os.getcwd()})"
            raise DataError(
                "data.files",
                pattern,
                f"matches no file{where}: check the path; ** stands for any depth of folders, as in texts/**/*.txt",
            )
        paths.update(os.path.abspath(path) for path in matches)
    first_of: dict[str, str] = {}
    for path in sorted(paths):
        first_of.setdefault(os.path.realpath(path), path)
    return list(first_of.values())


def _split(content: bytes, unit: Literal["file", "paragraph", "line"]) -> list[bytes]:
    match unit:
        case "file":
            return [content]
        case "paragraph":
            return [paragraph.strip(b"\r\n") for paragraph in _BLANK_LINES.split(content)]
        case "line":
            return content.splitlines()
