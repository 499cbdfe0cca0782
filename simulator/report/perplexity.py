"""Validation perplexity over time, steps, data or money, as a table: one curve per group of runs."""

import math
from collections.abc import Sequence
from typing import get_args

import numpy as np
import pandas as pd

from simulator.record import RunRecord
from simulator.report.arguments import Records
from simulator.report.axes import Against
from simulator.report.group_keys import ReportError
from simulator.report.grouping import Group, group_records, with_keys
from simulator.report.money import currency_of, has_prices, money

AGAINST: tuple[Against, ...] = get_args(Against)


class NoCommonRangeError(ReportError):
    """Runs of one group whose curves do not overlap, so that there is no mean."""


def perplexity_table(
    records: Records, *, against: Against = "simulated_s", by: Sequence[str] | None = None
) -> pd.DataFrame:
    """Returns the validation perplexity of each group of runs, which `perplexity_curves` draws.

    Runs of a group are interpolated, linearly in the loss, to the points of all of them, only where all have values.
    A run ends where its perplexity becomes infinite or NaN.

    Args:
        records: Runs that trained something, one or several.
        against: What the perplexity is a function of: simulated_s (seconds), local_steps, tokens, bytes_sent (all over
            all workers, counted as they arrive), or money (see `money`).
        by: Dotted keys that tell groups apart, see `group_records`.

    Returns:
        One row per group and point, in ascending order. Columns group; the groups' keys; the one named by `against`;
        perplexity (arithmetic mean over the runs), low and high (smallest and largest over the runs); runs; diverged
        (number of runs that ended early); longest (where the longest run ends: the points end with the shortest);
        best_low and best_high (smallest and largest perplexity over the runs that
        the best possible model would have; NaN where unknown). A group without any point has one row, with NaN.

    Raises:
        ReportError: If there is no record, one trained nothing, a key is unknown, the runs of a group have no common
            range, `against` is none of these, or it is money and an experiment gives no prices.
    """
    return curves_of(group_records(records, by), against)


def curves_of(groups: Sequence[Group], against: Against) -> pd.DataFrame:
    """Returns `perplexity_table` of these groups."""
    if against not in AGAINST:
        raise ReportError(f"against is {against!r}, but must be one of {', '.join(AGAINST)}")
    if against == "money":
        currency_of(groups)
    return with_keys(pd.concat([curve_of(group, against) for group in groups], ignore_index=True), groups)


def refuse_impossible(targets: Sequence[float]) -> None:
    """Refuses targets that are no perplexity.

    Raises:
        ReportError: A target is not above 0.
    """
    for target in targets:
        if not 0 < target < math.inf:
            raise ReportError(f"target is {target:g}, but a perplexity to reach is a number above 0")


def refuse_untrained(record: RunRecord, label: str) -> None:
    """Refuses a run that has no perplexity.

    Raises:
        ReportError: It trained nothing, or was never evaluated.
    """
    if record.summary["trainer"] == "null" or record.evaluations.empty:
        raise ReportError(
            f"{label}: a run of it trained nothing or was never evaluated, so it has no perplexity. "
            "Leave it out, or look at its timeline and staleness"
        )


def finite_part(record: RunRecord) -> pd.DataFrame:
    """Returns the evaluations up to where the perplexity stops being finite, with money where there are prices."""
    table = record.evaluations
    if has_prices(record):
        table = table.assign(money=money(record)(table["simulated_s"].to_numpy(float)))
    perplexity = table["perplexity"].to_numpy(float)
    finite = np.isfinite(perplexity) & (perplexity > 0)
    return table if finite.all() else table.iloc[: int(np.argmin(finite))]


def curve_of(group: Group, against: str) -> pd.DataFrame:
    """Returns `perplexity_table` of one group, against any column of its evaluations, or money.

    Raises:
        ReportError: A run of it trained nothing, or it is money and an experiment gives no prices.
        NoCommonRangeError: Its runs have no range in common.
    """
    runs = [_points(record, group.label, against) for record in group.records]
    x, log_perplexities = _common(group.label, [(x, y) for x, y, _ in runs])
    if not len(x):
        x, log_perplexities = np.full(1, np.nan), np.full((len(runs), 1), np.nan)
    perplexities = np.exp(log_perplexities)
    best = [record.summary["best_loss"] for record in group.records if record.summary["best_loss"] is not None]
    return pd.DataFrame(
        {
            "group": group.label,
            against: x,
            "perplexity": perplexities.mean(axis=0),
            "low": perplexities.min(axis=0),
            "high": perplexities.max(axis=0),
            "runs": len(runs),
            "diverged": sum(diverged for _, _, diverged in runs),
            "longest": max((x[-1] for x, _, diverged in runs if len(x) and not diverged), default=np.nan),
            "best_low": np.exp(min(best)) if best else np.nan,
            "best_high": np.exp(max(best)) if best else np.nan,
        }
    )


def _points(record: RunRecord, label: str, against: str) -> tuple[np.ndarray, np.ndarray, bool]:
    """Returns x, the log perplexity up to where it stops being finite, and whether it did."""
    refuse_untrained(record, label)
    if against == "money":
        money(record)  # refuses a run without prices
    table = finite_part(record)
    diverged = len(table) < len(record.evaluations)
    x, perplexity = table[against].to_numpy(float), table["perplexity"].to_numpy(float)
    last = np.append(x[1:] != x[:-1], True)[: len(x)]  # of several at one place
    return x[last], np.log(perplexity[last]), diverged


def _common(label: str, runs: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the x values within the range that all runs cover, and each run's y there, shape (runs, points)."""
    if any(len(x) == 0 for x, _ in runs):
        return np.empty(0), np.empty((len(runs), 0))
    low, high = max(x[0] for x, _ in runs), min(x[-1] for x, _ in runs)
    if low > high:
        raise NoCommonRangeError(
            f"{label}: its {len(runs)} runs have no range in common (one starts at {low:g}, one ends at {high:g}): "
            "plot fewer of them"
        )
    grid = np.unique(np.concatenate([x for x, _ in runs]))
    grid = grid[(grid >= low) & (grid <= high)]
    return grid, np.stack([np.interp(grid, x, y) for x, y in runs])
