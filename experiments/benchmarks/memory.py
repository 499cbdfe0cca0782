"""What a simulation takes of memory, beside the estimate that is made before it runs, for 4, 16 and 64 workers.

    python experiments/benchmarks/memory.py [key.path=value ...] [--workers 4 16 64]

Every number of workers is simulated in a process of its own, for two rounds each. "arrays" is the most that arrays held
after any event; with "XLA", what it allocates to run rounds side by side, they are what the estimate is an upper bound
of. "resident" is by how much the process grew beyond what it had after compiling, "device" the peak that an
accelerator's allocator reports.

Goals: measured at most the estimate, and at least half of it.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
from measuring import machine
from rich.console import Console
from rich.table import Table

from simulator import Experiment, Workshop, load, simulate, use_cpu_cores
from simulator.learning.round import Assignment

QUICKSTART = Path(__file__).parents[1] / "quickstart.yaml"
SETTINGS = ("pretrain.steps=0", "evaluate.windows=8", "inner.local_steps=2", "model.width=128", "model.layers=4")
LIMITED = "evaluate.every_local_steps=1000000000"


def experiment_of(workers: int, settings: list[str]) -> Experiment:
    """Returns the experiment: two short rounds of every worker."""
    cluster = f"cluster.devices={{profile: slight, workers: {workers}}}"
    experiment = load(QUICKSTART, *SETTINGS, LIMITED, cluster, *settings, variant="delayed Nesterov")[0].experiment
    budget = experiment.budget.model_copy(update={"local_steps": 2 * workers * experiment.inner.local_steps})
    return experiment.model_copy(update={"budget": budget})


def resident_bytes() -> int:
    """Returns the resident memory of this process, 0 where the system does not say."""
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if status.exists() else 0


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


class Task(Assignment):
    """A round, for its shapes."""

    id = worker = shard = first_step = 0
    steps = 1


def measure(workers: int, settings: list[str]) -> dict[str, float | str]:
    """Simulates and returns bytes by name."""
    experiment, workshop = experiment_of(workers, settings), Workshop()
    needs, lanes = workshop.needs(experiment), workshop.lanes(experiment)
    programs, start = workshop.programs(experiment), workshop.start(experiment)
    used = len(programs.devices)
    on_each = lanes // used
    inputs = workshop.feed(experiment).inputs(Task(), start, workshop.recipe(experiment).initial_state(start))
    xla = programs.memory(workshop.arrays(experiment), workshop.feed(experiment).key, [inputs] * on_each)
    del inputs
    simulate(experiment, workshop=workshop)  # compiles
    before, most = resident_bytes(), {"arrays": 0.0, "resident": 0.0}

    def look() -> bool:
        most["arrays"] = max(most["arrays"], held_bytes())
        most["resident"] = max(most["resident"], resident_bytes() - before)
        return False

    simulate(experiment, workshop=workshop, stop=look)
    stats = jax.local_devices()[0].memory_stats()
    most["device"] = stats["peak_bytes_in_use"] if stats else 0.0
    return {"lanes": lanes, "estimate": needs.total, "parts": str(needs), "XLA": xla * used, **most}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="key.path=value")
    parser.add_argument("--workers", type=int, nargs="*", default=[4, 16, 64])
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        use_cpu_cores()
        print(json.dumps(measure(arguments.workers[0], arguments.settings)))
        return
    console = Console()
    columns = ("workers", "lanes", "estimate, MB", "arrays + XLA, MB", "of the estimate", "resident, MB", "device, MB")
    table = Table(*columns, title="goal: 50 % to 100 % of the estimate")
    for workers in arguments.workers:
        command = [sys.executable, __file__, *arguments.settings, "--alone", "--workers", str(workers)]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        together = found["arrays"] + found["XLA"]
        shown = [f"{each / 1e6:,.0f}" for each in (found["estimate"], together, found["resident"], found["device"])]
        share = f"{together / found['estimate']:.0%}"
        table.add_row(str(workers), str(found["lanes"]), *shown[:2], share, *shown[2:])
        console.print(f"{workers} workers, estimate: {found['parts']}")
    console.print(table)
    console.print(machine("jax", "numpy"))


if __name__ == "__main__":
    main()
