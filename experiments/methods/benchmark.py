"""Collects the benchmark's runs into one table, a row each, and writes its tables for the page.

    .venv/bin/python experiments/methods/benchmark.py runs/benchmark experiments/results/methods/benchmark.csv

A run's cost to the synchronous perplexity is what it had taken when it first reached the final perplexity of DiLoCo on
the same cluster and seed; it is empty where it never did.
"""

import functools
import itertools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from simulator.record import RunRecord
from simulator.report import read_runs
from simulator.report.targets import spent_until

CLUSTER = ["speeds", "network", "shards"]
"""Axes of the sweep besides the seed."""
BASELINE = "DiLoCo"
_SUMMARY = ("final_perplexity", "simulated_seconds", "bytes_sent", "mean_staleness", "utilization")
_COSTS = ("simulated_s", "bytes_sent")


def collect(records: Sequence[RunRecord]) -> pd.DataFrame:
    """Returns a row for each run: variant, cluster, seed, results, and costs to the synchronous perplexity."""
    rows, targets = [], {}
    for record in records:
        summary, overrides = record.summary, record.summary["overrides"]
        point = *(overrides[axis] for axis in CLUSTER), overrides["seed"]
        if summary["variant"] == BASELINE:
            targets[point] = summary["final_perplexity"]
    for record in records:
        summary, overrides = record.summary, record.summary["overrides"]
        point = *(overrides[axis] for axis in CLUSTER), overrides["seed"]
        spent = spent_until(record, targets[point], list(_COSTS))
        rows.append(
            {"variant": summary["variant"], **dict(zip([*CLUSTER, "seed"], point, strict=True))}
            | {name: summary[name] for name in _SUMMARY}
            | {f"{name}_to_synchronous": spent[name] for name in _COSTS}
        )
    return pd.DataFrame(rows)


def perplexities(runs: pd.DataFrame) -> str:
    """Returns the final perplexity of each method on each cluster, with half the range over the seeds."""
    return _markdown(runs, lambda own, base: _interval(own["final_perplexity"], 2))


def ratios(runs: pd.DataFrame) -> str:
    """Returns final perplexities as ratios to the baseline's of the same seed."""
    return _markdown(runs, lambda own, base: _interval(own["final_perplexity"] / base["final_perplexity"], 3))


def costs(runs: pd.DataFrame, name: str) -> str:
    """Returns the cost to the synchronous perplexity, as ratios to what the baseline took.

    Args:
      runs: as `collect` returns them.
      name: of the cost, "simulated_s" or "bytes_sent".
    """
    whole = {"simulated_s": "simulated_seconds", "bytes_sent": "bytes_sent"}[name]

    def cell(own: pd.DataFrame, base: pd.DataFrame) -> str:
        found = own[f"{name}_to_synchronous"] / base[whole]
        reached = int(found.notna().sum())
        if reached == len(found):
            return _interval(found, 2)
        return f"{reached} of {len(found)}" if reached else "–"  # noqa: RUF001

    return _markdown(runs, cell)


def circumstances(runs: pd.DataFrame) -> str:
    """Returns mean staleness, utilization and data sent, over the seeds, of each method on shards alike."""
    alike = runs[runs["shards"] == "alike"]
    clusters = list(itertools.product(("even", "uneven"), ("slow", "fast")))
    header = ["method", "staleness, even", "staleness, uneven"]
    header += [f"utilization, {speeds}, {network}" for speeds, network in clusters]
    header += ["data sent"]
    lines = [header, [":--", *["--:"] * (len(header) - 1)]]
    for variant, own in alike.groupby("variant", sort=False):
        of_speeds = own.groupby("speeds")["mean_staleness"].mean()
        utilization = own.groupby(["speeds", "network"])["utilization"].mean()
        cells = [f"{of_speeds[speeds]:.2f}" for speeds in ("even", "uneven")]
        cells += [
            f"{utilization[speeds, network]:.0%}" for speeds in ("even", "uneven") for network in ("slow", "fast")
        ]
        lines.append([str(variant), *cells, f"{own['bytes_sent'].mean() / 1e6:.1f} MB"])
    return _written(lines)


def _markdown(runs: pd.DataFrame, cell: Callable[[pd.DataFrame, pd.DataFrame], str]) -> str:
    """Returns a table of methods by clusters.

    Args:
      runs: as `collect` returns them.
      cell: of the runs of a method on a cluster and those of the baseline there, both by seed.
    """
    clusters = list(dict.fromkeys(runs[CLUSTER].itertuples(index=False, name=None)))
    lines = [["method", *(", ".join(cluster) for cluster in clusters)], [":--", *["--:"] * len(clusters)]]
    by_seed = {key: own.set_index("seed") for key, own in runs.groupby(["variant", *CLUSTER], sort=False)}
    for variant in dict.fromkeys(runs["variant"]):
        cells = [cell(by_seed[variant, *cluster], by_seed[BASELINE, *cluster]) for cluster in clusters]
        lines.append([variant, *cells])
    return _written(lines)


def _interval(values: "pd.Series[float]", digits: int) -> str:
    """Returns the mean and half the range over the seeds."""
    if not all(map(math.isfinite, values)):
        return "diverged"
    return f"{values.mean():.{digits}f} ± {(values.max() - values.min()) / 2:.{digits}f}"


def _written(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


TABLES: Mapping[str, Callable[[pd.DataFrame], str]] = {
    "perplexities": perplexities,
    "ratios": ratios,
    "time": functools.partial(costs, name="simulated_s"),
    "bytes": functools.partial(costs, name="bytes_sent"),
    "circumstances": circumstances,
}
"""Tables of the page, by name."""


if __name__ == "__main__":
    folder, file = map(Path, sys.argv[1:])
    collect(list(read_runs(folder))).to_csv(file, index=False, float_format="%.6g")
