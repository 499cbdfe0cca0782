"""Collects the benchmark's runs into one table, a row each, and writes its tables for the pages.

    .venv/bin/python experiments/methods/benchmark.py runs/benchmark experiments/results/methods/benchmark.csv

A run's cost to the synchronous perplexity is what it had taken when it first reached the final perplexity of DiLoCo on
the same cluster and seed, and to near it, when it was within 5 % of that; it is empty where it never was.
"""

import functools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from simulator.host.text import markdown_table
from simulator.record import RunRecord
from simulator.report import read_runs
from simulator.report.targets import spent_until

CLUSTER = ["speeds", "network", "shards"]
"""Axes of the sweep besides the seed."""
BASELINE = "DiLoCo"
_SUMMARY = ("final_perplexity", "simulated_seconds", "bytes_sent", "mean_staleness", "utilization")
_COSTS = ("simulated_s", "bytes_sent")
_TARGETS = {"synchronous": 1.0, "near": 1.05}
"""Perplexities to reach, as ratios to the baseline's final one."""


def collect(records: Sequence[RunRecord]) -> pd.DataFrame:
    """Returns a row for each run: variant, cluster, seed, results, and costs to reach the targets."""

    def point(record: RunRecord) -> tuple[Any, ...]:
        overrides = record.summary["overrides"]
        return *(overrides[axis] for axis in CLUSTER), overrides["seed"]

    synchronous = {
        point(record): record.summary["final_perplexity"] for record in records if record.summary["variant"] == BASELINE
    }
    rows = []
    for record in records:
        row = {"variant": record.summary["variant"], **dict(zip([*CLUSTER, "seed"], point(record), strict=True))}
        row |= {name: record.summary[name] for name in _SUMMARY}
        for name, ratio in _TARGETS.items():
            spent = spent_until(record, ratio * synchronous[point(record)], list(_COSTS))
            row |= {f"{cost}_to_{name}": spent[cost] for cost in _COSTS}
        rows.append(row)
    return pd.DataFrame(rows)


def ratios(runs: pd.DataFrame, shards: str) -> str:
    """Returns final perplexities as ratios to the baseline's of the same seed, with half the range over the seeds."""
    return _by_cluster(runs, shards, lambda own, base: _interval(own["final_perplexity"] / base["final_perplexity"], 3))


def costs(runs: pd.DataFrame, shards: str, name: str) -> str:
    """Returns the cost to reach a target, as ratios to what the baseline took to it.

    Args:
      runs: as `collect` returns them.
      shards: alike or unlike.
      name: of the cost and the target, such as "simulated_s_to_near".
    """

    def cell(own: pd.DataFrame, base: pd.DataFrame) -> str:
        found = own[name] / base[name]
        reached = int(found.notna().sum())
        if reached == len(found):
            return _interval(found, 2)
        return f"{reached} of {len(found)}" if reached else "–"  # noqa: RUF001

    return _by_cluster(runs, shards, cell)


_RATIOS = ("final_perplexity", "simulated_seconds", "bytes_sent", "simulated_s_to_near")


def one_cluster(runs: pd.DataFrame, speeds: str, network: str, shards: str, rows: str | None = None) -> str:
    """Returns what became of each method on one cluster, means over the seeds, ratios of the same seed, the best first.

    Args:
      runs: as `collect` returns them.
      speeds: of the cluster, and so on.
      network: of the cluster.
      shards: of the cluster.
      rows: so many at most.
    """
    own = runs[(runs[CLUSTER] == [speeds, network, shards]).all(axis=1)]
    by_seed = {str(variant): each.set_index("seed") for variant, each in own.groupby("variant", sort=False)}
    base = by_seed[BASELINE]
    best = sorted(by_seed, key=lambda variant: by_seed[variant]["final_perplexity"].mean())
    lines = [["method", "perplexity", "ratio", "time", "data", "staleness", "utilization", "time to within 5 %"]]
    lines.append([":--", *["--:"] * (len(lines[0]) - 1)])
    for variant in best if rows is None else best[: int(rows)]:
        each = by_seed[variant]
        ratio = {name: (each[name] / base[name]).mean(skipna=False) for name in _RATIOS}
        cells = [f"{each['final_perplexity'].mean():.2f}", f"{ratio['final_perplexity']:.3f}"]
        cells += [f"{ratio[name]:.2f}×" for name in ("simulated_seconds", "bytes_sent")]  # noqa: RUF001
        cells += [f"{each['mean_staleness'].mean():.2f}", f"{each['utilization'].mean():.0%}"]
        near = ratio["simulated_s_to_near"]
        cells.append("–" if math.isnan(near) else f"{near:.2f}×")  # noqa: RUF001
        lines.append([variant, *cells])
    return markdown_table(lines)


def _by_cluster(runs: pd.DataFrame, shards: str, cell: Callable[[pd.DataFrame, pd.DataFrame], str]) -> str:
    """Returns a table of methods by clusters.

    Args:
      runs: as `collect` returns them.
      shards: alike or unlike.
      cell: of the runs of a method on a cluster and those of the baseline there, both by seed.
    """
    runs = runs[runs["shards"] == shards]
    clusters = list(dict.fromkeys(runs[CLUSTER].itertuples(index=False, name=None)))
    lines = [["method", *(f"{speeds}, {network}" for speeds, network, _ in clusters)]]
    lines.append([":--", *["--:"] * len(clusters)])
    by_seed = {key: own.set_index("seed") for key, own in runs.groupby(["variant", *CLUSTER], sort=False)}
    for variant in dict.fromkeys(runs["variant"]):
        cells = [cell(by_seed[variant, *cluster], by_seed[BASELINE, *cluster]) for cluster in clusters]
        lines.append([variant, *cells])
    return markdown_table(lines)


def _interval(values: "pd.Series[float]", digits: int) -> str:
    """Returns the mean and half the range over the seeds."""
    if not all(map(math.isfinite, values)):
        return "diverged"
    return f"{values.mean():.{digits}f} ± {(values.max() - values.min()) / 2:.{digits}f}"


TABLES: Mapping[str, Callable[..., str]] = {
    "ratios": ratios,
    "time": functools.partial(costs, name="simulated_s_to_near"),
    "data": functools.partial(costs, name="bytes_sent_to_near"),
    "synchronous": functools.partial(costs, name="simulated_s_to_synchronous"),
    "cluster": one_cluster,
}
"""Tables of the pages, by name; what they are called with follows it there."""


if __name__ == "__main__":
    *folders, file = map(Path, sys.argv[1:])
    collect(list(read_runs(folders))).to_csv(file, index=False, float_format="%.6g")
