"""Prepares tokens in processes that are stopped and killed, and prints what they did.

A script, because only a process without threads may fork, and importing the simulator once for each would take long.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from simulator.data import token_store
from simulator.experiment.schema.data import TextData

CHUNK_BYTES = 1_000


class Preparation:
    """A process that prepares tokens and tells every step with a letter.

    The letters: t before training, s when a file is safe, k when a chunk is kept, w when waiting for another process.
    """

    def __init__(self, cache: Path, data: TextData, stop_after: int | None = None):
        self.steps: Counter[str] = Counter()
        self._events, told = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(_prepare(cache, data, told, stop_after))
        os.close(told)

    def go_to(self, count: int) -> None:
        """Waits for a number of steps, or for the end."""
        while self.steps.total() < count and self._hear():
            pass

    def wait_until_stopped(self) -> None:
        os.waitpid(self.pid, os.WUNTRACED)

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    def ended(self) -> dict[str, Any]:
        """Waits for the end, and returns how it ended and the number of its steps."""
        while self._hear():
            pass
        _, status = os.waitpid(self.pid, 0)
        os.close(self._events)
        return {"status": os.waitstatus_to_exitcode(status), "steps": self.steps}

    def _hear(self) -> bool:
        heard = os.read(self._events, 1).decode()
        self.steps.update(heard)
        return bool(heard)


def _prepare(cache: Path, data: TextData, told: int, stop_after: int | None) -> int:
    os.environ["TARDIGRAD_CACHE"] = str(cache)
    fsync, tokenised = os.fsync, 0

    def slow_fsync(file: int) -> None:
        time.sleep(0.001)
        fsync(file)
        os.write(told, b"s")

    def progress(doing: str, *_: object) -> None:
        nonlocal tokenised
        os.write(
            told, {"training the tokenizer": b"t", "tokenising": b"k", "finding the place again": b""}.get(doing, b"w")
        )
        tokenised += doing == "tokenising"
        if tokenised == stop_after:
            os.kill(os.getpid(), signal.SIGSTOP)

    os.fsync = slow_fsync
    try:
        token_store(data, progress, chunk_bytes=CHUNK_BYTES)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _state(cache: Path) -> dict[str, Any]:
    """Returns what a killed process has left."""
    progress = list(cache.glob("tokens/*.partial/progress.json"))
    return {
        "kept": json.loads(progress[0].read_text())["documents"] if progress else 0,
        "tokenizer": bool(list(cache.glob("tokens/*.partial/tokenizer.json"))),
        "complete": bool(list(cache.glob("tokens/*/meta.json"))),
    }


def killed_again_and_again(cache: Path, data: TextData, most_steps: list[int]) -> dict[str, Any]:
    """Kills processes after a random number of steps, up to each of the numbers, and a random time; lets one end."""
    draw = random.Random(0)
    killed, states = [], []
    for most in most_steps:
        preparation = Preparation(cache, data)
        preparation.go_to(draw.randint(0, most))
        time.sleep(draw.uniform(0, 0.01))
        preparation.kill()
        killed.append(preparation.ended())
        states.append(_state(cache))
    return {"killed": killed, "states": states, "last": Preparation(cache, data).ended()}


def two_at_once(cache: Path, data: TextData, then: int) -> list[dict[str, Any]]:
    """Starts a second process while the first is stopped, and sends a signal to the first when the second waits."""
    first = Preparation(cache, data, stop_after=3)
    first.wait_until_stopped()
    second = Preparation(cache, data)
    second.go_to(1)
    first.kill(then)
    return [first.ended(), second.ended()]


def main(folder: Path) -> None:
    """Does all of it to the tokens of the text files in a folder, in one cache folder for each."""

    def data(tokenizer: object) -> TextData:
        return TextData(source="text", files=str(folder / "*.txt"), documents="line", tokenizer=tokenizer)

    plain, bpe = data("bytes"), data({"kind": "bpe", "vocabulary": 1000})
    outcomes = {
        "bytes": killed_again_and_again(folder / "bytes", plain, [12] * 25),
        "bpe": killed_again_and_again(folder / "bpe", bpe, [1] * 12 + [8] * 12),
        "both": two_at_once(folder / "both", plain, signal.SIGCONT),
        "heir": two_at_once(folder / "heir", plain, signal.SIGKILL),
    }
    print(json.dumps(outcomes))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))
