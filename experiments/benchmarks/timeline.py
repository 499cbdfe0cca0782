"""Cost of the clock alone: the timeline against a bare SimPy loop with as many timeouts.

    python experiments/benchmarks/timeline.py [--quick] [--out timeline.png]

The bare loop has as many processes as there are workers. Each waits for the same pulls, computations and pushes as the
worker, one `yield env.timeout(...)` after the other, and does nothing else. How many there are is counted, not
estimated: a first run of the timeline, which is not timed, notes every timeout that is made, also for rounds that are
still under way at the end, for retries and for what faults wait for. A worker's process makes three for each of its
rounds that arrived; what is left over is spread evenly over the workers. So both arms make exactly as many timeouts,
of the same lengths, with as many of them pending at a time. They take turns, and the tables show medians of
processor time.

Timed is everything from the description of the cluster to the last event: making the processes, and iterating over
the events, which are thrown away. With the record, every event is also noted in the tables that a run without training
writes. Each size is run in a process of its own, for its peak memory.
"""

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import simpy
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from measuring import own_peak_mib
from rich.console import Console
from rich.table import Table

from simulator.cluster import ClusterModel, FaultModel, Link, profile_step_s
from simulator.experiment.schema.experiment import Budget
from simulator.experiment.schema.faults import Faults
from simulator.simulation.recorder import Recorder
from simulator.timeline import (
    Accepted,
    Answered,
    Asynchronous,
    Barrier,
    Evaluation,
    Fault,
    Finished,
    Lost,
    Offered,
    Proportional,
    Shortened,
    SynchronizationPolicy,
    Timeline,
    TimelineConfig,
    Update,
)

GOAL = 0.5
LOCAL_STEPS, SHARDS = 50, 16
LATENCY_S, TRANSMISSION_S = 0.05, 0.3
BARE = "bare SimPy loop"


class Case(NamedTuple):
    """A simulation to time.

    Attributes:
      synchronization: when workers restart.
      load: how busy the server's own link is with pulls, and with pushes; 0 leaves it out.
      jitter: of compute times.
      faults: what goes wrong.
      shards: number of data shards; as many as workers where it is None.
      record: whether the tables of a run are filled.
    """

    synchronization: SynchronizationPolicy = Asynchronous(1.0)
    load: float = 0.0
    jitter: float = 0.0
    faults: dict[str, Any] | None = None
    shards: int | None = SHARDS
    record: bool = False


FAULTS = {
    "crashes": {"time_between": 2000.0, "repair": 60.0},
    "slowdowns": {"time_between": 1000.0, "duration": 100.0, "factor": 2.0},
    "message_loss": {"probability": 0.01, "timeout": 1.0},
}
CASES = {
    "asynchronous, grace 1 s": Case(),
    "barrier": Case(Barrier()),
    "shared server link": Case(load=0.2),
    "jitter": Case(jitter=0.1),
    "a shard for each worker": Case(shards=None),
    "faults": Case(faults=FAULTS),
    "asynchronous, with the record": Case(record=True),
}
PLAIN = "asynchronous, grace 1 s"
GROWING = (PLAIN, "barrier", "shared server link", "faults")


def cluster_of(case: Case, workers: int) -> ClusterModel:
    """Returns a cluster of the profile "very"."""
    step_s = profile_step_s("very", workers)
    each_s = 1 / float(np.mean(1 / (LOCAL_STEPS * step_s)))  # about how long a round takes
    shared_s = case.load * each_s / workers or None
    link = Link(1, np.full(workers, LATENCY_S), np.full(workers, TRANSMISSION_S), shared_s)
    faults = None if case.faults is None else FaultModel(Faults.model_validate(case.faults), 0)
    return ClusterModel(step_s, case.jitter, link, link, 0.0, 0, faults)


def timeline_of(case: Case, cluster: ClusterModel, rounds: int) -> Timeline:
    """Returns the events until workers have done so many rounds on average."""
    workers = cluster.workers
    shards = case.shards or workers
    config = TimelineConfig(
        synchronization=case.synchronization,
        shard_choice=Proportional(np.ones(shards, np.int64)),
        steps=[LOCAL_STEPS] * workers,
        shards=shards,
        budget_local_steps=workers * rounds * LOCAL_STEPS,
    )
    return Timeline(cluster, config)


