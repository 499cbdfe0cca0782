"""Work of a cluster's machine on a task: simulates it in a folder of its own, and sends the results.

CHECKPOINTS as they are written, records when they are finished: files in pieces, so that no disk is shared
"""

import contextlib
import hashlib
import pickle
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from simulator.experiment import SimulationError
from simulator.host.signals import Stopped
from simulator.host.versions import versions
from simulator.record import SUMMARY_FILE, atomic_path, naming
from simulator.sweep.executors.environment import Surroundings
from simulator.sweep.executors.messages import Message, Over, Piece, Stood, Teller
from simulator.sweep.folder import CHECKPOINTS
from simulator.sweep.outcomes import Failure, Outcome
from simulator.sweep.plan import PlannedRun, Task

PIECE_BYTES = 2**24
_INCOMING = ".incoming"
_caches: dict[float, Any] = {}  # of this process: Ray gives it one task after another


def carry_out(
    task: Task,
    surroundings: Surroundings,
    files: Iterable[tuple[int, str, str, Iterable[bytes]]],
    send: Callable[[bytes], bool],
) -> None:
    """Simulates a task's points.

    Args:
      task: the points.
      surroundings: environment of this process.
      files: existing files of the points: place, checkpoint ("" of a record), path, pieces.
      send: sends a message; returns whether to stop.

    Raises:
      RuntimeError: this process computes with JAX already, with other settings.
      OSError: this machine's disk cannot be written to.
    """
    surroundings.enter()
    from simulator.host.compile_cache import keep_compiled_programs
    from simulator.learning import Cache
    from simulator.sweep.task import TaskRunner

    keep_compiled_programs()
    if surroundings.memory not in _caches:
        _caches[surroundings.memory] = Cache(memory=surroundings.memory)
    with tempfile.TemporaryDirectory(prefix="tardigrad-") as name:
        folder = Path(name)
        runs = {run.index: run for run in task.runs}
        for index, what, path, pieces in files:
            _put(_home(folder / runs[index].folder, what) / path, pieces)
        sender = _Sender(task, folder, send)
        runner = TaskRunner(folder, _caches[surroundings.memory], sender.begin, lambda: sender.stopping)
        try:
            for outcome in runner.outcomes(task):
                sender.over(outcome)
        except Stopped as stopped:
            assert runner.current is not None
            sender.stood(runner.current, stopped.updates)


class _Sender:
    """Sends the files and outcomes of a task's points.

    Attributes:
      stopping: whether to stop.
    """

    def __init__(self, task: Task, folder: Path, send: Callable[[bytes], bool]):
        self.stopping = False
        self._folder, self._send = folder, send
        self._sent = {(run.index, path.name) for run in task.runs for path in _checkpoints(folder / run.folder)}

    def begin(self, run: PlannedRun) -> Teller:
        """Returns the observer of a point, which also sends its checkpoints."""
        return Teller(run, self._tell, lambda: self._ship(run))

    def over(self, outcome: Outcome) -> None:
        """Sends the record of a point that is finished, or what went wrong."""
        if isinstance(outcome, Failure):
            self._tell(outcome)
            return
        for piece in pieces_of(outcome.run.index, "", self._folder / outcome.run.folder):
            self._tell(piece)
        self._tell(Over(outcome.run.index))

    def stood(self, run: PlannedRun, updates: int) -> None:
        """Sends the progress of a stopped point."""
        self._ship(run)
        self._tell(Stood(run.index, updates))

    def _tell(self, message: Message) -> None:
        self.stopping = self._send(pickle.dumps(message)) or self.stopping

    def _ship(self, run: PlannedRun) -> None:
        """Sends the newest checkpoint of a point, unless that was done."""
        newest = next(iter(_checkpoints(self._folder / run.folder)), None)
        if newest is not None and (run.index, newest.name) not in self._sent:
            self._sent.add((run.index, newest.name))
            for piece in pieces_of(run.index, newest.name, newest):
                self._tell(piece)


