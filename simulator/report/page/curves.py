"""Curves of validation perplexity along every axis that all trained runs have."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from simulator.host.text import one_line
from simulator.record import EVALUATION_COLUMNS, RunRecord
from simulator.report.axes import Unit, axis_of
from simulator.report.curves import is_cut
from simulator.report.grouping import Group, only
from simulator.report.money import currency_of, has_prices
from simulator.report.page.limits import curve_points
from simulator.report.page.numbers import shortened
from simulator.report.perplexity import AGAINST, NoCommonRangeError, curve_of, finite_part
from simulator.report.worker_bins import evenly

_NOT_AXES = ("loss", "perplexity", "train_loss")


class Axis(NamedTuple):
    """Horizontal axis of curves.

    Attributes:
        key: Column of the evaluations, or money.
        label: Name without the unit.
        title: Name with the unit.
        unit: Unit in which it is drawn.
    """

    key: str
    label: str
    title: str
    unit: Unit


def is_trained(record: RunRecord) -> bool:
    """Returns whether a run has losses to show."""
    return record.summary["trainer"] != "null" and not record.evaluations.empty


def axes(groups: Sequence[Group]) -> list[Axis]:
    """Returns every axis that all trained runs have; none if nothing was trained.

    Money is one where all their experiments give prices. Further columns of evaluations are axes too, if they hold
    numbers and none of them is a loss.

    Raises:
        ReportError: If prices are in several currencies.
    """
    runs = [record for group in groups for record in group.records if is_trained(record)]
    if not runs:
        return []
    tables = [record.evaluations for record in runs]
    further = [name for name in tables[0] if name not in EVALUATION_COLUMNS and _is_axis(str(name), tables)]
    usual = [*(key for key in AGAINST if key != "money"), "server_updates"]
    found = [_axis(str(key), max(float(table[key].max()) for table in tables)) for key in [*usual, *further]]
    if all(map(has_prices, runs)):
        unit, title = axis_of("money", 0.0, one_line(currency_of(runs)))
        found.append(Axis("money", title, title, unit))
    return found


def _axis(key: str, largest: float) -> Axis:
    for against in AGAINST:
        if key == against:
            unit, title = axis_of(against, largest)
            return Axis(key, title.split(" (")[0], title, unit)
    return Axis(key, name := one_line(key.replace("_", " ")), name, Unit(1.0, ""))


def _is_axis(name: str, tables: Sequence[pd.DataFrame]) -> bool:
    if name in _NOT_AXES or name.startswith("loss_"):
        return False
    return all(name in table and pd.api.types.is_numeric_dtype(table[name]) for table in tables)


def curves(groups: Sequence[Group], axis: Axis) -> list[dict[str, Any] | None]:
    """Returns the curve of each group, None where nothing was trained.

    Returns:
        `x`, in the axis' unit, and `y`, the mean perplexity, of a group of several runs with `low` and `high`, its
        range, see `perplexity_table`; `note` on where it ends, or why it is not there.
    """
    trained = [next(iter(only([group], is_trained)), None) for group in groups]
    most = curve_points(len(groups))
    return [None if group is None else _curve(group, axis, most) for group in trained]


def _curve(group: Group, axis: Axis, most: int) -> dict[str, Any]:
    try:
        table = curve_of(group, axis.key)
    except NoCommonRangeError:
        return {"note": f"The runs of {group.label} have no range in common, so there is no mean."}
    kept = evenly(int(table["perplexity"].count()), most)  # without any point there is one row, of NaN
    held: dict[str, Any] = {"x": shortened(table[axis.key].to_numpy()[kept] / axis.unit.size)}
    names = {"y": "perplexity"} | ({"low": "low", "high": "high"} if len(group.records) > 1 else {})
    held |= {name: shortened(table[column].to_numpy()[kept]) for name, column in names.items()}
    if diverged := int(table["diverged"].max()):
        held["note"] = f"{group.label}: {diverged} of {len(group.records)} diverged, and its curve ends before."
    elif is_cut(table, axis.key):
        held["note"] = f"The mean of {group.label} ends with the shortest of its runs."
    return held


def curves_of_runs(groups: Sequence[Group], found: Sequence[Axis]) -> list[list[dict[str, Any]]]:
    """Returns for each group of several runs the curve of each: perplexities `y`, and `x` along every axis."""
    most = curve_points(sum(len(group.records) for group in groups))
    lists: list[list[dict[str, Any]]] = []
    for group in groups:
        lists.append([])
        for record in filter(is_trained, group.records if len(group.records) > 1 else ()):
            table = finite_part(record)
            kept = evenly(len(table), most)
            x = {axis.key: shortened(table[axis.key].to_numpy()[kept] / axis.unit.size) for axis in found}
            lists[-1].append({"x": x, "y": shortened(table["perplexity"].to_numpy()[kept])})
    return lists


def note_on_curves(groups: Sequence[Group]) -> str:
    """Returns a note on means, bands and points that are left out."""
    most, runs = curve_points(len(groups)), [record for group in groups for record in group.records]
    parts = []
    if len(runs) > len(groups):
        parts.append("Lines are means over the runs that differ by their seed alone, bands their range.")
    if max(len(record.evaluations) for record in runs) > most:
        parts.append(f"Of every curve at most {most} points are in this page, evenly spaced.")
    return " ".join(parts)
