"""Chooses every method's outer learning rate from the results of a grid, as the paper does for each method separately.

    .venv/bin/python experiments/paper/choose.py experiments/results/paper/tuning/*.json

prints one line per method (and grace period, or inner rate, where several were tried): the perplexity at every learning
rate, the best one, and whether it lies at an edge of the grid, which is then to be widened. The choice goes into
`methods.yaml`, for eight workers into `eight.yaml`, and of the benchmark of all methods into
`../methods/benchmark_base.yaml`, where a test holds it to the results.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from simulator.record import failure, read_summaries

RATE = "outer.learning_rate"
Method = tuple[str, str]
"""A variant, and what else was swept beside its rate, such as "grace 4s"; empty without."""


def grids(summaries: Iterable[Mapping[str, Any]]) -> dict[Method, dict[float, float]]:
    """Returns for each method the final perplexity at each learning rate, infinite where it diverged."""
    found: dict[Method, dict[float, float]] = {}
    for run in summaries:
        beside = {path: value for path, value in run["overrides"].items() if path not in (RATE, "seed")}
        method = run["variant"], ", ".join(f"{_name(path)} {value}" for path, value in beside.items())
        found.setdefault(method, {})[run["overrides"][RATE]] = float("inf") if failure(run) else run["final_perplexity"]
    return found


def _name(path: str) -> str:
    section, *_, key = path.split(".")
    return f"{section} {key.replace('_', ' ')}" if path.endswith(RATE.split(".")[1]) else key


def label(method: Method) -> str:
    """Returns a method's name."""
    return ", ".join(part for part in method if part)


def best(grid: Mapping[float, float]) -> float:
    """Returns the learning rate with the lowest perplexity."""
    return min(grid, key=lambda rate: grid[rate])


def at_an_edge(grid: Mapping[float, float]) -> bool:
    """Returns whether a better learning rate may lie beyond the grid."""
    return best(grid) in (min(grid), max(grid))


def main(files: Sequence[Path]) -> int:
    """Prints the grids; returns how many have to be widened."""
    table = Table("method", "perplexity at each outer learning rate", "best", "")
    found = grids(read_summaries(files))
    for method, grid in found.items():
        cells = ", ".join(f"{rate:g}: {grid[rate]:.4g}" for rate in sorted(grid))
        table.add_row(label(method), cells, f"{best(grid):g}", "widen the grid" if at_an_edge(grid) else "")
    Console().print(table)
    return sum(at_an_edge(grid) for grid in found.values())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, help="summary.json files of the grids")
    raise SystemExit(min(main(parser.parse_args().results), 1))
