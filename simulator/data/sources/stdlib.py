"""The built-in corpus: the sources of the running interpreter's standard library."""

import fnmatch
import os
import platform
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from simulator.data.sources.corpus import Corpus, TextDocument
from simulator.data.sources.input_files import stamp_of
from simulator.host.errors import SettingError

_OTHER_FOLDERS = ("site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test", "config-*")
_OTHER_FILES = ("_sysconfigdata*", "sitecustomize.py", "usercustomize.py")
"""What lies in the standard library's folder and differs between installations of the same Python version."""


def open_standard_library(root: Path | None = None) -> Corpus:
    """Returns the sources of the standard library, one document per module, in the order of their POSIX relative paths.

    Tests, installed packages and files that the interpreter's own build or administrator wrote are left out. The folder
    of a document is that of the package at the top.

    Args:
        root: the library's folder; the running interpreter's when absent.
    """
    root = Path(sysconfig.get_path("stdlib")) if root is None else root
    names = sorted(path.relative_to(root).as_posix() for path in _python_files(root))
    nothing = _refusal(f"no Python sources under {root}: use an interpreter that comes with them, or source: text")
    if not names:
        raise nothing
    with _reading():
        stamps = [(name, *stamp_of(root / name)[1:]) for name in names]

    def documents() -> Iterator[TextDocument]:
        for name in names:
            with _reading():
                text = (root / name).read_bytes()
            if text.strip():
                yield TextDocument(text, name.split("/")[0] if "/" in name else ".", name)

    return Corpus(
        fingerprint={"source": "python-stdlib", "files": stamps},
        documents=documents,
        empty=nothing,
        size=sum(size for _, size, _ in stamps),
        facts={"python_version": platform.python_version()},
    )


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"{error.filename} cannot be read ({error.strerror}): make it readable, or use source: text"
        raise _refusal(message) from error


def _refusal(message: str) -> SettingError:
    return SettingError("data.source", "python-stdlib", message)


def _python_files(root: Path) -> Iterator[Path]:
    def left_out(name: str, patterns: Sequence[str]) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if not left_out(name, _OTHER_FOLDERS)]
        for name in names:
            if name.endswith(".py") and not left_out(name, _OTHER_FILES):
                yield Path(folder, name)
