"""What runs cost: the prices of their experiments applied to what their records say was used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from simulator.record import RunRecord
from simulator.report.absences import absences
from simulator.report.grouping import Group, group_records, with_keys
from simulator.report.keys import ReportError

UNPAID = ("preemption", "departure", "late")
"""Absences in which a worker costs nothing. A machine that has crashed is still rented."""

_HOUR_S = 3600.0
_GIGABYTE = 1e9
_WHERE = "cluster.devices.price_per_hour (or cluster.server_price_per_hour, cluster.network.price_per_gigabyte)"

Times = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bill:
    """What one run has cost by any moment; call it with simulated seconds.

    - A worker costs from the start, or from when it joins, to the end of the run, waiting included, but not while it is
      preempted or has left. While it has crashed it costs what it always does: the machine is still rented.
    - The server costs from the start to the end.
    - Data cost when a round arrives, or when it is lost, for every message that was sent for it. Rounds on their way
      when the run ended are not in a record, and cost nothing here.

    Attributes:
        currency: Of all amounts; empty where the experiment names none.
        end_s: Length of the run, seconds.
    """

    currency: str
    end_s: float
    _changes_s: Times
    _rates: Times
    _server_per_s: float
    _sent_s: Times
    _sent: Times

    def __call__(self, simulated_s: npt.ArrayLike) -> Times:
        """Returns the money spent by some moments, in the shape of `simulated_s`."""
        return sum(self.parts(simulated_s).values(), np.zeros(()))

    def parts(self, simulated_s: npt.ArrayLike) -> dict[str, Times]:
        """Returns the money spent on workers, server and data by some moments, each in the shape of `simulated_s`."""
        times_s = np.asarray(simulated_s, float)
        paid = np.append(0.0, np.cumsum(self._rates[:-1] * np.diff(self._changes_s)))
        last = np.searchsorted(self._changes_s, times_s, side="right") - 1
        arrived = np.searchsorted(self._sent_s, times_s, side="right")
        return {
            "workers": paid[last] + self._rates[last] * (times_s - self._changes_s[last]),
            "server": self._server_per_s * times_s,
            "data": np.append(0.0, np.cumsum(self._sent))[arrived],
        }

    @property
    def total(self) -> float:
        """What the whole run costs."""
        return float(self(self.end_s))


def has_prices(record: RunRecord) -> bool:
    """Returns whether the record's experiment gives any price."""
    return _workers_prices(record) is not None or any(
        price is not None for price in (_cluster(record).get("server_price_per_hour"), *_data_prices(record))
    )


def money(record: RunRecord) -> Bill:
    """Returns what a run has cost by any moment, from its record alone.

    Args:
        record: Of an experiment that gives some price; what has none is free.

    Raises:
        ReportError: If it gives no price, or not one for each worker.
    """
    if not has_prices(record):
        label = group_records([record])[0].label
        raise ReportError(f"{label}: its experiment gives no prices, so it costs no money: set {_WHERE}")
    end_s = float(record.summary["simulated_seconds"])
    prices = _workers_prices(record)
    per_s = (np.zeros(record.summary["workers"]) if prices is None else prices) / _HOUR_S
    away = absences(record.faults, end_s)
    away = away[away["fault"].isin(UNPAID)]
    saved = per_s[away["worker"].to_numpy()]
    changes_s = np.concatenate([[0.0], away["first_s"], away["last_s"]])
    order = np.argsort(changes_s, kind="stable")
    sent_s, sent = _sent(record)
    return Bill(
        currency=str(_cluster(record).get("currency") or ""),
        end_s=end_s,
        _changes_s=changes_s[order],
        _rates=np.cumsum(np.concatenate([[per_s.sum()], -saved, saved])[order]),
        _server_per_s=float(_cluster(record).get("server_price_per_hour") or 0.0) / _HOUR_S,
        _sent_s=sent_s,
        _sent=sent,
    )


def money_table(records: Sequence[RunRecord], *, by: Sequence[str] | None = None) -> pd.DataFrame:
    """Returns what runs cost and for what, one row per group, the mean over its runs.

    Args:
        records: Runs of experiments that give prices.
        by: Dotted keys that tell groups apart, see `group_records`.

    Returns:
        Columns group, the groups' keys, runs, workers, server, data (money spent on each), money (all of it),
        money_low and money_high (of the cheapest and the dearest run).

    Raises:
        ReportError: If there is no record, one's experiment gives no prices, or they are in several currencies.
    """
    groups = group_records(records, by)
    currency_of(records)
    return with_keys(pd.DataFrame([_row(group) for group in groups]), groups)


def currency_of(records: Sequence[RunRecord]) -> str:
    """Returns the currency of all prices, empty where none is named.

    Raises:
        ReportError: If there are several.
    """
    named = sorted({str(_cluster(record).get("currency") or "") for record in records if has_prices(record)})
    if len(named) > 1:
        names = " and ".join(name or "no currency" for name in named)
        raise ReportError(f"prices are in {names}: choose runs whose cluster.currency is one and the same")
    return named[0] if named else ""


def _row(group: Group) -> dict[str, Any]:
    bills = [money(record) for record in group.records]
    parts = [bill.parts(bill.end_s) for bill in bills]
    totals = [bill.total for bill in bills]
    row: dict[str, Any] = {"group": group.label, "runs": len(bills)}
    row |= {name: float(np.mean([each[name] for each in parts])) for name in parts[0]}
    return row | {"money": float(np.mean(totals)), "money_low": min(totals), "money_high": max(totals)}


def _cluster(record: RunRecord) -> Mapping[str, Any]:
    return record.experiment.get("cluster") or {}


def _workers_prices(record: RunRecord) -> Times | None:
    """Returns each worker's price per hour, shape (workers,), None where there is none."""
    devices, workers = _cluster(record).get("devices") or {}, int(record.summary["workers"])
    price: Any = devices.get("price_per_hour")
    accelerators = devices.get("accelerators") or ()
    if price is None and any(each.get("price_per_hour") is not None for each in accelerators):
        counts = [int(each.get("count", 1)) for each in accelerators]
        price = np.repeat([float(each.get("price_per_hour") or 0.0) for each in accelerators], counts)
    if price is None:
        return None
    prices = np.asarray(price, float)
    if prices.ndim and len(prices) != workers:
        label = group_records([record])[0].label
        raise ReportError(f"{label}: cluster.devices gives {len(prices)} prices for {workers} workers")
    return np.broadcast_to(prices, (workers,))


def _data_prices(record: RunRecord) -> tuple[float | None, float | None]:
    """Returns the prices of a gigabyte from and to the server."""
    network = _cluster(record).get("network") or {}
    both = network.get("price_per_gigabyte")
    own = [(network.get(which) or {}).get("price_per_gigabyte") for which in ("down", "up")]
    down, up = (both if price is None else price for price in own)
    return down, up


def _sent(record: RunRecord) -> tuple[Times, Times]:
    """Returns when data were paid for, ascending, and how much money, each of shape (messages,)."""
    lost = record.faults[record.faults["fault"] == "lost"]
    times_s = np.concatenate([record.rounds["arrival_s"], lost["time_s"]])
    cost = np.zeros(len(times_s))
    for name, price in zip(("bytes_down", "bytes_up"), _data_prices(record), strict=True):
        cost += np.concatenate([record.rounds[name], lost[name]]) * ((price or 0.0) / _GIGABYTE)
    order = np.argsort(times_s, kind="stable")
    return times_s[order], cost[order]
