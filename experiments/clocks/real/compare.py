"""Predicts real asynchronous runs, makes them, and lays the two beside each other.

    python experiments/clocks/real/compare.py                                # all of it, about ten minutes
    python experiments/clocks/real/compare.py --only very --load 0           # one profile, on the machine as it is
    python experiments/clocks/real/compare.py --steps 0.1 --out runs/short   # a tenth of the local steps

For each profile of devices a short synchronous run is measured: seconds per step, transfer times, the server's update.
Then each method is simulated with these, and only then really run. Records go to OUT, the table and the figures to
experiments/results/clocks unless only some of it was made.
"""

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import processes
from real_tables import row_of
from real_task import Task

from simulator import Cache, Point, load, simulate
from simulator.experiment import Experiment
from simulator.experiment.schema.cluster import Cluster
from simulator.host.compile_cache import keep_compiled_programs
from simulator.record import RunRecord
from simulator.report import perplexity_curves, save

HERE = Path(__file__).resolve().parent
FILE, RESULTS = HERE / "real.yaml", HERE.parents[1] / "results/clocks/real.csv"
_MEASURED_ROUNDS = 4
_OTHER_SEED = 1
_LOADED = "very", "DN + DyLU"
"""Profile and variant that are run again while other processes compute."""
_LOADS = [0, 1, 2, 4]
_STARTING_S = 300.0


def calibrated(record: RunRecord, imposed: Cluster) -> Cluster:
    """Returns the cluster that a record shows: medians of each worker, bandwidths as they are known."""
    rounds = record.rounds
    by_worker = rounds["worker"]

    def median(seconds: "pd.Series[float]") -> list[float]:
        return [float(each) for each in seconds.groupby(by_worker).median()]

    computing_s = rounds["push_start_s"] - rounds["compute_start_s"] - rounds["blocked_s"]
    section: dict[str, Any] = imposed.model_dump(mode="json", exclude={"devices"})
    section["devices"] = {"seconds_per_step": median(computing_s / rounds["local_steps"])}
    for name, begin, end in (("down", "pull_start_s", "compute_start_s"), ("up", "push_start_s", "arrival_s")):
        direction = imposed.network.direction(name)
        bandwidth = np.broadcast_to(direction.bandwidth, imposed.workers)[by_worker] * direction.efficiency
        sent_s = rounds[f"bytes_{name}"] / bandwidth
        latency_s = median(rounds[end] - rounds[begin] - sent_s)
        section["network"][name]["latency"] = [max(each, 0.0) for each in latency_s]
    updating_s = (rounds["update_s"] - rounds["arrival_s"]).groupby(rounds["version"]).min()  # since the last arrival
    section["server_update_time"] = float(updating_s.median())
    return Cluster.model_validate(section)


def really_run(experiment: Experiment, imposed: Cluster, folder: Path, limit_s: float) -> RunRecord:
    """Runs an experiment with processes that act a cluster; returns the record."""
    folder.mkdir(parents=True, exist_ok=True)
    task = folder / "task.json"
    Task(experiment, imposed, folder).write(task)
    processes.run(task, imposed.workers, folder, limit_s=limit_s)
    return RunRecord.read(folder)


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """Keeps so many other processes computing."""
    code = "import os, sys, threading\n"
    code += "threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0))).start()\n"
    code += "while True: pass"
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE))
            stack.callback(process.kill)
        yield


def compare(
    points: Sequence[Point], out: Path, steps: float, loads: Sequence[int]
) -> tuple[pd.DataFrame, list[RunRecord]]:
    """Calibrates, predicts and runs; returns a row for each run, and predictions and runs without busy processes.

    Args:
      points: of one profile, synchronous first.
      out: folder of the records.
      steps: factor on the local steps.
      loads: numbers of other processes that compute meanwhile, 0 for none.
    """
    profile = str(points[0].overrides["profile"])
    first = points[0].experiment
    per_round = first.inner.local_steps * first.cluster.workers
    short = _with_budget(first, _MEASURED_ROUNDS * per_round)
    show(f"{profile}: measuring")
    cluster = calibrated(really_run(short, first.cluster, out / profile / "measured", _limit_s(short)), first.cluster)
    cache, rows, records = Cache(), [], list[RunRecord]()
    for point in points:
        budget = max(round(steps * point.experiment.budget.local_steps), per_round)
        known = _with_budget(point.experiment, budget).model_copy(update={"cluster": cluster})
        show(f"{profile}, {point.variant}: predicting")
        predicted = simulate(known, cache=cache)
        other = simulate(known.model_copy(update={"seed": _OTHER_SEED}), cache=cache)
        folder = out / profile / point.variant
        predicted.write(folder / "predicted")
        records.append(predicted)
        for count in loads:
            if count and (profile, point.variant) != _LOADED:
                continue
            beside = f", beside {count} busy processes" if count else ""
            show(f"{profile}, {point.variant}{beside}: running for {predicted.summary['simulated_seconds']:.0f} s")
            with busy(count):
                real = really_run(known, point.experiment.cluster, folder / f"real-{count}", _limit_s(known))
            records += [] if count else [real]
            row = {"profile": profile, "variant": point.variant, "busy": count}
            rows.append(row | row_of(predicted, real, other))
            show("  " + ", ".join(f"{key} {value:.4g}" for key, value in rows[-1].items() if isinstance(value, float)))
    return pd.DataFrame(rows), records


def _with_budget(experiment: Experiment, local_steps: int) -> Experiment:
    return experiment.model_copy(update={"budget": experiment.budget.model_copy(update={"local_steps": local_steps})})


def _limit_s(experiment: Experiment) -> float:
    """Returns the seconds after which a run is given up: several times what it takes, and time to start."""
    expected = simulate(experiment, trainer="null").summary["simulated_seconds"]
    return _STARTING_S + 4 * expected


def show(text: str) -> None:
    """Prints a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", help="a profile alone")
    parser.add_argument("--steps", type=float, default=1.0, help="factor on the local steps")
    parser.add_argument("--load", type=int, nargs="*", default=_LOADS, help="busy processes beside, 0 for none")
    parser.add_argument("--out", type=Path, default=Path("runs/clocks/real"), help="folder of the records")
    given = parser.parse_args(arguments)
    began_s = time.monotonic()
    keep_compiled_programs()
    points = load(FILE)
    profiles = list(dict.fromkeys(str(point.overrides["profile"]) for point in points))
    chosen = [each for each in profiles if given.only in (None, each)]
    if not chosen:
        parser.error(f"--only {given.only}: there are {', '.join(profiles)}")
    whole = chosen == profiles and given.steps == 1.0 and given.load == _LOADS
    file = RESULTS if whole else given.out / RESULTS.name
    tables = []
    for profile in chosen:
        own = [point for point in points if point.overrides["profile"] == profile]
        table, records = compare(own, given.out, given.steps, given.load)
        tables.append(table)
        save(perplexity_curves(records), file.with_name(f"{file.stem}_{profile}"))
    pd.concat(tables).to_csv(file, index=False, float_format="%.6g")
    show(f"{file}: made in {(time.monotonic() - began_s) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