def pieces_of(index: int, what: str, folder: Path) -> Iterator[Piece]:
    """Yields the files of a checkpoint, or of a finished record, the summary last."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    files.sort(key=lambda path: (path.name == SUMMARY_FILE, path))
    for place, path in enumerate(files, 1):
        name, size = path.relative_to(folder).as_posix(), path.stat().st_size
        for first in range(0, max(size, 1), PIECE_BYTES):
            with path.open("rb") as file:
                file.seek(first)
                content = file.read(PIECE_BYTES)
            yield Piece(index, what, name, content, place == len(files) and first + PIECE_BYTES >= size)


def files_of(index: int, folder: Path) -> Iterator[tuple[int, str, str, Iterator[bytes]]]:
    """Yields the existing files of a point, as `carry_out` takes them: its record, or its checkpoint."""
    if (folder / SUMMARY_FILE).exists():
        what, home = "", folder
    elif found := _checkpoints(folder):
        what, home = found[0].name, found[0]
    else:
        return
    for path in sorted(path for path in home.rglob("*") if path.is_file()):
        yield index, what, path.relative_to(home).as_posix(), _read(path)


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while content := file.read(PIECE_BYTES):
            yield content


def _put(path: Path, pieces: Iterable[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), path.open("wb") as file:
        for content in pieces:
            file.write(content)


class Inbox:
    """Puts the pieces of a point's files together; incomplete files are not visible.

    Args:
      folder: the point's.
      keep: number of its newest checkpoints that stay.
    """

    def __init__(self, folder: Path, keep: int):
        self._folder, self._keep = folder, keep
        self._incoming = folder / _INCOMING
        shutil.rmtree(self._incoming, ignore_errors=True)  # of a process that was lost

    def add(self, piece: Piece) -> None:
        """Adds a piece, the next of its file."""
        path = self._incoming / (piece.what or "record") / piece.path
        path.parent.mkdir(parents=True, exist_ok=True)
        with naming(path), path.open("ab") as file:
            file.write(piece.content)
        if not piece.last:
            return
        if piece.what:
            self._take_checkpoint(piece.what)
        else:
            self._take_record()
        shutil.rmtree(self._incoming)

    def _take_checkpoint(self, name: str) -> None:
        final = _home(self._folder, name)
        final.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(final, ignore_errors=True)
        (self._incoming / name).rename(final)
        for old in _checkpoints(self._folder)[self._keep :]:
            shutil.rmtree(old, ignore_errors=True)

    def _take_record(self) -> None:
        made = self._incoming / "record"
        files = sorted(path for path in made.iterdir() if path.is_file())
        for path in sorted(files, key=lambda path: path.name == SUMMARY_FILE):
            with atomic_path(self._folder / path.name) as temporary:
                path.rename(temporary)
        shutil.rmtree(self._folder / CHECKPOINTS, ignore_errors=True)


def _home(folder: Path, what: str) -> Path:
    """Returns the folder of a point's checkpoint, or of its record."""
    return folder / CHECKPOINTS / what if what else folder


def _checkpoints(folder: Path) -> list[Path]:
    """Returns a point's checkpoints, the newest first."""
    with contextlib.suppress(FileNotFoundError):
        return sorted((path for path in (folder / CHECKPOINTS).iterdir() if path.name.isdecimal()), reverse=True)
    return []


def program() -> dict[str, str]:
    """Returns the identity of this program: versions, and a fingerprint of its own sources."""
    import models
    import simulator

    digest = hashlib.sha256()
    for package in (models, simulator):
        assert package.__file__ is not None
        home = Path(package.__file__).parent
        for path in sorted(home.rglob("*.py")):
            digest.update(path.relative_to(home).as_posix().encode())
            digest.update(path.read_bytes())
    return {"Python": platform.python_version(), **versions(), "tardigrad's sources": digest.hexdigest()[:12]}


def check_program(theirs: Mapping[str, str]) -> None:
    """Compares this program with the one that has sent a task.

    Raises:
      SimulationError: they differ.
    """
    ours = program()
    found = [
        f"{what} is {theirs.get(what)} there and {ours[what]} here" for what in ours if ours[what] != theirs.get(what)
    ]
    if found:
        message = f"machine {platform.node()} has another program than the one that sends it points"
        raise SimulationError(f"{message} ({'; '.join(found)}): install the same on all")
