"""Costs of runs, group by group."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from simulator.record import Bill, RecordError, Result, RunRecord, bill_of, currency_named, gives_prices
from simulator.report.arguments import Records, Results, one_record, records_of, results_of
from simulator.report.group_keys import ReportError
from simulator.report.grouping import Group, group_records, run_labels, with_keys
from simulator.report.seeds import spread

_WHERE = "cluster.devices.price_per_hour (or cluster.server_price_per_hour, cluster.network.price_per_gigabyte)"


def has_prices(record: Records) -> bool:
    """Returns whether the experiment of a run, or of one of several, gives any price."""
    return any(gives_prices(each.experiment) for each in records_of(record))


def money(record: Records) -> Bill:
    """Returns the bill of a run: the money spent by any moment, from its record alone.

    Args:
        record: Of an experiment that gives some price; what has none is free.

    Raises:
        ReportError: If it gives no price, or not one for each worker, or several runs are given.
    """
    record = one_record(record)
    if not has_prices(record):
        label = run_labels(record)[0]
        raise ReportError(f"{label}: its experiment gives no prices, so it costs no money: set {_WHERE}")
    summary = record.summary
    try:
        return bill_of(
            record.experiment,
            record.rounds,
            record.transfers,
            record.faults,
            summary["workers"],
            float(summary["simulated_seconds"]),
        )
    except RecordError as error:
        raise ReportError(f"{run_labels(record)[0]}: {error}") from error


def cost_of(run: RunRecord | Result) -> float | None:
    """Returns the cost of a whole run, None without prices or if nothing is known of them."""
    if isinstance(run, RunRecord):
        return money(run).total if gives_prices(run.experiment) else None
    amount: float | None = run.summary.get("money")
    return amount


def money_table(records: Records, *, by: Sequence[str] | None = None) -> pd.DataFrame:
    """Returns the costs of runs and their parts, one row per group, the mean over its runs.

    Args:
        records: Runs of experiments that give prices, one or several.
        by: Dotted keys that tell groups apart, see `group_records`.

    Returns:
        Columns group, the groups' keys, runs, workers, server, data (money spent on each), money (all of it),
        money_low and money_high (of the cheapest and the dearest run).

    Raises:
        ReportError: If there is no record, one's experiment gives no prices, or they are in several currencies.
    """
    groups = group_records(records, by)
    currency_of(groups)
    return with_keys(pd.DataFrame([_row(group) for group in groups]), groups)


def currencies(runs: Results) -> list[str]:
    """Returns the currencies of all prices, in alphabetic order; empty ones where none is named."""
    named = set()
    for run in results_of(runs):
        if gives_prices(run.experiment):
            named.add(currency_named(run.experiment))
        elif run.summary.get("money") is not None:
            named.add(str(run.summary.get("currency") or ""))
    return sorted(named)


def currency_of(runs: Results) -> str:
    """Returns the currency of all prices, empty where none is named.

    Raises:
        ReportError: If there are several, or no runs.
    """
    named = currencies(runs)
    if len(named) > 1:
        names = " and ".join(name or "no currency" for name in named)
        raise ReportError(f"prices are in {names}: choose runs whose cluster.currency is one and the same")
    return named[0] if named else ""


def _row(group: Group) -> dict[str, Any]:
    bills = [money(record) for record in group.records]
    parts = [bill.parts(bill.end_s) for bill in bills]
    total = spread(bill.total for bill in bills)
    row: dict[str, Any] = {"group": group.label, "runs": total.runs}
    row |= {name: float(np.mean([each[name] for each in parts])) for name in parts[0]}
    return row | {"money": total.mean, "money_low": total.low, "money_high": total.high}
