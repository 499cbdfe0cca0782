"""Memory that a simulation takes, beside the estimate that is made before it runs, for 4, 16 and 64 workers.

    python experiments/benchmarks/memory.py [key.path=value ...] [--workers 4 16 64]

Every number of workers is simulated in processes of its own, for two rounds each, with devices of the profile "very".

"arrays" is the most that arrays held between two events, "XLA" what it says that it allocates to run rounds side by
side: together they are what the estimate is an upper bound of, and no peak that was seen. "process" is one: by how much
the peak of a fresh process's resident memory grew from before its first simulation, where data, model and start were
made, to its end; that has the compiler in it and what allocators keep, so it is no part of the goal. "device" is the
peak that an accelerator's allocator reports of that process.

Goal: arrays + XLA at most the estimate, which counts every round as computed before it is due.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import jax
from measuring import machine, own_peak_mib
from rich.console import Console
from rich.table import Table

from simulator import Cache, Experiment, Setup, load, simulate, use_cpu_cores
from simulator.learning import Stretch

QUICKSTART = Path(__file__).parents[1] / "quickstart.yaml"
SETTINGS = ("pretrain.steps=0", "evaluate.windows=8", "inner.local_steps=2", "model.width=128", "model.layers=4")
LIMITED = "evaluate.every_local_steps=1000000000"
MIB = 2**20


def experiment_of(workers: int, settings: list[str]) -> Experiment:
    """Returns the experiment: two short rounds of every worker."""
    cluster = f"cluster.devices={{profile: very, workers: {workers}}}"
    experiment = load(QUICKSTART, *SETTINGS, LIMITED, cluster, *settings, variant="delayed Nesterov")[0].experiment
    budget = experiment.budget.model_copy(update={"local_steps": 2 * workers * experiment.inner.local_steps})
    return experiment.model_copy(update={"budget": budget})


def held_bytes() -> int:
    """Returns the bytes of all arrays, on all devices."""
    buffers = {
        shard.data.unsafe_buffer_pointer(): shard.data.nbytes
        for array in jax.live_arrays()
        if not jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key)
        for shard in array.addressable_shards
        if shard.data.nbytes
    }
    return sum(buffers.values())


def counted(experiment: Experiment) -> dict[str, float | str]:
    """Returns the estimate and what it bounds: bytes by name."""
    cache = Cache()
    setup = Setup(experiment, cache)
    needs, lanes = setup.needs, setup.lanes
    serial = experiment.compute.trainer == "serial"
    programs, start = setup.programs(1 if serial else None), setup.start()
    used = len(programs.devices)
    on_each = 1 if serial else lanes // used
    inputs = setup.round_data().inputs(Stretch(0, 0, 0, 0, 1), start, setup.recipe.initial_state(start))
    xla = programs.memory(setup.arrays(), setup.round_data().key, [inputs] * on_each)
    del inputs
    most = 0.0

    def look() -> bool:
        nonlocal most
        most = max(most, held_bytes())
        return False

    simulate(experiment, cache=cache, stop=look)
    shared = used if jax.default_backend() == "cpu" else 1
    described = {"lanes": on_each * used, "machine": machine("jax", "numpy"), "parts": str(needs)}
    return {"estimate": needs.total, "arrays": most, "XLA": xla * shared, **described}


def grown(experiment: Experiment) -> dict[str, float]:
    """Returns by how many bytes this process's peak grew, and what a device's allocator saw; simulates once."""
    cache = Cache()
    setup = Setup(experiment, cache)
    jax.block_until_ready((setup.arrays(), setup.start()))
    before = own_peak_mib()
    simulate(experiment, cache=cache)
    stats = jax.local_devices()[0].memory_stats()
    return {"process": (own_peak_mib() - before) * MIB, "device": stats["peak_bytes_in_use"] if stats else 0.0}


PASSES = {"counted": counted, "grown": grown}


def in_own_processes(workers: int, settings: list[str]) -> dict[str, float | str]:
    """Returns what the two passes say, each made by a process of its own."""
    found: dict[str, float | str] = {}
    for name in PASSES:
        command = [sys.executable, __file__, *settings, "--alone", name, "--workers", str(workers)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found |= json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="key.path=value")
    parser.add_argument("--workers", type=int, nargs="*", default=[4, 16, 64])
    parser.add_argument("--alone", choices=PASSES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        use_cpu_cores()
        print(json.dumps(PASSES[arguments.alone](experiment_of(arguments.workers[0], arguments.settings))))
        return
    console = Console()
    columns = ("estimate", "arrays", "XLA", "arrays + XLA\nof the estimate", "process", "device")
    title = "MB; goal: arrays between events and what XLA says it allocates are at most the estimate"
    table = Table("workers", "lanes", *columns, title=title)
    for workers in arguments.workers:
        found = in_own_processes(workers, arguments.settings)
        shown = {name: f"{found[name] / 1e6:,.1f}" for name in ("estimate", "arrays", "XLA", "process")}
        device = f"{found['device'] / 1e6:,.1f}" if found["device"] else ""
        share = f"{(found['arrays'] + found['XLA']) / found['estimate']:.0%}"
        bounds = (shown["estimate"], shown["arrays"], shown["XLA"], share)
        table.add_row(str(workers), str(found["lanes"]), *bounds, shown["process"], device)
        console.print(f"{workers} workers, estimate: {found['parts']}")
    console.print(table)
    console.print(found["machine"])


if __name__ == "__main__":
    main()
