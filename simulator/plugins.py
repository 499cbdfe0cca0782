"""Modules of one's own that register policies and optimizers when they are imported."""

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from simulator.experiment import ExperimentError, Problem


def import_plugins(names: Iterable[str]) -> None:
    """Runs modules, which may register what experiment files then can name. Each is run once in a process.

    Args:
      names: of modules that can be imported, or paths of Python files.

    Raises:
      ExperimentError: one cannot be found, or raised an error itself.
    """
    for name in names:
        try:
            _import(name)
        except Exception as error:
            raise ExperimentError([Problem("--plugin", _reason(name, error), name)]) from error


def _import(name: str) -> ModuleType:
    path = Path(name)
    if path.suffix != ".py":
        return importlib.import_module(name)
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    known = f"tardigrad_plugin_{path.stem}_{digest}"
    if known in sys.modules:
        return sys.modules[known]
    spec = importlib.util.spec_from_file_location(known, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[known] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[known]
        raise
    return module


def _reason(name: str, error: Exception) -> str:
    if isinstance(error, FileNotFoundError) and not Path(name).exists():
        return "no such file: give the path of a Python file, or the name of a module that can be imported"
    if isinstance(error, ModuleNotFoundError) and error.name in (name, name.split(".")[0]):
        return "no such module: give the name of one that can be imported, or the path of a file that ends in .py"
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1]
    return f"{type(error).__name__} at line {last.lineno} of {last.filename}: {error}"
