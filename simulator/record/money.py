"""Costs of a run: the prices of its experiment applied to the use that its tables show."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from simulator.host.nodes import SERVER, region_node
from simulator.host.worker_names import pair_of
from simulator.record.absences import absences
from simulator.record.schema import RecordError
from simulator.record.sites import cluster_section, region_sites, server_site, worker_sites

UNPAID = ("preemption", "departure", "late")
"""Absences in which a worker costs nothing. A machine that has crashed is still rented."""

_WAYS = ("down", "up")
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
      the way down; where the network has sites, that of the way between its ends. What was on its way when the run
      ended, and a copy with which no round has arrived, are not in a record, and cost nothing here.

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
    cluster = cluster_section(experiment)
    network = cluster.get("network") or {}
    between = network.get("between") or {}
    sites = (network.get("sites") or {}).values()
    parts = [network, between, *between.get("pairs", ()), *sites, *(network.get(which) or {} for which in _WAYS)]
    prices = [cluster.get("server_price_per_hour"), *(part.get("price_per_gigabyte") for part in parts)]
    return _price_of_workers(cluster) is not None or any(price is not None for price in prices)


def currency_named(experiment: Mapping[str, Any]) -> str:
    """Returns the currency of an experiment's prices, empty where it names none."""
    return str(cluster_section(experiment).get("currency") or "")


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
    cluster = cluster_section(experiment)
    per_s = _prices_of_workers(cluster, workers) / _HOUR_S
    away = _unpaid(faults, simulated_s)
    saved = per_s[away["worker"].to_numpy()]
    changes_s = np.concatenate([[0.0], away["first_s"], away["last_s"]])
    order = np.argsort(changes_s, kind="stable")
    sent = sent_data(experiment, rounds, transfers, faults, workers).sort_values("time_s", kind="stable")
    return Bill(
        currency=currency_named(experiment),
        end_s=simulated_s,
        _changes_s=changes_s[order],
        _rates=np.cumsum(np.concatenate([[per_s.sum()], -saved, saved])[order]),
        _server_per_s=float(cluster.get("server_price_per_hour") or 0.0) / _HOUR_S,
        _sent_s=sent["time_s"].to_numpy(),
        _sent=sent["cost"].to_numpy(),
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


def worker_costs(experiment: Mapping[str, Any], faults: pd.DataFrame, workers: int, simulated_s: float) -> Times:
    """Returns the money that a run has spent on each worker, shape (workers,).

    The arguments are those of `bill_of`.
    """
    away = _unpaid(faults, simulated_s)
    away_s = np.bincount(away["worker"], away["last_s"] - away["first_s"], workers)
    costs: Times = _prices_of_workers(cluster_section(experiment), workers) / _HOUR_S * (simulated_s - away_s)
    return costs


def _unpaid(faults: pd.DataFrame, simulated_s: float) -> pd.DataFrame:
    """Returns the absences in which workers cost nothing."""
    away = absences(faults, simulated_s)
    return away[away["fault"].isin(UNPAID)]


def sent_data(
    experiment: Mapping[str, Any],
    rounds: pd.DataFrame,
    transfers: pd.DataFrame,
    faults: pd.DataFrame,
    workers: int,
) -> pd.DataFrame:
    """Returns the messages of a run, and of its lost rounds, and what they cost.

    The arguments are those of `bill_of`.

    Returns:
        Columns time_s (when they are paid), node (a worker, or between servers that of the region; between workers that
        which has sent it), bytes, and cost.
    """
    price = _DataPrices(experiment, workers)
    up = is_up(transfers)
    sent = pd.DataFrame(
        {
            "time_s": transfers["end_s"],
            "node": transfers["sender"].where(up, transfers["receiver"]),
            "bytes": transfers["bytes"],
            "cost": transfers["bytes"] * price(transfers["sender"], transfers["receiver"], up),
        }
    )
    lost = faults[faults["fault"] == "lost"].assign(end_s=lambda table: table["time_s"])
    parts = [sent, lost] if len(sent) else [rounds.assign(end_s=rounds["arrival_s"]), lost]
    home = _home(experiment, workers)
    for place, table in enumerate(parts):
        if "cost" in table:
            continue
        worker, server = table["worker"], table["worker"].map(home)
        cost = table["bytes_down"] * price(server, worker, np.zeros(len(table), bool))
        cost += table["bytes_up"] * price(worker, server, np.ones(len(table), bool))
        total = table["bytes_down"] + table["bytes_up"]
        parts[place] = pd.DataFrame({"time_s": table["end_s"], "node": worker, "bytes": total, "cost": cost})
    return pd.concat(parts, ignore_index=True)


def _home(experiment: Mapping[str, Any], workers: int) -> Callable[[int], int]:
    """Returns a function from a worker to a server at the site of its own."""
    regions, sites = region_sites(experiment, workers), worker_sites(experiment, workers)
    return lambda worker: region_node(regions.index(sites[worker])) if regions and sites else SERVER


class _DataPrices:
    """Prices of a gigabyte between two nodes.

    Args:
        experiment: Resolved.
        workers: Number of workers.
    """

    def __init__(self, experiment: Mapping[str, Any], workers: int):
        network = cluster_section(experiment).get("network") or {}
        names = list(network.get("sites") or ())
        self._both = network.get("price_per_gigabyte")
        self._own = {which: (network.get(which) or {}).get("price_per_gigabyte") for which in _WAYS}
        placed = worker_sites(experiment, workers) if names else None
        nodes = [*reversed(region_sites(experiment, workers)), server_site(experiment), *(placed or ())]
        self._site = np.array([names.index(site) for site in nodes]) if placed else None
        self._first = workers - len(nodes)  # number of the first of these nodes
        self._between = np.array([[self._of(network, here, there) for there in names] for here in names], float)

    def __call__(self, sender: "pd.Series[int]", receiver: "pd.Series[int]", goes_up: npt.ArrayLike) -> Times:
        """Returns the price of a byte of each message."""
        if self._site is None:
            way: Any = float(self._both or 0.0)
        else:
            way = self._between[tuple(self._site[node.to_numpy(np.int64) - self._first] for node in (sender, receiver))]
        own = self._own
        up, down = (np.asarray(way if own[which] is None else own[which], float) for which in ("up", "down"))
        prices: Times = np.where(np.asarray(goes_up, bool), up, down) / _GIGABYTE
        return prices

    def _of(self, network: Mapping[str, Any], sender: str, receiver: str) -> float:
        between = network.get("between") or {}
        if sender == receiver:
            given = [network["sites"][sender] or {}]
        else:
            pairs = between.get("pairs") or ()
            place = pair_of([pair["sites"] for pair in pairs], sender, receiver)
            given = [*([] if place is None else [pairs[place]]), between]
        found = (part.get("price_per_gigabyte") for part in (*given, network))
        return float(next((price for price in found if price is not None), 0.0))
