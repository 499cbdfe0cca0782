"""Processes of a real run: a server and its workers are started, watched, and ended whatever happens."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
_SERVER = "server"
_POLL_S, _GRACE_S = 0.05, 5.0

Processes = Mapping[str, "subprocess.Popen[bytes]"]
"""By name: the server and the workers."""


class RunFailedError(RuntimeError):
    """A real run that did not come to its end."""


def run(
    task: Path, workers: int, folder: Path, *, limit_s: float, watch: Callable[[Processes], None] = lambda _: None
) -> None:
    """Runs a server and its workers to the end of the run. None of them is there any more afterwards.

    The server listens at a free port of 127.0.0.1. Each process writes what it has to say into a file of the folder,
    and ends by itself when this one has gone.

    Args:
      task: file of the `Task`.
      workers: number of them.
      folder: of the processes' own words.
      limit_s: seconds after which the run is given up.
      watch: called with the processes again and again.

    Raises:
      RunFailedError: a process has ended too early or with an error, or the time is up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as stack:
        port = str(listener.getsockname()[1])
        number = listener.fileno()
        commands = {_SERVER: ["real_server.py", str(task), str(number)]}
        commands |= {f"worker {index}": ["real_worker.py", str(task), str(index), port] for index in range(workers)}
        processes: dict[str, subprocess.Popen[bytes]] = {}
        for name, (script, *arguments) in commands.items():
            words = stack.enter_context(_file_of(folder, name).open("wb"))
            command = [sys.executable, str(HERE / script), *arguments]
            passed = (number,) if name == _SERVER else ()
            processes[name] = stack.enter_context(_started(command, words, passed))
        listener.close()  # the server has it
        _await_end(processes, folder, time.monotonic() + limit_s, limit_s, watch)


def _file_of(folder: Path, name: str) -> Path:
    return folder / f"{name.replace(' ', '-')}.log"


@contextlib.contextmanager
def _started(command: list[str], words: object, passed: tuple[int, ...]) -> Iterator["subprocess.Popen[bytes]"]:
    """Yields a process, and ends it. Interrupts of the terminal reach this process alone, which then ends that one."""
    root = str(HERE.parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=words,  # type: ignore[arg-type]
        stderr=subprocess.STDOUT,
        env=environment,
        pass_fds=passed,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()


def _await_end(
    processes: Processes, folder: Path, deadline_s: float, limit_s: float, watch: Callable[[Processes], None]
) -> None:
    """Waits until all processes have ended well.

    Raises:
      RunFailedError: one has not, or the time is up.
    """
    while True:
        watch(processes)
        codes = {name: process.poll() for name, process in processes.items()}
        if any(codes.values()):
            time.sleep(_POLL_S)  # others follow
            codes = {name: process.poll() for name, process in processes.items()}
            ended = [f"{name} ended with {code}{_last_words(folder, name)}" for name, code in codes.items() if code]
            raise RunFailedError("; ".join(ended))
        if codes[_SERVER] == 0 and all(code == 0 for code in codes.values()):
            return
        if time.monotonic() > deadline_s:
            raise RunFailedError(f"the run is given up after {limit_s:g} s: give it more time, or fewer local steps")
        time.sleep(_POLL_S)


def _last_words(folder: Path, name: str) -> str:
    lines = _file_of(folder, name).read_text(encoding="utf-8", errors="replace").splitlines()
    return f" ({lines[-1].strip()})" if lines else ""
