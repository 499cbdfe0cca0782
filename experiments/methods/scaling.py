"""Collects the runs of scaling.yaml into one table, a row each, and writes the tables of the page from it.

    .venv/bin/python experiments/methods/scaling.py runs/scaling runs/scaling-local-steps TABLE.csv

The folders are those of its two scales, `parameters` and `local_steps`.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from simulator.host.text import markdown_table
from simulator.record import RunRecord
from simulator.report import read_runs
from simulator.report.power_law import power_law

PUBLISHED = {
    "plain training": (18.129, -0.0953),
    "DiLoCo, 1 worker": (18.363, -0.0961),
    "DiLoCo, 2 workers": (18.768, -0.0969),
    "DiLoCo, 4 workers": (19.762, -0.0992),
    "DiLoCo, 8 workers": (21.051, -0.1018),
}
"""A and the exponent of loss over parameters, from 35 million to 2.4 billion: Table 7 of arXiv 2503.09799."""


def collect(records: Sequence[RunRecord], scale: str) -> pd.DataFrame:
    """Returns a row for each run of a scale: variant, parameters, H, outer learning rate, seed and final loss."""
    rows = []
    for record in records:
        summary, settings = record.summary, record.experiment
        rows.append(
            {
                "scale": scale,
                "variant": summary["variant"],
                "parameters": summary["parameters"],
                "local_steps": settings["inner"]["local_steps"],
                "outer_learning_rate": settings["outer"]["learning_rate"],
                "seed": summary["seed"],
                "final_loss": summary["final_loss"],
            }
        )
    return pd.DataFrame(rows)


def losses(runs: pd.DataFrame, scale: str) -> str:
    """Returns the final loss of every variant along a scale's axis, the mean over seeds and half its range."""
    own = runs[runs["scale"] == scale]
    values = sorted(own[scale].unique())
    heads = [f"{value:,} parameters" if scale == "parameters" else f"H = {value}" for value in values]
    lines = [["method", *heads], [":--", *["--:"] * len(values)]]
    for variant, each in own.groupby("variant", sort=False):
        at = [each.loc[each[scale] == value, "final_loss"] for value in values]
        lines.append([str(variant), *(f"{found.mean():.3f} ± {(found.max() - found.min()) / 2:.3f}" for found in at)])
    return markdown_table(lines)


def fits(runs: pd.DataFrame, scale: str) -> str:
    """Returns the power law of every variant's losses along a scale's axis, beside the published one if there is."""
    own, is_published = runs[runs["scale"] == scale], scale == "parameters"
    heads = ["method", "A", "exponent", "95 % interval", *(["published exponent"] if is_published else [])]
    lines = [heads, [":--", *["--:"] * (len(heads) - 1)]]
    for variant, each in own.groupby("variant", sort=False):
        law = power_law(each[scale].to_numpy(float), each["final_loss"].to_numpy())
        cells = [f"{law.coefficient:.3f}", f"{law.exponent:.4f}", f"{law.exponent_low:.4f} to {law.exponent_high:.4f}"]
        published = [f"{PUBLISHED[str(variant)][1]:.4f}"] if is_published else []
        lines.append([str(variant), *cells, *published])
    return markdown_table(lines)


def rates(runs: pd.DataFrame, scale: str) -> str:
    """Returns the outer learning rate that the search chose for every variant along a scale's axis."""
    own = runs[runs["scale"] == scale]
    values = sorted(own[scale].unique())
    lines = [["method", *(f"H = {value}" for value in values)], [":--", *["--:"] * len(values)]]
    for variant, each in own.groupby("variant", sort=False):
        chosen = (each.loc[each[scale] == value, "outer_learning_rate"].unique() for value in values)
        lines.append([str(variant), *(", ".join(f"{rate:.2f}" for rate in found) for found in chosen)])
    return markdown_table(lines)


TABLES: Mapping[str, Callable[[pd.DataFrame, str], str]] = {"fits": fits, "losses": losses, "rates": rates}

if __name__ == "__main__":
    *folders, out = sys.argv[1:]
    tables = [
        collect(read_runs([folder]), scale)
        for folder, scale in zip(folders, ("parameters", "local_steps"), strict=True)
    ]
    pd.concat(tables).to_csv(Path(out), index=False)
