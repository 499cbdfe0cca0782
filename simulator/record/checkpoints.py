"""Checkpoints: the state that a simulation resumes from, in folders that are whole or not used.

    CHECKPOINTS/000000001234/     the state after 1,234 events
      arrays/                     written by orbax
      facts.json                  everything else
      manifest.json               the sha256 of every other file

A checkpoint is whole or absent. One whose files are not those of its manifest is passed over for the one before it.

Of a simulation (`simulation.run.Run._state`) the arrays are

    version.N       versions of the parameters that somebody still needs: 0 is the server's, others were pulled
    outer           state of the outer optimizer
    inner.W         inner optimizer state of worker W
    result.R        result of round R, computed and not yet processed
    losses.rounds, non_finite.rounds, losses.evaluations    reports of training, from which a record is made again

and the facts: which round pulled which version, which are computed, whose settings these are (`identity`), versions,
devices and data (`made_with`), the causal hash of the events so far, host time and reused training. Rounds under way
and the clock are not kept: the events are simulated again.
"""

import errno
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.host.files import atomic_path, naming, refusal, remove_folder
from simulator.record.file_models import Facts, Updates
from simulator.record.json_files import digest_of, read_json, to_json
from simulator.record.schema import RecordError

FORMAT = 1
_ARRAYS, _FACTS, _MANIFEST = "arrays", "facts.json", "manifest.json"
_BESIDE_ARRAYS = 2**20  # bytes
_REMEDY = "Remove this checkpoint's folder: `run --resume` goes on from the one before it, if there is one"


@dataclass(frozen=True)
class Checkpoint:
    """The state of a simulation after some of its events.

    Attributes:
      events: number of events.
      arrays: by name; those without elements are not kept.
      facts: JSON.
    """

    events: int
    arrays: Mapping[str, npt.NDArray[Any]]
    facts: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one run.

    Args:
      folder: that holds them.
      keep: number of the newest that stay.
      warn: called for each that is damaged.
    """

    def __init__(self, folder: Path, *, keep: int, warn: Callable[[str], None]):
        if keep < 1:
            raise ValueError(f"keep must be at least 1, not {keep}")
        self._folder, self._keep, self._warn = folder, keep, warn

    def save(self, checkpoint: Checkpoint) -> None:
        """Writes a checkpoint, and then removes the oldest.

        Raises:
          OSError: it cannot be written; earlier ones stay.
        """
        folder = self._folder / f"{checkpoint.events:012d}"  # may be there: damaged, or of a run resumed before it
        facts = {"format": FORMAT, "events": checkpoint.events, **checkpoint.facts}
        with naming(self._folder), atomic_path(folder, directory=True) as new, naming(self._folder):
            _save_arrays(new / _ARRAYS, checkpoint.arrays)
            (new / _FACTS).write_text(to_json(facts, _FACTS), encoding="utf-8")
            (new / _MANIFEST).write_text(to_json(_digests(new), _MANIFEST), encoding="utf-8")
        for old in checkpoint_folders(self._folder)[self._keep :]:
            remove_folder(old)

    def latest(self) -> Checkpoint | None:
        """Returns the newest complete checkpoint, None if there is none."""
        for folder in checkpoint_folders(self._folder):
            try:
                return _read(folder)
            except RecordError as error:
                self._warn(f"{error}: the one before it is used, if there is one")
        return None


def checkpoint_folders(folder: Path) -> list[Path]:
    """Returns the folders of the checkpoints that a folder holds, the newest first."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted((path for path in found if path.name.isdecimal() and path.is_dir()), reverse=True)


def _digests(folder: Path) -> dict[str, str]:
    """Returns the sha256 of every file below a folder but its manifest, by its path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / _MANIFEST)
    return {path.relative_to(folder).as_posix(): digest_of(path) for path in files}


def _read_facts(folder: Path, kind: Any) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = read_json(folder / _FACTS, kind, _REMEDY)
    except FileNotFoundError as error:
        raise RecordError(f"{folder / _FACTS}: is missing. {_REMEDY}") from error
    return facts


def _read(folder: Path) -> Checkpoint:
    try:
        if read_json(folder / _MANIFEST, dict[str, str], _REMEDY) != _digests(folder):
            raise RecordError(f"{folder}: this checkpoint is damaged")
        facts = _read_facts(folder, Facts)
    except OSError as error:
        raise RecordError(f"{folder}: this checkpoint cannot be read ({error.strerror})") from error
    if facts["format"] != FORMAT:
        message = f"this checkpoint was written by another version (its format is {facts['format']}, not {FORMAT})"
        raise RecordError(f"{folder}: {message}")
    return Checkpoint(facts["events"], _load_arrays(folder / _ARRAYS), facts)


def kept_updates(folder: Path) -> int | None:
    """Returns the server updates of the newest checkpoint in a folder, None if there is none.

    Raises:
      RecordError: it cannot be read.
    """
    newest = next(iter(checkpoint_folders(folder)), None)
    return None if newest is None else int(_read_facts(newest, Updates)["updates"])


def _checkpointer() -> Any:
    import orbax.checkpoint as ocp  # takes a second to load, and only checkpoints need it

    logging.getLogger("absl").setLevel(logging.CRITICAL)  # it tells of every file; what goes wrong is raised too
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=True))


def _save_arrays(folder: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Writes arrays; a failure of the operating system is an OSError, whatever the library makes of it."""
    kept = {name: np.atleast_1d(array) for name, array in arrays.items() if array.size}
    if shutil.disk_usage(folder.parent).free < sum(array.nbytes for array in kept.values()) + _BESIDE_ARRAYS:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # else the library's threads would fill the screen
    with _checkpointer() as checkpointer:
        try:
            checkpointer.save(folder.absolute(), kept)
        except OSError:
            raise
        except Exception as error:  # the library's own layers raise many kinds
            raise refusal(error, folder.parent.parent) from error


def _load_arrays(folder: Path) -> dict[str, npt.NDArray[Any]]:
    with _checkpointer() as checkpointer:
        return dict(checkpointer.restore(folder.absolute()))
