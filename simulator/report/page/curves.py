"""The losses of each run, and the axes that they can be drawn against."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from simulator.record import EVALUATION_COLUMNS, RunRecord
from simulator.report.group_keys import one_line
from simulator.report.money import currency_of, has_prices, money
from simulator.report.page.numbers import evenly, shortened

MONEY = "money"
_BASE = "local_steps"
_KNOWN = {
    "simulated_s": ("simulated time", "time"),
    "local_steps": ("local steps, over all workers", "count"),
    "tokens": ("tokens", "count"),
    "bytes_sent": ("data sent", "bytes"),
    "server_updates": ("server updates", "count"),
}
_NOT_AXES = ("loss", "perplexity", "train_loss")


def axes(records: Sequence[RunRecord]) -> list[dict[str, str]]:
    """Returns the axes of curves: key, label and kind of every axis that all trained runs have.

    Money is one where all their experiments give prices. Further columns of evaluations are axes too, if they hold
    numbers and none of them is a loss.

    Raises:
        ReportError: If prices are in several currencies.
    """
    learned = [record for record in records if is_trained(record)]
    trained = [record.evaluations for record in learned]
    if not trained:
        return []
    found = [{"key": key, "label": label, "kind": kind} for key, (label, kind) in _KNOWN.items()]
    shared = set.intersection(*(set(table.columns) for table in trained))
    for name in trained[0].columns:
        if name not in EVALUATION_COLUMNS and name in shared and _is_axis(name, trained):
            found.append({"key": name, "label": name.replace("_", " "), "kind": "number"})
    if all(map(has_prices, learned)):
        found.append({"key": MONEY, "label": money_label(learned), "kind": "money"})
    return found


def money_label(records: Sequence[RunRecord]) -> str:
    """Returns the label of amounts of money, with the currency, if any.

    Raises:
        ReportError: If there are several.
    """
    currency = one_line(currency_of(records))
    return f"money, {currency}" if currency else "money"


def is_trained(record: RunRecord) -> bool:
    """Returns whether a run has losses to show."""
    return record.summary["trainer"] != "null" and not record.evaluations.empty


def _is_axis(name: str, tables: Sequence[pd.DataFrame]) -> bool:
    if name in _NOT_AXES or name.startswith("loss_"):
        return False
    return all(pd.api.types.is_numeric_dtype(table[name]) for table in tables)


def curve(record: RunRecord, keys: Sequence[str], most: int) -> dict[str, Any] | None:
    """Returns the losses of one run and their places on every axis, None if nothing was trained.

    Args:
        record: The run.
        keys: Of the axes.
        most: Points at most, evenly spaced over the evaluations.

    Returns:
        `loss`, up to where it stops being finite; `x`, for every key a value for each loss, or one number where it is
        that many times the local steps; `diverged`, whether the losses stopped being finite.
    """
    if not is_trained(record):
        return None
    table = record.evaluations
    finite = np.isfinite(table["loss"].to_numpy(float))
    end = len(table) if finite.all() else int(np.argmin(finite))
    kept = table.iloc[evenly(end, most)]
    steps = kept[_BASE].to_numpy(float)
    return {
        "loss": shortened(kept["loss"]),
        "x": {key: _along(_values(record, kept, key), steps, factor_allowed=key != _BASE) for key in keys},
        "diverged": end < len(table),
    }


def _values(record: RunRecord, table: pd.DataFrame, key: str) -> np.ndarray:
    """Returns the places of evaluations on an axis."""
    return money(record)(table["simulated_s"].to_numpy()) if key == MONEY else table[key].to_numpy()


def _along(values: np.ndarray, steps: np.ndarray, *, factor_allowed: bool) -> Any:
    """Returns values, or their ratio to the local steps where it is the same whole number everywhere."""
    if factor_allowed and len(steps) and steps[-1] > 0:
        factor = float(values[-1] / steps[-1])
        if factor.is_integer() and np.array_equal(values, steps * factor):
            return int(factor)
    return shortened(values)
