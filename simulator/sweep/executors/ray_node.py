"""Work of a cluster's machine on a task: simulates it in a folder of its own, and sends the files that come there.

Progress and checkpoints as they are written, errors and records when points are over: in pieces, as no disk is shared.
"""

import contextlib
import hashlib
import importlib.util
import os
import platform
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from simulator.experiment import SimulationError
from simulator.host.files import naming, put, remove_folder
from simulator.host.versions import versions
from simulator.record import SUMMARY_FILE, checkpoint_folders
from simulator.sweep.executors.environment import ProcessEnvironment
from simulator.sweep.executors.task_process import simulate
from simulator.sweep.folder import CHECKPOINTS, ERROR_FILE, PROGRESS_FILE, remove_interim_files
from simulator.sweep.plan import Task

PIECE_BYTES = 2**24
_LOOKED_EVERY_S = 0.5
_INCOMING = ".incoming"
Send = Callable[[str, str, bytes | None], None]
"""Sends a piece of a file: folder of the point, path of the file from there, content, or None once all is sent of what
appears together: of a record (path ""), or of a checkpoint (path of its folder)."""


def carry_out(
    task: Task,
    environment: ProcessEnvironment,
    files: Iterable[tuple[str, Iterable[bytes]]],
    send: Send,
    stop: Callable[[], bool],
) -> None:
    """Simulates a task's points.

    Args:
      task: the points.
      environment: of this process.
      files: existing files of the points: path from the folder of all, pieces.
      send: sends the pieces of new files.
      stop: returns whether to checkpoint and stop.

    Raises:
      ExperimentError: a plugin cannot be run.
      RuntimeError: this process computes with JAX already, with other settings.
      OSError: this machine's disk cannot be written to.
    """
    with tempfile.TemporaryDirectory(prefix="tardigrad-") as name:
        folder = Path(name)
        for path, pieces in files:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            with naming(folder / path), (folder / path).open("wb") as file:
                file.writelines(pieces)
        sender, stopping = FileSender(task, folder, send), threading.Event()
        with ThreadPoolExecutor(1) as thread:
            simulation = thread.submit(simulate, task, folder, environment, stopping.is_set)
            try:
                over = False
                while not over:
                    over = bool(wait([simulation], _LOOKED_EVERY_S).done)
                    sender.send_new()
                    if stop():
                        stopping.set()
            finally:
                stopping.set()
            simulation.result()


class FileSender:
    """Sends the files of a task's points, each once.

    Args:
      task: the points, which are simulated in order.
      folder: that of all, with the existing files.
      send: sends a piece of a file.
    """

    def __init__(self, task: Task, folder: Path, send: Send):
        self._folder, self._send = folder, send
        self._left = [run.folder for run in task.runs if run.index not in task.known]
        self._sent = {path for name in self._left for path in checkpoint_folders(folder / name / CHECKPOINTS)}
        self._progress = b""

    def send_new(self) -> None:
        """Sends what is new: a checkpoint and the progress of the point under way, records and errors before."""
        while self._left:
            point = self._folder / self._left[0]
            if (point / SUMMARY_FILE).exists():
                self._send_all(point, "", point, record_files(point))
            elif (point / ERROR_FILE).exists():
                self._send_all(point, "", point, [point / ERROR_FILE])
            else:
                with contextlib.suppress(FileNotFoundError):  # it is over
                    self._send_state(point)
                return
            self._left.pop(0)
            self._progress = b""

    def _send_state(self, point: Path) -> None:
        kept = point / CHECKPOINTS
        newest = next(iter(checkpoint_folders(kept)), None)
        if newest is not None and newest not in self._sent:
            with tempfile.TemporaryDirectory(dir=self._folder) as links:  # the simulation removes it at any time
                try:
                    whole = Path(shutil.copytree(newest, Path(links, newest.name), copy_function=_link))
                except (FileNotFoundError, shutil.Error):
                    if checkpoint_folders(kept)[:1] == [newest]:
                        raise
                    return  # it has been removed
                if checkpoint_folders(kept)[:1] != [newest]:  # some of it may have been removed already
                    return
                files = [path for path in whole.rglob("*") if path.is_file()]
                self._send_all(point, newest.relative_to(point).as_posix(), whole, files)
            self._sent.add(newest)
        progress = (point / PROGRESS_FILE).read_bytes()
        if progress != self._progress:
            self._send_all(point, "", point, [point / PROGRESS_FILE])
            self._progress = progress

    def _send_all(self, point: Path, path: str, home: Path, files: Iterable[Path]) -> None:
        for file in files:
            for piece in pieces_of(file):
                self._send(point.name, Path(path, file.relative_to(home)).as_posix(), piece)
        self._send(point.name, path, None)


def files_of(point: Path) -> list[Path]:
    """Returns the existing files of a point, as `carry_out` takes them: its record, or its checkpoint."""
    if (point / SUMMARY_FILE).exists():
        return record_files(point)
    return [
        path for newest in checkpoint_folders(point / CHECKPOINTS)[:1] for path in newest.rglob("*") if path.is_file()
    ]


def record_files(point: Path) -> list[Path]:
    """Returns the files of a finished point's record; its progress may be removed at any time."""
    return [path for path in point.iterdir() if path.is_file() and path.name != PROGRESS_FILE]


def pieces_of(path: Path) -> Iterator[bytes]:
    """Yields the content of a file, one empty piece of an empty one."""
    with path.open("rb") as file:
        yield file.read(PIECE_BYTES)
        while piece := file.read(PIECE_BYTES):
            yield piece


def _link(source: str, target: str) -> None:
    """Links a file, or copies it where the file system knows no links."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copy2(source, target)


class FileReceiver:
    """Puts the pieces of a point's files together; incomplete files are not visible.

    Args:
      point: folder of the point.
      keep: number of its newest checkpoints that stay.
    """

    def __init__(self, point: Path, keep: int):
        self._point, self._keep = point, keep
        self._incoming = point / _INCOMING
        shutil.rmtree(self._incoming, ignore_errors=True)  # of a process that was lost

    def add(self, path: str, content: bytes | None) -> None:
        """Takes what `Send` sends of the point."""
        if content is not None:
            incoming = self._incoming / path
            incoming.parent.mkdir(parents=True, exist_ok=True)
            with naming(incoming), incoming.open("ab") as file:
                file.write(content)
            return
        if path:
            self._take_checkpoint(path)
        else:
            self._take_files()
        shutil.rmtree(self._incoming)  # with what there may be of a checkpoint that was removed while it was sent

    def _take_checkpoint(self, path: str) -> None:
        final = self._point / path
        final.parent.mkdir(parents=True, exist_ok=True)
        put(self._incoming / path, final)
        for old in checkpoint_folders(self._point / CHECKPOINTS)[self._keep :]:
            remove_folder(old)

    def _take_files(self) -> None:
        names = sorted(path.name for path in self._incoming.iterdir() if path.is_file())
        for name in sorted(names, key=lambda name: name == SUMMARY_FILE):  # with which a record is whole
            put(self._incoming / name, self._point / name, durable=name != PROGRESS_FILE)
        if SUMMARY_FILE in names:
            remove_interim_files(self._point)
        elif ERROR_FILE in names:
            (self._point / PROGRESS_FILE).unlink(missing_ok=True)


def program() -> dict[str, str]:
    """Returns the identity of this program: versions, and a fingerprint of its own sources."""
    digest = hashlib.sha256()
    for name in ("models", "simulator"):
        package = importlib.util.find_spec(name)  # to import the models would load JAX
        assert package is not None
        assert package.origin is not None
        home = Path(package.origin).parent
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