def simulated(case: Case, workers: int, rounds: int) -> Callable[[], None]:
    """Returns the timeline, from the description of the cluster to its end."""

    def run() -> None:
        cluster = cluster_of(case, workers)
        events = timeline_of(case, cluster, rounds)
        if case.record:
            fill(Recorder(Budget(local_steps=workers * rounds * LOCAL_STEPS), cluster, 1, None), events)
        else:
            for _ in events:
                pass

    return run


def fill(book: Recorder, events: Timeline) -> None:
    """Keeps the record of a run without training."""
    for event in events:
        match event:
            case Update():
                book.update(event, None)
            case Evaluation():
                book.evaluation(event, None)
            case Finished():
                book.finish(event)
            case Fault() | Lost() | Shortened():
                book.fault(event)
            case Answered() | Offered() | Accepted():
                book.exchange(event)


def bare(durations_s: Sequence[tuple[float, ...]], timeouts: Sequence[int]) -> Callable[[], None]:
    """Returns a loop of one process per worker, with so many timeouts of these lengths in turn."""

    def worker(env: simpy.Environment, durations_s: tuple[float, ...], count: int) -> Iterator[simpy.Event]:
        for duration_s in islice(cycle(durations_s), count):
            yield env.timeout(duration_s)

    def run() -> None:
        env = simpy.Environment()
        for own_s, count in zip(durations_s, timeouts, strict=True):
            env.process(worker(env, own_s, count))
        env.run()

    return run


def counted(case: Case, workers: int, rounds: int) -> tuple[list[tuple[float, ...]], list[int]]:
    """Returns the lengths of each worker's phases, and how many timeouts its process is to make.

    Runs the timeline once and counts.
    """
    made = 0
    original = simpy.events.Timeout.__init__

    def noted(self: Any, env: simpy.Environment, delay: float, value: Any = None) -> None:
        nonlocal made
        made += 1
        original(self, env, delay, value)

    cluster = cluster_of(case, workers)
    arrived = [0] * workers
    simpy.events.Timeout.__init__ = noted  # type: ignore[method-assign]
    try:
        for event in timeline_of(case, cluster, rounds):
            if isinstance(event, Update):
                for arrival in event.arrivals:
                    arrived[arrival.round.worker] += 1
    finally:
        simpy.events.Timeout.__init__ = original  # type: ignore[method-assign]
    transfer_s = LATENCY_S + TRANSMISSION_S
    durations_s = [(transfer_s, LOCAL_STEPS * float(own_s), transfer_s) for own_s in cluster.step_s]
    more, rest = divmod(made - 3 * sum(arrived), workers)
    timeouts = [3 * own + more + (worker < rest) for worker, own in enumerate(arrived)]
    assert sum(timeouts) == made
    assert min(timeouts) >= 0
    return durations_s, timeouts


def seconds(run: Callable[[], None]) -> float:
    """Returns how long the processor works on a call, which counts no time in which others have it."""
    gc.collect()
    start = time.process_time()
    run()
    return time.process_time() - start


def compare(console: Console, workers: int, rounds: int, repeats: int) -> None:
    """Prints event rates against those of the bare loop."""
    table = Table(
        "timeline",
        "timeouts",
        "bare, timeouts/s",
        "timeline, timeouts/s",
        f"ratio; goal >= {GOAL} (median, range)",
        title=f"{workers:,} workers x {rounds:,} rounds",
    )
    for name, case in CASES.items():
        durations_s, timeouts = counted(case, workers, rounds)
        plain, ours = bare(durations_s, timeouts), simulated(case, workers, rounds)
        taken = [(seconds(plain), seconds(ours)) for _ in range(repeats)]
        ratios = [bare_s / own_s for bare_s, own_s in taken]
        rates = [f"{sum(timeouts) / statistics.median(times):,.0f}" for times in zip(*taken, strict=True)]
        spread = f"{statistics.median(ratios):.3f}  ({min(ratios):.3f} to {max(ratios):.3f})"
        table.add_row(name, f"{sum(timeouts):,}", *rates, spread)
    console.print(table)


class Cost(NamedTuple):
    """Cost of one run in a process: seconds, and MiB at its peak beyond what it had before."""

    seconds: float
    mib: float


