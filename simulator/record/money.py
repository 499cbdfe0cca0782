"""Costs of a run: the prices of its experiment applied to the use that its tables show."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from simulator.host.nodes import SERVER
from simulator.record.absences import absences
from simulator.record.schema import RecordError

UNPAID = ("preemption", "departure", "late")
"""Absences in which a worker costs nothing. A machine that has crashed is still rented."""

_HOUR_S = 3600.0
_GIGABYTE = 1e9

Times = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bill:
    """Money that one run has spent by any moment; call it with simulated seconds.

    - A worker costs from the start, or from when it joins, to the end of the run, waiting included, but not while it is
      preempted or has left. While it has crashed it costs what it always does: the machine is still rented.
    - The server costs from the start to the end.
    - Data cost when a message gets through, as often as it was sent, and when a round is lost, for all messages that
      were sent for it. A message to a server, or from a worker to another, has the price of the way up, others that of
      the way down. What was on its way when the run ended, and a copy with which no round has arrived, are not in a
      record, and cost nothing here.

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
        """Money that the whole run has spent."""
        return float(self(self.end_s))


def gives_prices(experiment: Mapping[str, Any]) -> bool:
    """Returns whether a resolved experiment gives any price."""
    cluster = _cluster(experiment)
    return _price_of_workers(cluster) is not None or any(
        price is not None for price in (cluster.get("server_price_per_hour"), *_data_prices(cluster))
    )


def currency_named(experiment: Mapping[str, Any]) -> str:
    """Returns the currency of an experiment's prices, empty where it names none."""
    return str(_cluster(experiment).get("currency") or "")


def bill_of(
    experiment: Mapping[str, Any],
    rounds: pd.DataFrame,
    transfers: pd.DataFrame,
    faults: pd.DataFrame,
    workers: int,
    simulated_s: float,
) -> Bill:
    """Returns the money that a run has spent by any moment.

    Args:
        experiment: Resolved; costs without a price are free.
        rounds: The table of rounds, see `ROUND_COLUMNS`.
        transfers: That of transfers, see `TRANSFER_COLUMNS`; in a record of an earlier version it is empty, and rounds
            have the bytes.
        faults: That of faults, see `FAULT_COLUMNS`.
        workers: Number of workers.
        simulated_s: Length of the run, seconds.

    Raises:
        RecordError: If there are prices, but not one for each worker.
    """
    cluster = _cluster(experiment)
    per_s = _prices_of_workers(cluster, workers) / _HOUR_S
    away = absences(faults, simulated_s)
    away = away[away["fault"].isin(UNPAID)]
    saved = per_s[away["worker"].to_numpy()]
    changes_s = np.concatenate([[0.0], away["first_s"], away["last_s"]])
    order = np.argsort(changes_s, kind="stable")
    sent_s, sent = _sent(cluster, rounds, transfers, faults)
    return Bill(
        currency=currency_named(experiment),
        end_s=simulated_s,
        _changes_s=changes_s[order],
        _rates=np.cumsum(np.concatenate([[per_s.sum()], -saved, saved])[order]),
        _server_per_s=float(cluster.get("server_price_per_hour") or 0.0) / _HOUR_S,
        _sent_s=sent_s,
        _sent=sent,
    )


def summarize_money(
    experiment: Mapping[str, Any],
    rounds: pd.DataFrame,
    transfers: pd.DataFrame,
    faults: pd.DataFrame,
    workers: int,
    simulated_s: float,
) -> dict[str, Any]:
    """Returns the money of a run's summary, nothing if its experiment gives no prices.

    The arguments are those of `bill_of`.

    Returns:
        money (all of it) and currency (empty where none is named).
    """
    if not gives_prices(experiment):
        return {}
    bill = bill_of(experiment, rounds, transfers, faults, workers, simulated_s)
    return {"money": bill.total, "currency": bill.currency}


def is_up(transfers: pd.DataFrame) -> "pd.Series[bool]":
    """Returns which messages go up: to a server from below it, or from a worker to another; all others go down."""
    return (transfers["sender"] >= 0) | (transfers["receiver"] == SERVER)


def _cluster(experiment: Mapping[str, Any]) -> Mapping[str, Any]:
    return experiment.get("cluster") or {}


def _price_of_workers(cluster: Mapping[str, Any]) -> Any:
    """Returns the price of an hour of each worker, or of any, None if there is none."""
    devices = cluster.get("devices") or {}
    accelerators = devices.get("accelerators") or ()
    if devices.get("price_per_hour") is None and any(each.get("price_per_hour") is not None for each in accelerators):
        counts = [int(each.get("count", 1)) for each in accelerators]
        prices = [float(each.get("price_per_hour") or 0.0) * int(each.get("each", 1)) for each in accelerators]
        return np.repeat(prices, counts)
    return devices.get("price_per_hour")


def _prices_of_workers(cluster: Mapping[str, Any], workers: int) -> Times:
    """Returns each worker's price per hour, shape (workers,)."""
    price = _price_of_workers(cluster)
    prices = np.asarray(0.0 if price is None else price, float)
    if prices.ndim and len(prices) != workers:
        raise RecordError(f"cluster.devices gives {len(prices)} prices for {workers} workers")
    return np.broadcast_to(prices, (workers,))


def _data_prices(cluster: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Returns the prices of a gigabyte from and to the server."""
    network = cluster.get("network") or {}
    both = network.get("price_per_gigabyte")
    own = [(network.get(which) or {}).get("price_per_gigabyte") for which in ("down", "up")]
    down, up = (both if price is None else price for price in own)
    return down, up


def _sent(
    cluster: Mapping[str, Any], rounds: pd.DataFrame, transfers: pd.DataFrame, faults: pd.DataFrame
) -> tuple[Times, Times]:
    """Returns the times of payments for data, ascending, and their amounts, each of shape (payments,)."""
    lost = faults[faults["fault"] == "lost"]
    up = is_up(transfers)
    sent = {"bytes_down": transfers["bytes"].where(~up, 0), "bytes_up": transfers["bytes"].where(up, 0)}
    sent_s = transfers["end_s"]
    if transfers.empty:
        sent, sent_s = {name: rounds[name] for name in sent}, rounds["arrival_s"]
    times_s = np.concatenate([sent_s, lost["time_s"]])
    cost = np.zeros(len(times_s))
    for name, price in zip(("bytes_down", "bytes_up"), _data_prices(cluster), strict=True):
        cost += np.concatenate([sent[name], lost[name]]) * ((price or 0.0) / _GIGABYTE)
    order = np.argsort(times_s, kind="stable")
    return times_s[order], cost[order]
