"""What data cost: training from the memory map, preparing tokens, and the memory that both take.

    python experiments/benchmarks/data.py [--gigabytes 4] [key.path=value ...]

1. Training of the quickstart's first variant with its text on the device and gathered from the memory-mapped store, in
   turns; the ratio of their speeds.
2. Preparation on one core, beside the tokenizer alone on the same documents in memory, for bytes and for BPE.
3. Host memory while a store grows to the given size, and while training reads it: anonymous memory, since pages of the
   memory map are the operating system's to take back.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table

from simulator import Workshop, load, simulate, use_cpu_cores
from simulator.data import token_store
from simulator.data.sources import open_corpus
from simulator.data.store import CHUNK_BYTES, encoder_of
from simulator.experiment.data_schema import Data

QUICKSTART = Path(__file__).parents[1] / "quickstart.yaml"
SETTINGS = (
    "pretrain.steps=0",
    "evaluate.windows=8",
    "evaluate.every_local_steps=1000000000",
    "budget.local_steps=1000",
)
TOKENIZERS = {"bytes": {"kind": "bytes"}, "BPE, 8,000": {"kind": "bpe", "vocabulary": 8000, "train_megabytes": 2}}


def feeding(settings: list[str], repeats: int) -> Table:
    """Compares training from the device and from the host."""
    workshop = Workshop()
    runs = {}
    for feed in ("device", "host"):
        experiment = load(QUICKSTART, *SETTINGS, *settings, f"data.feed={feed}")[0].experiment
        runs[feed] = lambda experiment=experiment: simulate(experiment, workshop=workshop)
    assert len({run().summary["parameters_hash"] for run in runs.values()}) == 1  # compiles
    taken = {name: [] for name in runs}
    for number in range(repeats):
        for name in list(runs)[:: 1 if number % 2 else -1]:  # neither is always first
            taken[name].append(seconds(runs[name]))
    tokens = runs["device"]().summary["tokens"]
    ratios = [device / host for device, host in zip(taken["device"], taken["host"], strict=True)]
    table = Table("text is", "tokens/s", "ratio (median, range)", title="1. training")
    table.add_row("on the device", f"{tokens / statistics.median(taken['device']):,.0f}", "1")
    spread = f"{statistics.median(ratios):.3f}  ({min(ratios):.3f} to {max(ratios):.3f}); goal 0.98"
    table.add_row("in the memory map", f"{tokens / statistics.median(taken['host']):,.0f}", spread)
    return table


def seconds(run: Callable[[], object]) -> float:
    """Returns how long a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


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
    with cache():
        store = token_store(text(tokenizer))
        trained = store.folder / "tokenizer.json"
        data = text({"kind": "file", "path": str(trained)} if trained.exists() else tokenizer)
        encoder, documents = encoder_of(data, store), list(open_corpus(data).documents())
        chunk = max(1, len(documents) * CHUNK_BYTES // store.meta["bytes"])
        for _ in range(repeats):
            with cache():
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
def cache() -> Iterator[Path]:
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
    table = Table("", "GB of tokens", "anonymous memory, MiB", "", title="3. host memory; goal: at most 300 MiB more")
    with cache() as folder:
        for name, size in (("small", gigabytes / 20), ("large", gigabytes)):
            path = folder / f"{name}.jsonl"
            write_text(path, size * 1e9 / 2)  # two bytes a token
            chosen = f"data={{source: jsonl, files: {json.dumps(str(path))}, shards: 4, feed: host}}"
            experiment = load(QUICKSTART, *SETTINGS, chosen)[0].experiment
            with AnonymousMemory() as used:
                taken_s = seconds(lambda data=experiment.data: token_store(data))
            meta = token_store(experiment.data).meta
            speed = f"{meta['bytes'] / 1e6 / taken_s:,.0f} MB/s"
            table.add_row("preparation", f"{meta['tokens'] * 2 / 1e9:.2f}", f"{used.growth:,.0f} more", speed)
            with AnonymousMemory() as used:
                simulate(experiment, workshop=Workshop())
            table.add_row("training from it", "", f"{used.growth:,.0f} more", "")
    return table


def write_text(path: Path, size: float) -> None:
    """Writes the standard library again and again."""
    documents = [
        document.text.decode(errors="replace") for document in open_corpus(text({"kind": "bytes"})).documents()
    ]
    lines = [json.dumps({"text": document}, ensure_ascii=False) + "\n" for document in documents]
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < size:
            file.writelines(lines)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="key.path=value")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--gigabytes", type=float, default=4.2, help="size of the store in part 3; 0 leaves it out")
    parser.add_argument("--prepare", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.prepare:
        sys.stdout.write(json.dumps(prepare_on_one_core(json.loads(arguments.prepare), arguments.repeats)))
        return
    use_cpu_cores()
    console = Console()
    console.print(preparation(arguments.repeats))
    if arguments.gigabytes:
        console.print(memory(arguments.gigabytes))
    console.print(feeding(arguments.settings, arguments.repeats))

    import jax
    import numpy as np

    device = jax.devices()[0].device_kind
    versions = f"jax {jax.__version__}, numpy {np.__version__}, Python {platform.python_version()}"
    console.print(f"{versions}, {device} ({jax.default_backend()}), {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
