"""Cost of data: training from the memory map, preparing tokens, and the memory that both take.

    python experiments/benchmarks/data.py [--gigabytes 4] [key.path=value ...]

1. Training of the quickstart's first variant with its text on the device and gathered from the memory-mapped store, in
   turns; the ratio of their speeds. The text is the built-in corpus in documents of 2 kB, the length of web pages: most
   windows span two of them.
2. Preparation on one core, beside the tokenizer alone on the same documents in memory, for bytes and for BPE.
3. Host memory while a store grows to the given size, and while training reads it, each in a process of its own:
   anonymous memory, since pages of the memory map are the operating system's to take back.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from measuring import machine, seconds
from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table

from simulator import Cache, load, simulate, use_cpu_cores
from simulator.data import token_store
from simulator.data.sources import open_corpus
from simulator.data.store import CHUNK_BYTES, encoder_of
from simulator.experiment.schema.data import Data

QUICKSTART = Path(__file__).parents[1] / "quickstart.yaml"
SETTINGS = (
    "pretrain.steps=0",
    "evaluate.windows=8",
    "evaluate.every_local_steps=1000000000",
    "budget.local_steps=400",
)
_PAGE = 2000  # bytes, or nearly
TOKENIZERS = {"bytes": {"kind": "bytes"}, "BPE, 8,000": {"kind": "bpe", "vocabulary": 8000, "train_megabytes": 2}}


def feeding(settings: list[str], repeats: int) -> Table:
    """Compares training from the device and from the host."""
    cache = Cache()
    runs = {}
    with cache_folder() as folder:
        path = folder / "pages.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for document in documents():
                file.writelines(line(document[first : first + _PAGE]) for first in range(0, len(document), _PAGE))
        for feed in ("device", "host"):
            experiment = load(QUICKSTART, *SETTINGS, *settings, jsonl(path, feed))[0].experiment
            runs[feed] = lambda experiment=experiment: simulate(experiment, cache=cache)
        first = {feed: run().summary for feed, run in runs.items()}  # compiles
        assert len({summary["parameters_hash"] for summary in first.values()}) == 1
        taken = {feed: [] for feed in runs}
        for number in range(repeats):
            for feed in list(runs)[:: 1 if number % 2 else -1]:  # neither is always first
                taken[feed].append(seconds(runs[feed]))
    tokens = first["device"]["tokens"]
    ratios = [device / host for device, host in zip(taken["device"], taken["host"], strict=True)]
    table = Table("text is", "tokens/s", "ratio (median, quartiles)", title="1. training; goal 0.98")
    table.add_row("on the device", f"{tokens / statistics.median(taken['device']):,.0f}", "1")
    low, middle, high = statistics.quantiles(ratios, n=4) if repeats > 1 else ratios * 3
    spread = f"{middle:.3f}  ({low:.3f} to {high:.3f})"
    table.add_row("in the memory map", f"{tokens / statistics.median(taken['host']):,.0f}", spread)
    return table


def preparation(repeats: int) -> Table:
    """Compares preparation with its tokenizer, in a process of one core."""
    table = Table(
        "tokenizer", "preparation, MB/s", "tokenizer alone, MB/s", "ratio", title="2. preparation on one core"
    )
    for name, settings in TOKENIZERS.items():
        command = [sys.executable, __file__, "--prepare", json.dumps(settings), "--repeats", str(repeats)]
        environment = os.environ | {"RAYON_NUM_THREADS": "1"}
        printed = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
        prepared, alone = json.loads(printed)
        table.add_row(name, f"{prepared:,.1f}", f"{alone:,.1f}", f"{prepared / alone:.2f}")
    return table


def prepare_on_one_core(tokenizer: dict, repeats: int) -> tuple[float, float]:
    """Returns MB/s of preparation, training of the tokenizer left out, and of the tokenizer alone."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])
    prepared, alone = [], []
    with cache_folder():
        store = token_store(text(tokenizer))
        trained = store.folder / "tokenizer.json"
        data = text({"kind": "file", "path": str(trained)} if trained.exists() else tokenizer)
        encoder, documents = encoder_of(data, store), list(open_corpus(data).documents())
        chunk = max(1, len(documents) * CHUNK_BYTES // store.meta["bytes"])
        for _ in range(repeats):
            with cache_folder():
                prepared.append(seconds(lambda: token_store(data)))
            start = time.perf_counter()
            for first in range(0, len(documents), chunk):
                encoder.encode(documents[first : first + chunk])
            alone.append(time.perf_counter() - start)
        megabytes = store.meta["bytes"] / 1e6
    return megabytes / statistics.median(prepared), megabytes / statistics.median(alone)


def text(tokenizer: dict) -> Data:
    """Returns the data section of the standard library's sources."""
    return TypeAdapter(Data).validate_python({"source": "python-stdlib", "tokenizer": tokenizer})


@contextmanager
def cache_folder() -> Iterator[Path]:
    """A cache folder of one's own."""
    with tempfile.TemporaryDirectory() as folder:
        before = os.environ.get("TARDIGRAD_CACHE")
        os.environ["TARDIGRAD_CACHE"] = folder
        try:
            yield Path(folder)
        finally:
            os.environ.pop("TARDIGRAD_CACHE")
            if before is not None:
                os.environ["TARDIGRAD_CACHE"] = before


class AnonymousMemory:
    """The most anonymous memory of this process while a block runs, in MiB above that at its start."""

    def __enter__(self) -> "AnonymousMemory":
        self._start = self.most = self._now()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.growth = self.most - self._start

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.most = max(self.most, self._now())

    @staticmethod
    def _now() -> float:
        [line] = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
        return int(line.split()[1]) / 1024


def memory(gigabytes: float) -> Table:
    """Prepares a small store and one of that size, trains from both, and returns what that took."""
    title = "3. host memory; goal: at most 300 MiB more for the larger store"
    table = Table("", "GB of tokens", "anonymous memory, MiB", "MB/s", title=title)
    found = {}
    with cache_folder() as folder:
        for name, size in (("small", gigabytes / 20), ("large", gigabytes)):
            path = folder / f"{name}.jsonl"
            write_text(path, size * 1e9 / 2)  # two bytes a token
            for task in ("prepare", "train"):
                command = [sys.executable, __file__, "--memory-of", task, str(path)]
                printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                found[task, name] = json.loads(printed)
            path.unlink()
    for task in ("prepare", "train"):
        for name in ("small", "large"):
            used, stored, speed = found[task, name]
            rate = f"{speed:,.0f}" if task == "prepare" else ""
            table.add_row(f"{task}, {name}", f"{stored:.2f}", f"{used:,.0f}", rate)
        table.add_row("difference", "", f"{found[task, 'large'][0] - found[task, 'small'][0]:,.0f}", "")
    return table


def memory_of(task: str, path: Path) -> tuple[float, float, float]:
    """Returns how much memory a task takes in MiB, the size of the store in GB, and MB of text per second."""
    experiment = load(QUICKSTART, *SETTINGS, jsonl(path, "host"))[0].experiment
    with AnonymousMemory() as used:
        if task == "prepare":
            taken_s = seconds(lambda: token_store(experiment.data))
        else:
            taken_s = seconds(lambda: simulate(experiment))
    meta = token_store(experiment.data).meta
    return used.growth, meta["tokens"] * 2 / 1e9, meta["bytes"] / 1e6 / taken_s


def jsonl(path: Path, feed: str) -> str:
    """Returns the setting that reads a file."""
    return f"data={{source: jsonl, files: {json.dumps(str(path))}, shards: 4, feed: {feed}}}"


def write_text(path: Path, size: float) -> None:
    """Writes the built-in corpus again and again."""
    lines = [line(document) for document in documents()]
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < size:
            file.writelines(lines)


def documents() -> list[str]:
    """Returns the built-in corpus."""
    return [document.text.decode(errors="replace") for document in open_corpus(text({"kind": "bytes"})).documents()]


def line(document: str) -> str:
    """Returns a line of a JSON Lines file."""
    return json.dumps({"text": document}, ensure_ascii=False) + "\n"


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="key.path=value")
    parser.add_argument("--repeats", type=int, default=15, help="pairs of runs in part 1, three times part 2's")
    parser.add_argument("--gigabytes", type=float, default=4.2, help="size of the store in part 3; 0 leaves it out")
    parser.add_argument("--prepare", help=argparse.SUPPRESS)
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.prepare:
        sys.stdout.write(json.dumps(prepare_on_one_core(json.loads(arguments.prepare), arguments.repeats)))
        return
    use_cpu_cores()
    if arguments.memory_of:
        sys.stdout.write(json.dumps(memory_of(arguments.memory_of, Path(arguments.settings[0]))))
        return
    console = Console()
    console.print(preparation(-(-arguments.repeats // 3)))
    if arguments.gigabytes:
        console.print(memory(arguments.gigabytes))
    console.print(feeding(arguments.settings, arguments.repeats))
    console.print(machine("jax", "numpy"))


if __name__ == "__main__":
    main()
