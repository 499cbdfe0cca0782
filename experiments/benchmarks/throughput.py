"""Training throughput: tokens/s of simulated clusters, of a bare compiled scan, and of plain PyTorch.

    python experiments/benchmarks/throughput.py [--workload quickstart | a] [--repeats 5] [key.path=value ...]

1. Simulated: the batched trainer, with every core of a CPU as a device. Evaluations are next to none.
2. The bare scan: one `jax.lax.scan` over as many steps of the same model, batch size and inner optimizer, on one
   replica, whose products may use every core.
3. PyTorch: an eager loop over the same batches from the same parameters, with every core; left out where PyTorch is not
   installed (the extra `benchmarks`).

All are compiled beforehand, and take turns in an order that changes. Ratios are of neighbours in time. The budget is
one of whole rounds of all workers: behind a barrier, what is trained beyond the budget would not be counted.
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import optax
from measuring import machine, own_peak_mib, seconds
from rich.console import Console
from rich.table import Table

from simulator import Cache, Experiment, Setup, load, simulate, use_cpu_cores
from simulator.learning.model import tokens_per_step

HERE = Path(__file__).parent
FILES = {"quickstart": HERE.parent / "quickstart.yaml", "a": HERE / "workload_a.yaml"}
SETTINGS = ("pretrain.steps=0", "evaluate.windows=8", "evaluate.every_local_steps=1000000000")
STEPS = {"quickstart": "budget.local_steps=1600", "a": "budget.local_steps=200"}
BARE, TORCH = "bare scan, one replica", "PyTorch, one replica"
GOAL_OF_BARE, GOAL_OF_TORCH = 1.0, {"quickstart": None, "a": 1.0}


def bare(experiment: Experiment, cache: Cache) -> Callable[[], None]:
    """Returns plain training of one replica for the experiment's number of steps, as one compiled scan."""
    setup = Setup(experiment, cache)
    recipe, data = setup.recipe, setup.round_data()
    steps = experiment.budget.local_steps or 0
    examples, rates = data.order(0, 0, steps), data.rates(0, 0, steps)
    params = setup.start()
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

    return lambda: jax.block_until_ready(train(data.arrays, params, state, examples, rates)) and None


def simulated(experiment: Experiment, cache: Cache) -> Callable[[], None]:
    """Returns the simulation of the experiment."""
    return lambda: simulate(experiment, cache=cache) and None


def measured(workload: str, settings: list[str], repeats: int) -> Table:
    """Measures one workload and returns its table."""
    points, cache = load(FILES[workload], *SETTINGS, STEPS[workload], *settings), Cache()
    first = points[0].experiment
    steps, whole = first.budget.local_steps or 0, first.cluster.workers * first.inner.local_steps
    if steps % whole:
        sys.exit(f"budget.local_steps={steps} is not a multiple of {whole}, the local steps of a round of all workers")
    runs = {BARE: bare(first, cache)}
    if importlib.util.find_spec("torch"):
        from plain_torch import plain_torch

        runs[TORCH] = plain_torch(first, cache)
    named = {f"simulated: {point.variant or point.experiment.name}": point.experiment for point in points}
    runs |= {name: simulated(experiment, cache) for name, experiment in named.items()}
    for run in runs.values():
        run()  # compiles
    compiled = Setup(first, cache).programs().compilations
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(repeats):
        for name in list(runs)[:: -1 if number % 2 else 1]:
            taken[name].append(seconds(runs[name]))
    assert Setup(first, cache).programs().compilations == compiled, "a simulation recompiled"
    tokens = steps * tokens_per_step(first)
    workers = first.cluster.workers
    title = f"{first.name}: {workers} workers, {tokens:,} tokens a run, {repeats} runs in turns"
    of_bare, of_torch = (f"of the {name} (median, range)" for name in ("bare scan", "PyTorch loop"))
    table = Table("", "tokens/s", of_bare, "goal", of_torch, "goal", title=title)
    for name, times in taken.items():
        goals = (GOAL_OF_BARE, GOAL_OF_TORCH[workload]) if name in named else (None, None)
        cells = [_ratio(taken.get(other), times) for other in (BARE, TORCH)]
        shown = ["" if goal is None else f"{goal:.1f}" for goal in goals]
        table.add_row(name, f"{tokens / statistics.median(times):,.0f}", cells[0], shown[0], cells[1], shown[1])
    return table


def _ratio(baseline: list[float] | None, times: list[float]) -> str:
    if baseline is None:
        return "not installed"
    ratios = [other / own for other, own in zip(baseline, times, strict=True)]
    return f"{statistics.median(ratios):.3f}  ({min(ratios):.3f} to {max(ratios):.3f})"


def peak_mib(arm: str, workload: str, settings: list[str]) -> float:
    """Returns the peak resident memory of a process that runs one arm alone, in MiB."""
    command = [sys.executable, __file__, "--peak-of", arm, "--workload", workload, *settings]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(json.loads(printed))


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="key.path=value")
    parser.add_argument("--workload", choices=tuple(FILES), help="both when absent")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="also measure the peak memory of both JAX arms")
    parser.add_argument("--peak-of", choices=("bare", "simulated"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    use_cpu_cores()
    arms = {"bare": bare, "simulated": simulated}
    workloads = [arguments.workload] if arguments.workload else list(FILES)
    if arguments.peak_of:
        settings = (*SETTINGS, STEPS[workloads[0]], *arguments.settings)
        arms[arguments.peak_of](load(FILES[workloads[0]], *settings)[0].experiment, Cache())()
        print(own_peak_mib())
        return
    console = Console()
    for workload in workloads:
        console.print(measured(workload, arguments.settings, arguments.repeats))
        for arm in arms if arguments.memory else ():
            console.print(f"peak memory, {arm}: {peak_mib(arm, workload, arguments.settings):,.0f} MiB")
    packages = ("jax", "jaxlib", "numpy", *(("torch",) if importlib.util.find_spec("torch") else ()))
    console.print(machine(*packages))


if __name__ == "__main__":
    main()
