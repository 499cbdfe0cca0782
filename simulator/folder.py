"""The output folder of a command: who may write to it, and what in it is finished."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from simulator.experiment import ExperimentError, Problem

LOCK_FILE = ".lock"
CHECKPOINTS = "checkpoints"
ERROR_FILE = "error.json"


def output_folder(out: Path | None, name: str, *, resume: bool = False) -> Path:
    """Returns a folder that can be written to: one that holds no runs, or the one to go on in.

    Args:
      out: what the user chose; below `runs` when absent.
      name: of the experiment.
      resume: whether to go on in a folder that there is.

    Raises:
      ExperimentError: it holds runs and is not to be gone on with, or the other way round.
      OSError: it cannot be written to.
    """
    folder = out or _below_runs(name, resume)
    used = folder.is_dir() and any(path.name != LOCK_FILE for path in folder.iterdir())
    if used and not resume:
        message = "the folder is not empty: choose another, remove it first, or go on in it with --resume"
        raise ExperimentError([Problem("--out", message, str(folder))])
    if resume and not folder.is_dir():
        raise ExperimentError([Problem("--resume", "there is no such folder to go on in: leave it out", str(folder))])
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / ".writable"
    probe.touch()
    probe.unlink()
    return folder


def _below_runs(name: str, resume: bool) -> Path:
    """Returns the newest folder of that name, or the one behind it."""
    from simulator.report import file_names

    base = Path("runs") / file_names([name])[0]
    folder, number = base, 1
    while folder.exists():
        newest = folder
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return newest if resume and number > 1 else folder


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a folder; the operating system lets them in when this one is killed.

    Raises:
      ExperimentError: another one is at work there.
    """
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        message = "another process is at work in this folder: wait for its end, stop it, or choose another --out"
        raise ExperimentError([Problem("--out", message, str(folder))]) from error
    try:
        yield
    finally:
        lock.release()
        (folder / LOCK_FILE).unlink(missing_ok=True)


def taken(folder: Path) -> bool:
    """Returns whether a process is at work in a folder."""
    if not (folder / LOCK_FILE).exists():
        return False
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False


def finished(folder: Path, experiment: Mapping[str, Any]) -> Any:
    """Returns the record of a run that has finished, None where there is none.

    Args:
      folder: the run's.
      experiment: the resolved experiment.

    Raises:
      RecordError: the record is damaged, or of another experiment.
    """
    from simulator.experiment import Experiment
    from simulator.keeper import identity, refuse_others
    from simulator.learning import as_used
    from simulator.record import SUMMARY_FILE, RunRecord

    if not (folder / SUMMARY_FILE).exists():
        return None
    record = RunRecord.read(folder)
    used = as_used(Experiment.model_validate(experiment))
    refuse_others(str(folder), {"experiment": identity(record.experiment)}, {"experiment": identity(used)})
    return record
