"""Gain of running rounds side by side: the batched trainer's local steps per second over the serial one's.

    python experiments/benchmarks/batching.py [key.path=value ...] [--workers 16] [--lanes 1 2 4] [--seconds 20]

Every worker of the quickstart's model submits a round, then all results are asked for. Rounds have the same length, or
lengths in proportion to the speeds of the profile "very", as dynamic local updates make them. "chosen" is what an
experiment gets that does not say how many lanes; numbers of lanes that are asked for show what it chooses from, and
"padded" what they took when every lane went on to the end of the longest. All are compiled beforehand and take turns.

Goals: chosen at least 1.0 times the serial trainer everywhere; 5 times on a GPU with 16 workers.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from measuring import machine, seconds
from rich.console import Console
from rich.table import Table

from simulator import Cache, Experiment, Setup, load, use_cpu_cores
from simulator.cluster.devices import profile_step_s
from simulator.learning import Stretch, Trainer, Values

QUICKSTART = Path(__file__).parents[1] / "quickstart.yaml"


def experiment_of(settings: list[str], workers: int, lanes: int | None) -> Experiment:
    """Returns the quickstart's experiment with so many workers and lanes."""
    cluster = f"cluster.devices={{profile: very, workers: {workers}}}"
    more = [] if lanes is None else [f"compute.lanes={lanes}"]
    return load(QUICKSTART, "pretrain.steps=0", cluster, *settings, *more)[0].experiment


def lengths_of(kind: str, experiment: Experiment, workers: int) -> list[int]:
    """Returns the local steps of every worker's round."""
    longest = experiment.inner.local_steps
    if kind == "equal":
        return [longest] * workers
    step_s = profile_step_s("very", workers)
    return [max(1, int(longest * step_s[0] / each)) for each in step_s]


def arm(experiment: Experiment, cache: Cache, kind: str, lengths: list[int]) -> Callable[[], None]:
    """Returns what trains a round of every worker.

    Args:
      experiment: what is trained.
      cache: where compiled programs are kept.
      kind: "serial", "batched", or "padded", where every lane does as many steps as the longest.
      lengths: local steps of the rounds.
    """
    setup = Setup(experiment, cache)
    params = setup.start()
    done = [max(lengths)] * len(lengths) if kind == "padded" else lengths

    def run() -> None:
        trainer: Trainer = setup.trainer("serial" if kind == "serial" else "batched")
        values = Values()
        start = values.known("params", params)
        rounds = [Stretch(number, number, number % experiment.shards, 0, steps) for number, steps in enumerate(done)]
        trainings = [trainer.training(values, round, start, None) for round in rounds]
        for training in trainings:
            trainer.submit(training)
        jax.block_until_ready([training.get() for training in trainings])

    return run


def measured(arms: dict[Any, Callable[[], None]], limit_s: float) -> dict[Any, list[float]]:
    """Returns the seconds of every arm, which take turns for about so long, each time in another order."""
    taken: dict[Any, list[float]] = {name: [] for name in arms}
    start = time.perf_counter()
    while time.perf_counter() - start < limit_s or len(next(iter(taken.values()))) < 3:
        names = list(arms)
        if len(taken[names[0]]) % 2:
            names.reverse()
        for name in names:
            taken[name].append(seconds(arms[name]))
    return taken


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="key.path=value")
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--lanes", type=int, nargs="*", default=[], help="also measure these numbers")
    parser.add_argument("--seconds", type=float, default=20, help="for each kind of lengths")
    parser.add_argument("--one-device", action="store_true", help="of a CPU: all lanes on one device, as on one GPU")
    arguments = parser.parse_args()
    use_cpu_cores(1) if arguments.one_device else use_cpu_cores()
    workers, cache = arguments.workers, Cache()
    console = Console()
    for kind in ("equal", "unequal (DyLU)"):
        serial = experiment_of(arguments.settings, workers, None)
        lengths = lengths_of(kind, serial, workers)
        arms: dict[Any, Callable[[], None]] = {"serial": arm(serial, cache, "serial", lengths)}
        arms[f"chosen: {Setup(serial, cache).lanes}"] = arm(serial, cache, "batched", lengths)
        for lanes in arguments.lanes:
            asked = experiment_of(arguments.settings, workers, lanes)
            arms[f"asked for: {lanes}"] = arm(asked, cache, "batched", lengths)
            if kind != "equal" and lanes > 1:
                arms[f"asked for: {lanes}, padded"] = arm(asked, cache, "padded", lengths)
        for run in arms.values():
            run()  # compiles
        taken = measured(arms, arguments.seconds)
        shown = f"{kind}: {workers} rounds of {min(lengths)} to {max(lengths)} steps"
        table = Table("lanes", "steps/s", "ratio to serial (median, range)", "of the fastest", "goal", title=shown)
        goal = "1.0" if jax.default_backend() == "cpu" else "5.0"
        for name, times in taken.items():
            ratios = [base / own for base, own in zip(taken["serial"], times, strict=True)]
            spread = f"{statistics.median(ratios):.2f}  ({min(ratios):.2f} to {max(ratios):.2f})"
            aim = goal if name.startswith("chosen") else ""
            fastest = f"{min(taken['serial']) / min(times):.2f}"  # others on the machine only ever slow it down
            table.add_row(name, f"{sum(lengths) / statistics.median(times):,.0f}", spread, fastest, aim)
        console.print(table)
    console.print(machine("jax", "numpy"))


if __name__ == "__main__":
    main()