def alone(name: str, workers: int, rounds: int) -> Cost:
    """Returns the cost of a run in a process of its own."""
    command = [sys.executable, __file__, "--alone", name, str(workers), str(rounds)]
    return Cost(*json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def measure(name: str, workers: int, rounds: int) -> Cost:
    """Returns the cost of a run in this process, which has done nothing else."""
    if name == BARE:
        step_s = profile_step_s("very", workers) * LOCAL_STEPS
        transfer_s = LATENCY_S + TRANSMISSION_S
        durations_s = [(transfer_s, float(own_s), transfer_s) for own_s in step_s]
        run = bare(durations_s, [3 * rounds] * workers)
    else:
        run = simulated(CASES[name], workers, rounds)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far, that of the imports
    before_mib = own_peak_mib()
    taken_s = seconds(run)
    return Cost(taken_s, own_peak_mib() - before_mib)


def sizes(console: Console, shapes: Sequence[tuple[int, int]]) -> None:
    """Prints what whole simulations cost."""
    table = Table("workers x rounds", "", "s", f"ratio of the rates; goal >= {GOAL}", "peak memory, MiB")
    for workers, rounds in shapes:
        plain = alone(BARE, workers, rounds)
        shape = f"{workers:,} x {rounds:,}"
        table.add_row(shape, BARE, f"{plain.seconds:.1f}", "1", f"{plain.mib:,.0f}")
        for name in (PLAIN, "barrier"):
            ours = alone(name, workers, rounds)
            ratio = plain.seconds / ours.seconds
            table.add_row("", name, f"{ours.seconds:.1f}", f"{ratio:.3f}", f"{ours.mib:,.0f}")
    console.print(table)


def growth(console: Console, counts: Sequence[int], rounds: int) -> dict[str, list[Cost]]:
    """Prints how memory and time grow with the number of workers, and returns it."""
    arms = (BARE, *GROWING)
    costs = {name: [alone(name, workers, rounds) for workers in counts] for name in arms}
    table = Table(
        "", *(f"{workers:,} workers" for workers in counts), title="KiB per worker; goal: as many at every size"
    )
    for name in arms:
        each = zip(counts, costs[name], strict=True)
        table.add_row(name, *(f"{cost.mib * 1024 / workers:.2f}" for workers, cost in each))
    console.print(table)
    return costs


def draw(costs: dict[str, list[Cost]], counts: Sequence[int], rounds: int, out: Path) -> None:
    """Writes a picture of cost against workers."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for name, own in costs.items():
        style = {"color": "black", "linestyle": "--"} if name == BARE else {}
        left.loglog(counts, [cost.seconds for cost in own], marker="o", markersize=4, label=name, **style)
        right.loglog(counts, [cost.mib for cost in own], marker="o", markersize=4, label=name, **style)
    left.set(xlabel="workers", ylabel="seconds", title=f"Time of {rounds} rounds per worker")
    right.set(xlabel="workers", ylabel="MiB", title="Peak memory")
    for axes in (left, right):
        axes.grid(True, which="major", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    right.legend(frameon=False, fontsize=8)
    figure.savefig(out, dpi=160)


def main() -> None:
    """Prints the tables and writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the rounds")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="where the picture of cost against workers goes, a PNG file")
    parser.add_argument("--alone", nargs=3, metavar=("CASE", "WORKERS", "ROUNDS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        name, workers, rounds = arguments.alone
        print(json.dumps(measure(name, int(workers), int(rounds))))
        return
    console = Console()
    versions = f"simpy {simpy.__version__}, numpy {np.__version__}, Python {platform.python_version()}"
    console.print(f"{versions}, {platform.platform()}, {platform.machine()}, {os.cpu_count()} cores")
    quick = arguments.quick
    compare(console, 1000, 10 if quick else 50, arguments.repeats)
    sizes(console, [(10_000, 1), (1000, 10)] if quick else [(100_000, 10), (1000, 1000)])
    counts, rounds = ([100, 1000, 10_000], 2) if quick else ([1000, 3000, 10_000, 30_000, 100_000], 3)
    costs = growth(console, counts, rounds)
    if arguments.out:
        draw(costs, counts, rounds, arguments.out)


if __name__ == "__main__":
    main()
