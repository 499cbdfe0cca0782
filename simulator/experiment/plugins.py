"""Plugins: user-defined modules that register policies and optimizers when they are imported."""

import hashlib
import importlib
import importlib.abc
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from simulator.experiment.problems import ExperimentError, Problem


class Plugin(NamedTuple):
    """A module that was run, as other processes can run it.

    Attributes:
      name: of a module that can be imported, or the path of a file.
      source: content of the file, None of a module.
    """

    name: str
    source: str | None


class _Loader(importlib.abc.SourceLoader):
    """Runs the source of a plugin, whose file may be on another machine."""

    def __init__(self, source: str, file: str):
        self._source, self._file = source, file

    def get_filename(self, fullname: str) -> str:
        """Returns the name that the file has on its own machine."""
        return self._file

    def get_data(self, path: str | bytes) -> bytes:
        """Returns the source that was carried."""
        return self._source.encode()


_RUN: dict[str, Plugin] = {}


def plugins_so_far() -> tuple[Plugin, ...]:
    """Returns the plugins that `import_plugins` has run in this process."""
    return tuple(_RUN.values())


def run_plugins(plugins: Iterable[Plugin]) -> None:
    """Runs the plugins that `plugins_so_far` returned in another process; their files need not be there.

    Raises:
      ExperimentError: one cannot be found, or raised an error itself.
    """
    for plugin in plugins:
        name, source = plugin
        if _RUN.get(name) == plugin:  # by a task before, or by the script that this process has read again
            continue
        if source is None:
            import_plugins([name])
            continue
        try:
            _run(name, source, name)
        except (Exception, SystemExit) as error:
            raise ExperimentError([Problem("--plugin", _reason(name, error), name)]) from error
        _RUN[name] = plugin


def import_plugins(names: str | Iterable[str]) -> None:
    """Runs modules, which may register policies and optimizers for experiment files. Each is run once in a process.

    Args:
      names: of modules that can be imported, or paths of Python files; one or several.

    Raises:
      ExperimentError: one cannot be found, or raised an error itself.
    """
    for name in map(os.path.expanduser, [names] if isinstance(names, str) else names):
        try:
            _RUN[name] = _import(name)
        except (Exception, SystemExit) as error:
            raise ExperimentError([Problem("--plugin", _reason(name, error), name)]) from error


def _known_as(path: Path) -> str:
    """Returns the name of a file's module."""
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    return f"tardigrad_plugin_{path.stem}_{digest}"


def _import(name: str) -> Plugin:
    path = Path(name)
    if path.suffix != ".py":
        if not all(name.split(".")):  # which would be relative to something
            raise ModuleNotFoundError(name=name)
        importlib.import_module(name)
        return Plugin(name, None)
    if _known_as(path) in sys.modules and name in _RUN:
        return _RUN[name]
    try:
        plugin = Plugin(name, path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise SyntaxError("it is not UTF-8 text", (name, None, None, None)) from error
    _run(name, plugin.source or "", str(path.absolute()))
    return plugin


def _run(name: str, source: str, file: str) -> None:
    """Runs the source of a plugin as a module, whose file is called `file`."""
    loader = _Loader(source, file)
    spec = importlib.util.spec_from_loader(_known_as(Path(name)), loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise


def _reason(name: str, error: BaseException) -> str:
    if isinstance(error, FileNotFoundError) and not Path(name).exists():
        return "no such file: give the path of a Python file, or the name of a module that can be imported"
    if isinstance(error, ModuleNotFoundError) and error.name in (name, name.split(".")[0]):
        return "no such module: give the name of one that can be imported, or the path of a file that ends in .py"
    if isinstance(error, SystemExit):
        return "it ends the process: have it register what it has to, and no more"
    if isinstance(error, OSError) and error.filename == name:
        return f"cannot be read: {error.strerror}"
    if isinstance(error, SyntaxError):
        line = f"line {error.lineno} of " if error.lineno else ""
        return f"SyntaxError at {line}{error.filename or name}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1]
    return f"{type(error).__name__} at line {last.lineno} of {last.filename}: {error}"
