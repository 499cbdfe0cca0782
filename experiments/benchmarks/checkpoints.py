"""Cost of writing a run's state down: the quickstart's first asynchronous variant with checkpoints and without.

    python experiments/benchmarks/checkpoints.py [--minutes 1] [--repeats 2] [key.path=value ...]

Runs with a checkpoint every so many minutes of the host's clock and runs without take turns; the ratio of their times
is as good as the machine is quiet. The seconds spent on writing (fetching the state from the device, writing, hashing
and making it durable) are measured inside the runs, and say the same more precisely.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import machine
from rich.console import Console
from rich.table import Table

from simulator import Cache, load, simulate, use_cpu_cores
from simulator.simulation.checkpointer import Checkpointer
from simulator.simulation.run import Run

QUICKSTART = Path(__file__).parents[1] / "quickstart.yaml"
VARIANT = "delayed Nesterov"
SETTINGS = ("pretrain.steps=0", "budget.local_steps=16000", "evaluate.every_local_steps=4000")


class Stopwatch:
    """Adds up the time that is spent in some methods."""

    def __init__(self) -> None:
        self.seconds, self.calls = 0.0, 0

    def watch(self, owner: type, name: str) -> None:
        """Measures every call of a method from now on."""
        method: Callable[..., Any] = getattr(owner, name)

        def measured(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return method(*arguments, **named)
            finally:
                self.seconds += time.perf_counter() - start
                self.calls += 1

        setattr(owner, name, measured)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="key.path=value")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=1.0, help="between checkpoints")
    arguments = parser.parse_args()
    use_cpu_cores()
    often = f"checkpoint.every_host_minutes={arguments.minutes}"
    experiment = load(QUICKSTART, *SETTINGS, *arguments.settings, often, variant=VARIANT)[0].experiment
    cache, fetching, writing = Cache(), Stopwatch(), Stopwatch()
    short = experiment.budget.model_copy(update={"local_steps": 200})
    simulate(experiment.model_copy(update={"budget": short}), cache=cache)  # compiles
    fetching.watch(Run, "_state")
    writing.watch(Checkpointer, "save")
    taken: dict[bool, list[float]] = {True: [], False: []}
    for number in range(2 * arguments.repeats):
        with tempfile.TemporaryDirectory() as folder:
            kept = number % 4 in (0, 3)  # neither is always first
            record = simulate(experiment, cache=cache, checkpoints=Path(folder) if kept else None)
            taken[kept].append(record.summary["host_seconds"])
    with_them, without = (statistics.median(taken[kept]) for kept in (True, False))
    spent = fetching.seconds + writing.seconds
    table = Table("checkpoints", "run, s", "ratio", "written", "s each", "share of the run; goal 3 %")
    table.add_row("none", f"{without:.1f}", "1", "0", "", "")
    share, each = f"{spent / sum(taken[True]):.2%}", f"{spent / max(writing.calls, 1):.2f}"
    name, ratio = f"every {arguments.minutes:g} min", f"{with_them / without:.3f}"
    table.add_row(name, f"{with_them:.1f}", ratio, str(writing.calls), each, share)
    console = Console()
    console.print(table)
    console.print(machine("jax", "orbax-checkpoint"))


if __name__ == "__main__":
    main()
