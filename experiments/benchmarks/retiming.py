"""Cost of a sweep whose points have the same trajectory, or the same beginning, over what one run costs.

    python experiments/benchmarks/retiming.py [--repeats N] [key.path=value ...]

The synchronous quickstart at sixteen bandwidths is trained once and re-timed fifteen times; a worker's crash at eight
different times has as many trajectories with common beginnings. One run and each sweep take turns, compiled beforehand
and without pretraining; the table shows medians. With --check every point is trained by itself too, and compared bit by
bit.
"""

import argparse
import functools
import statistics
from collections.abc import Sequence
from pathlib import Path

from measuring import machine, seconds
from rich.console import Console
from rich.table import Table

from simulator import Cache, Experiment, RunRecord, load, simulate, use_cpu_cores
from simulator.sweep.reuse_plan import sharing

QUICKSTART = Path(__file__).parents[1] / "quickstart.yaml"
SETTINGS = ("pretrain.steps=0", "evaluate.windows=64")
SYNCHRONOUS, ASYNCHRONOUS = "sync DiLoCo", "async Nesterov"
MBITS = [round(2**power) for power in range(16)]


def bandwidths(settings: Sequence[str]) -> list[Experiment]:
    """Returns the synchronous experiment at sixteen bandwidths."""
    return [
        load(QUICKSTART, *SETTINGS, *settings, f"cluster.network.bandwidth={mbits}Mbit/s", variant=SYNCHRONOUS)[
            0
        ].experiment
        for mbits in MBITS
    ]


def crashes(settings: Sequence[str]) -> list[Experiment]:
    """Returns the asynchronous experiment with a crash at each of eight times between its start and its end."""
    [plain] = load(QUICKSTART, *SETTINGS, *settings, variant=ASYNCHRONOUS)
    length_s = simulate(plain.experiment, trainer="null").summary["simulated_seconds"]
    times_s = [length_s * (8 - part) / 8 for part in range(8)]
    faults = [f"cluster.faults.trace=[[0, {at_s}, crash], [0, {at_s + 30}, join]]" for at_s in times_s]
    return [load(QUICKSTART, *SETTINGS, *settings, each, variant=ASYNCHRONOUS)[0].experiment for each in faults]


def swept(experiments: Sequence[Experiment], cache: Cache) -> list[RunRecord]:
    """Simulates experiments with what they can have from each other."""
    plan, records = sharing(experiments, [str(index) for index in range(len(experiments))], cache), []
    for index, experiment in enumerate(experiments):
        share = plan.share(index)
        records.append(simulate(experiment, cache=cache, share=share))
        plan.done(index, records[-1], share.kept)
    return records


def check(experiments: Sequence[Experiment], cache: Cache) -> None:
    """Compares a sweep with training every point.

    Raises:
      AssertionError: something differs in a bit.
    """
    for experiment, record in zip(experiments, swept(experiments, cache), strict=True):
        alone = simulate(experiment, cache=cache)
        assert record.rounds.equals(alone.rounds)
        assert record.evaluations.equals(alone.evaluations)
        assert record.summary["parameters_hash"] == alone.summary["parameters_hash"]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="key.path=value")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--check", action="store_true", help="train every point by itself too, and compare")
    arguments = parser.parse_args()
    use_cpu_cores()
    cache = Cache()
    table = Table("", "points", "one run", "sweep / one run (median, range)", "local steps trained", "goal")
    console = Console()
    for name, make, goal in (
        ("bandwidths, one trajectory", bandwidths, "1.2"),
        ("crashes, common beginnings", crashes, ""),
    ):
        experiments = make(arguments.settings)
        one = functools.partial(simulate, experiments[0], cache=cache)
        one()  # compiles
        taken = [
            (seconds(one), seconds(lambda every=experiments: swept(every, cache))) for _ in range(arguments.repeats)
        ]
        ratios = [sweep / single for single, sweep in taken]
        records = swept(experiments, cache)
        steps = sum(record.summary["local_steps"] for record in records)
        trained = steps - sum((record.summary["reused"] or {}).get("local_steps", 0) for record in records)
        spread = f"{statistics.median(ratios):.2f}  ({min(ratios):.2f} to {max(ratios):.2f})"
        single = f"{statistics.median(each for each, _ in taken):.1f} s"
        table.add_row(name, str(len(experiments)), single, spread, f"{trained:,} of {steps:,}", goal)
        if arguments.check:
            check(experiments, cache)
            console.print(f"{name}: as if every point had been trained by itself, bit for bit")
    console.print(table)
    console.print(machine("jax"))


if __name__ == "__main__":
    main()
