"""The output folder of a command, and its lock."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from simulator.experiment import ExperimentError, Problem
from simulator.host.files import is_locked, locked, naming, remove_folder
from simulator.host.signals import Interrupted
from simulator.record import TRIALS_FOLDER

LOCK_FILE = ".lock"
CHECKPOINTS = "checkpoints"
ERROR_FILE = "error.json"
PROGRESS_FILE = "progress.json"
SWEEP_FILE = "sweep.json"
_PLANS = {LOCK_FILE, SWEEP_FILE, PROGRESS_FILE}
"""Files that are written before anything is run."""


@contextlib.contextmanager
def output_folder(out: Path | None, name: str, *, resume: bool | None = False) -> Iterator[Path]:
    """Yields a folder to write to, and keeps other processes out of it meanwhile.

    It is one that holds no runs, or the one to resume in, which need not be there yet: so a script can be started again
    and again with one command. If the block fails before anything was run, files written
    there are removed, so that it does not hinder the next try.

    Args:
      out: as the user chose; below `runs` when absent.
      name: of the experiment.
      resume: whether to resume in an existing folder; None if that cannot be asked for.

    Raises:
      ExperimentError: it holds runs and is not to be resumed; another process is at work there.
      OSError: it cannot be written to.
    """
    folder = output_path(out, name, resume=bool(resume))
    check_output_folder(folder, resume=resume)
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        with naming(folder, instead_of=probe):
            probe.touch()
            probe.unlink()
        with _alone_in(folder):
            try:
                yield folder
            except Interrupted:  # it says how to go on
                raise
            except BaseException as error:
                if _holds_no_run(folder):
                    _remove_plans(folder, new=bool(made))
                elif isinstance(error, OSError) and resume is not None:
                    error.add_note(f"then go on with --resume --out {folder}")
                raise
    finally:
        with contextlib.suppress(OSError):  # it holds something
            for each in made:
                each.rmdir()


def check_output_folder(folder: Path, *, resume: bool | None = False) -> None:
    """Checks that a folder can be written to by a command; see `output_folder`.

    Raises:
      ExperimentError: it holds runs and is not to be resumed.
      OSError: it cannot be read.
    """
    if not resume and folder.is_dir() and not _holds_no_run(folder):
        others = "or remove it first" if resume is None else "remove it first, or go on in it with --resume"
        message = f"the folder is not empty: choose another, {others}"
        raise ExperimentError([Problem("--out", message, str(folder))])
    if _is_no_text(folder):
        message = "its path is not text in UTF-8, which libraries that write there need: choose another"
        raise ExperimentError([Problem("--out", message, str(folder))])


def _is_no_text(folder: Path) -> bool:
    try:
        str(folder.absolute()).encode()
    except UnicodeEncodeError:
        return True
    return False


def _holds_no_run(folder: Path) -> bool:
    """Returns whether a folder holds nothing but files that are written before anything is run."""

    def refuse(error: OSError) -> None:
        raise error

    return all(name in _PLANS for _, _, names in os.walk(folder, onerror=refuse) for name in names)


def _remove_plans(folder: Path, *, new: bool) -> None:
    for path in folder.iterdir():
        if path.is_dir() and (new or path.name == TRIALS_FOLDER):
            shutil.rmtree(path)
        elif path.name in _PLANS - {LOCK_FILE}:  # which is held
            path.unlink()


def output_path(out: Path | None, name: str, *, resume: bool = False) -> Path:
    """Returns the chosen folder, or else below `runs` the newest of that name to resume in, or the one after."""
    from simulator.report import file_names  # loads matplotlib, as in `simulator.sweep.plan`

    if out is not None:
        return out
    base = Path("runs") / file_names([name])[0]
    folder, number = base, 1
    while folder.exists():
        newest = folder
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return newest if resume and number > 1 else folder


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Locks a folder for this process; the operating system releases the lock if the process dies.

    Raises:
      ExperimentError: another one is at work there.
    """

    def refuse() -> None:
        message = "another process is at work in this folder: wait for its end, stop it, or choose another --out"
        raise ExperimentError([Problem("--out", message, str(folder))])

    with locked(folder / LOCK_FILE, refuse):
        try:
            yield
        finally:
            (folder / LOCK_FILE).unlink(missing_ok=True)


def taken(folder: Path) -> bool:
    """Returns whether a process is at work in a folder."""
    return is_locked(folder / LOCK_FILE)


def remove_interim_files(folder: Path) -> None:
    """Removes files that a finished point, whose folder it is, needs no more."""
    remove_folder(folder / CHECKPOINTS)
    for name in (ERROR_FILE, PROGRESS_FILE):
        (folder / name).unlink(missing_ok=True)
