"""What simulating costs: tokens/s of a simulated cluster over tokens/s of plain training of the same model.

    python experiments/benchmarks/overhead.py [key.path=value ...]

Plain training is one compiled `jax.lax.scan` over as many steps of the same model, batch size and inner optimizer, on
one replica, which may use every core of a CPU. Both are compiled beforehand, neither evaluates, and they take turns;
the table shows medians.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

from simulator import Experiment, Workshop, load, simulate, use_cpu_cores
from simulator.learning.modeling import tokens_per_step

QUICKSTART = Path(__file__).parents[1] / "quickstart.yaml"
SETTINGS = ("pretrain.steps=0", "evaluate.windows=8", "evaluate.every_local_steps=1000000000")


def bare(experiment: Experiment, workshop: Workshop) -> Callable[[], None]:
    """Returns plain training of one replica for the experiment's number of steps, as one compiled scan."""
    recipe, feed = workshop.recipe(experiment), workshop.feed(experiment)
    steps = experiment.budget.local_steps or 0
    examples, rates = feed.order(0, 0, steps), feed.rates(0, 0, steps)
    params = workshop.start(experiment)
    state = recipe.initial_state(params)

    @jax.jit
    def train(
        arrays: dict[str, jax.Array], params: object, state: object, examples: jax.Array, rates: jax.Array
    ) -> jax.Array:
        def step(carry: tuple, given: tuple[jax.Array, jax.Array]) -> tuple[tuple, jax.Array]:
            (params, state), (rows, rate) = carry, given
            batch = recipe.fetch(arrays, rows)
            loss, gradients = jax.value_and_grad(recipe.loss)(params, batch, None)
            updates, state = recipe.optimizer(rate).update(gradients, state, params)
            return (optax.apply_updates(params, updates), state), loss

        (params, _), losses = jax.lax.scan(step, (params, state), (examples, rates))
        return losses.mean() + 0.0 * jax.tree.leaves(params)[0].sum()

    return lambda: jax.block_until_ready(train(feed.arrays, params, state, examples, rates))


def simulated(experiment: Experiment, workshop: Workshop) -> Callable[[], None]:
    """Returns the simulation of the experiment."""
    return lambda: simulate(experiment, workshop=workshop) and None


def seconds(run: Callable[[], None]) -> float:
    """Returns how long a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def peak_mib(arm: str, settings: list[str]) -> float:
    """Returns the peak resident memory of a process that runs one arm alone, in MiB."""
    command = [sys.executable, __file__, "--peak-of", arm, *settings]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(json.loads(printed))


def own_peak_mib() -> float:
    """Returns the peak resident memory of this process in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says on Linux includes the parent at the time of the fork
        [peak] = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="key.path=value")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak-of", choices=("bare", "simulated"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    use_cpu_cores()
    points = load(QUICKSTART, *SETTINGS, *arguments.settings)
    workshop = Workshop()
    arms = {"bare": bare, "simulated": simulated}
    if arguments.peak_of:
        arms[arguments.peak_of](points[0].experiment, workshop)()
        print(own_peak_mib())
        return
    runs = {"bare scan, one replica": bare(points[0].experiment, workshop)}
    runs |= {point.variant: simulated(point.experiment, workshop) for point in points}
    for run in runs.values():
        run()  # compiles
    compiled = workshop.programs(points[0].experiment).compilations
    taken = {name: [] for name in runs}
    for _ in range(arguments.repeats):
        for name, run in runs.items():
            taken[name].append(seconds(run))
    assert workshop.programs(points[0].experiment).compilations == compiled, "a simulation recompiled"

    tokens = (points[0].experiment.budget.local_steps or 0) * tokens_per_step(points[0].experiment)
    bare_s = taken["bare scan, one replica"]
    table = Table("", "tokens/s", "ratio to the bare scan (median, range)", title=f"{tokens:,} tokens a run")
    for name, times in taken.items():
        ratios = [plain / own for plain, own in zip(bare_s, times, strict=True)]
        spread = f"{statistics.median(ratios):.3f}  ({min(ratios):.3f} to {max(ratios):.3f})"
        table.add_row(name, f"{tokens / statistics.median(times):,.0f}", spread)
    console = Console()
    console.print(table)
    for arm in arms:
        console.print(f"peak memory, {arm}: {peak_mib(arm, arguments.settings):,.0f} MiB")
    device = jax.devices()[0].device_kind
    versions = f"jax {jax.__version__}, numpy {np.__version__}, Python {platform.python_version()}"
    console.print(f"{versions}, {device} ({jax.default_backend()})")


if __name__ == "__main__":
    main()
