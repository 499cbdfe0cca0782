"""Rows of real runs beside their predictions, and the tables of the page."""

import bisect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from simulator.host.text import markdown_table
from simulator.record import RunRecord


def row_of(predicted: RunRecord, real: RunRecord, other: RunRecord) -> dict[str, Any]:
    """Returns what was predicted of a run, and what it was.

    Args:
      predicted: simulated before the run.
      real: the run.
      other: simulated with another seed.
    """
    there, here = predicted.summary, real.summary
    row: dict[str, Any] = {}
    for name, key in (
        ("seconds", "simulated_seconds"),
        ("staleness", "mean_staleness"),
        ("utilization", "utilization"),
        ("loss", "final_loss"),
    ):
        row[f"predicted_{name}"], row[f"real_{name}"] = float(there[key]), float(here[key])
    orders = [record.rounds.sort_values("arrival_s", kind="stable")["worker"].tolist() for record in (predicted, real)]
    return row | {
        "arrivals": len(orders[1]),
        "in_order": in_order(*orders),
        "other_seed_loss": float(other.summary["final_loss"]),
        "replayed_loss": float(here["replayed_loss"]),
        "curve": curve_difference(predicted.evaluations, real.evaluations),
        **here["load"],
    }


def in_order(predicted: Sequence[int], real: Sequence[int]) -> float:
    """Returns the share of arrivals in the predicted order: of the most that are, leaving out the others.

    Arrivals are known by their worker and their number among its own.

    Args:
      predicted: workers, in the order of their arrivals.
      real: likewise.
    """
    place = {arrival: index for index, arrival in enumerate(_numbered(predicted))}
    ends: list[int] = []  # smallest last place of growing sequences, by their lengths
    for arrival in _numbered(real):
        if arrival in place:
            at = bisect.bisect_left(ends, place[arrival])
            ends[at : at + 1] = [place[arrival]]
    return len(ends) / max(len(predicted), len(real))


def _numbered(workers: Sequence[int]) -> list[tuple[int, int]]:
    counts = Counter[int]()
    found = []
    for worker in workers:
        found.append((worker, counts[worker]))
        counts[worker] += 1
    return found


def curve_difference(predicted: pd.DataFrame, real: pd.DataFrame) -> float:
    """Returns the largest difference of two loss curves at a time, in nats, from zero to the end of the shorter one.

    Args:
      predicted: evaluations.
      real: evaluations.
    """
    end_s = min(predicted["simulated_s"].max(), real["simulated_s"].max())
    times_s = np.union1d(predicted["simulated_s"], real["simulated_s"])
    times_s = times_s[times_s <= end_s]
    losses = [np.interp(times_s, each["simulated_s"], each["loss"]) for each in (predicted, real)]
    return float(np.abs(losses[0] - losses[1]).max())


def reached(row: Mapping[str, Any]) -> dict[str, bool]:
    """Returns which of the aims a run has reached."""
    return {
        "end": abs(row["real_seconds"] / row["predicted_seconds"] - 1) <= 0.05,
        "staleness": abs(row["real_staleness"] - row["predicted_staleness"]) <= 0.1 * row["predicted_staleness"],
        "order": row["in_order"] >= 0.9,
        "loss": abs(row["real_loss"] - row["predicted_loss"]) <= abs(row["predicted_loss"] - row["other_seed_loss"]),
    }


def beside(runs: pd.DataFrame) -> str:
    """Returns runs without busy processes, each number as it was predicted and as it was."""
    lines = [["devices", "method", "end", "staleness", "utilization", "in order", "final loss", "other seed", "missed"]]
    lines.append([":--", ":--", *["--:"] * (len(lines[0]) - 3), ":--"])
    for row in runs[runs["busy"] == 0].to_dict("records"):
        end, stale, used, loss = (
            _both(row, name, form)
            for name, form in (("seconds", ".2f"), ("staleness", ".3f"), ("utilization", ".1%"), ("loss", ".4f"))
        )
        missed = ", ".join(name for name, holds in reached(row).items() if not holds) or "nothing"
        cells = [f"{end} s ({row['real_seconds'] / row['predicted_seconds'] - 1:+.2%})", stale, used]
        cells += [f"{row['in_order']:.1%} of {row['arrivals']}", loss, f"{row['other_seed_loss']:.4f}", missed]
        lines.append([row["profile"], row["variant"], *cells])
    return markdown_table(lines)


def loads(runs: pd.DataFrame) -> str:
    """Returns the load of the machine in every run, and what was missed."""
    names = [
        "devices",
        "method",
        "busy processes",
        "cores in use",
        "of these the run's",
        "late steps",
        "end",
        "in order",
    ]
    lines = [[*names, "largest difference of the curves", "missed"]]
    lines.append([":--", ":--", *["--:"] * (len(lines[0]) - 3), ":--"])
    for row in runs.to_dict("records"):
        cores = [f"{row[name]:.2f}" for name in ("busy_cores", "own_cores")]
        end = f"{row['real_seconds'] / row['predicted_seconds'] - 1:+.2%}"
        cells = [str(row["busy"]), *cores, f"{row['late_steps']:.1%}", end, f"{row['in_order']:.1%}"]
        missed = ", ".join(name for name, holds in reached(row).items() if not holds) or "nothing"
        lines.append([row["profile"], row["variant"], *cells, f"{row['curve']:.3f}", missed])
    return markdown_table(lines)


def _both(row: Mapping[str, Any], name: str, form: str) -> str:
    return f"{row[f'predicted_{name}']:{form}} → {row[f'real_{name}']:{form}}"


TABLES: Mapping[str, Callable[[pd.DataFrame], str]] = {"beside": beside, "loads": loads}
"""Tables of the page, by name."""
