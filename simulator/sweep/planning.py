"""Plans of experiments: what a cluster takes for them, by its clock alone."""

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from simulator.experiment import Experiment, Point
from simulator.experiment.schema.budget import Budget
from simulator.experiment.schema.devices import FlopsDevices
from simulator.host.worker_names import of_each
from simulator.learning import Cache, Setup
from simulator.learning.model import tokens_per_step
from simulator.record import Bill, RunRecord, bill_of, gives_prices, worker_table
from simulator.record.money import is_up
from simulator.record.workers import computing_s, covered_until_s, in_order_of_dispatch
from simulator.simulation.checks import DeviceFit, device_fits
from simulator.simulation.simulate import simulate
from simulator.sweep.bandwidth import SHARES, needed_factor, span_of, with_bandwidth, with_limits

PLAN_FILE = "plan.json"
MOST_ROUNDS = 4_000  # that are simulated, of all workers; longer budgets are extrapolated
_FEWEST_EACH = 4  # rounds of a worker in such a stretch
_MOST_GROUPS = 12  # of workers by speed
_SEARCH_ROUNDS, _SEARCH_EACH = 2_000, (2, 40)  # of a stretch by which a bandwidth is found: of all, and of a worker
_ENDS: tuple[Literal["first", "last"], ...] = ("first", "last")
_WITHIN, _WITHIN_OF_MANY = 1.02, 1.1  # factors within which it is found; the latter where that takes more rounds


@dataclasses.dataclass(frozen=True)
class Totals:
    """Use of a simulation up to a moment.

    Attributes:
      simulated_time: the moment, seconds.
      local_steps, tokens, rounds, server_updates: as they arrived, over all workers; rounds per worker.
      bytes_up, bytes_down: in messages that got through.
      money: None without prices.
    """

    simulated_time: float
    local_steps: float
    tokens: float
    rounds: float
    server_updates: float
    bytes_up: float
    bytes_down: float
    money: float | None

    def further(self, before: "Totals", times: float) -> "Totals":
        """Returns the use after a number of times as much more as since another moment."""
        new: dict[str, Any] = {}
        for name, value in dataclasses.asdict(self).items():
            earlier = getattr(before, name)
            new[name] = None if value is None else value + times * (value - earlier)
        return Totals(**new)


@dataclasses.dataclass(frozen=True)
class Waiting:
    """Group of workers, and where their time goes.

    Attributes:
      label: of the group.
      workers: number of them.
      compute, communicate, wait: shares of their time; the last with that lost to faults.
      bytes_up, bytes_down: of each of them, on average.
      last: share of the meetings of several to which one of them came last, while another waited.
    """

    label: str
    workers: int
    compute: float
    communicate: float
    wait: float
    bytes_up: float
    bytes_down: float
    last: float


@dataclasses.dataclass(frozen=True)
class PlannedVariant:
    """Answer for one variant, or point of a sweep.

    Attributes:
      label: its name.
      totals: of the whole budget.
      simulated_rounds: rounds of all workers that were simulated.
      extrapolated: whether the budget is longer than that, so that the totals are extrapolated.
      utilization: share of the workers' time spent computing.
      staleness: mean and maximum over the rounds; None without any.
      currency: of money; empty where none is named.
      bandwidth: by share of time spent computing, the factor on all bandwidths that it takes; None if none is enough.
      base: least and largest of the bandwidths that are multiplied, bytes per second; infinite ones left out.
      searched_rounds: rounds of each worker on which that was found; the first of each does not count.
      within: factor within which it was.
      is_limited: whether the file limits any; else a factor is of 1 Gbit/s for every worker.
      unlimited: share of time spent computing, of communicating and of waiting, with unlimited links.
      groups: of workers.
      fits: memory of the accelerators, where it is known.
      record: what was simulated.
    """

    label: str
    totals: Totals
    simulated_rounds: int
    extrapolated: bool
    utilization: float | None
    staleness: tuple[float, int] | None
    currency: str
    bandwidth: Mapping[float, float | None]
    base: tuple[float, float]
    searched_rounds: int
    within: float
    is_limited: bool
    unlimited: tuple[float, float, float]
    groups: Sequence[Waiting]
    fits: Sequence[DeviceFit]
    record: RunRecord = dataclasses.field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """Returns it as it is written to a file: all but the record."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "record"}
        nested = {name: [dataclasses.asdict(each) for each in plain[name]] for name in ("groups", "fits")}
        bandwidth = {f"{share:g}": factor for share, factor in self.bandwidth.items()}
        return plain | nested | {"totals": dataclasses.asdict(self.totals), "bandwidth": bandwidth}


def plan_of(points: Sequence[Point], cache: Cache) -> Iterator[PlannedVariant]:
    """Yields the answer for each point; nothing is trained.

    Args:
      points: of an experiment file, checked.
      cache: of models.

    Raises:
      SimulationError: nobody in a simulated cluster can make progress any more, or its timeline depends on training.
    """
    for point in points:
        yield _planned(point, cache)


def terms_of(experiments: Sequence[Experiment]) -> str:
    """Returns what the variants have in common, and so are compared at."""
    limits = [experiment.budget.limits for experiment in experiments]
    words = {name: f"the same {name.replace('_', ' ')}" for name in Budget.model_fields}
    words["rounds"] = "the same rounds per worker"
    if any(each != limits[0] for each in limits):
        return "not on equal terms: budgets differ"
    if len(limits[0]) > 1:
        return f"whichever comes first of {', '.join(words[name] for name in limits[0])}"
    return f"on equal terms: {words[next(iter(limits[0]))]}"


def _planned(point: Point, cache: Cache) -> PlannedVariant:
    experiment = point.experiment
    clock = functools.partial(simulate, trainer="null", cache=cache)
    record = clock(_stretch(experiment, max(_FEWEST_EACH, MOST_ROUNDS // _offers(experiment))))
    totals, is_whole = _totals_of(experiment, record)
    limited, is_limited = with_limits(experiment)
    least, most = _SEARCH_EACH
    searched = min(most, max(least, _SEARCH_ROUNDS // _offers(experiment)))
    short = _stretch(limited, searched, alone=True)
    known: dict[float, float] = {}

    def share_at(factor: float) -> float:
        return later_utilization(clock(with_bandwidth(short, factor)), experiment.schedule.fragments)

    within = _WITHIN if searched * _offers(experiment) <= _SEARCH_ROUNDS else _WITHIN_OF_MANY
    factors = {share: needed_factor(share_at, share, known, within) for share in SHARES}
    summary = record.summary
    stale = summary["mean_staleness"]
    return PlannedVariant(
        label=point.label,
        totals=totals,
        simulated_rounds=len(record.rounds),
        extrapolated=not is_whole,
        utilization=summary["utilization"],
        staleness=None if stale is None else (stale, summary["max_staleness"]),
        currency=experiment.cluster.currency,
        bandwidth=factors,
        base=span_of(limited),
        searched_rounds=searched,
        within=within,
        is_limited=is_limited,
        unlimited=_shares(_workers(clock(with_bandwidth(short, math.inf)))),
        groups=_groups(experiment, record, totals),
        fits=device_fits(Setup(experiment, cache)),
        record=record,
    )


def _offers(experiment: Experiment) -> int:
    """Returns the rounds of all workers in which each offers all that it has."""
    return experiment.cluster.workers * experiment.schedule.fragments


def _stretch(experiment: Experiment, rounds: int, *, alone: bool = False) -> Experiment:
    """Returns a simulation of some rounds of each worker, of fewer where its own budget ends before, unless `alone`.

    Evaluations that take no time are left out: they change nothing.
    """
    own = experiment.budget
    rounds = rounds if alone else min(rounds, own.rounds or rounds)
    budget = Budget(rounds=rounds) if alone else own.model_copy(update={"rounds": rounds})
    evaluate = experiment.evaluate
    if evaluate.takes == 0:
        evaluate = evaluate.model_copy(update={"every_local_steps": None, "every_simulated": None})
    return experiment.model_copy(update={"budget": budget, "evaluate": evaluate})


def _totals_of(experiment: Experiment, record: RunRecord) -> tuple[Totals, bool]:
    """Returns the use of a whole budget, and whether it was all simulated; else the later half of that goes on."""
    at = _Meter(experiment, record)
    end_s = float(record.summary["simulated_seconds"])
    end, limits = at(end_s), experiment.budget.limits
    at_end = end.simulated_time * (1 + 1e-12)  # which was rounded to nanoseconds
    if any((at_end if name == "simulated_time" else getattr(end, name)) >= limit for name, limit in limits.items()):
        return end, True
    moments = np.unique(record.rounds["update_s"])
    if len(moments) < 2:
        return end, True
    half, last = at(float(moments[(len(moments) - 1) // 2])), at(float(moments[-1]))
    times = [
        (limit - getattr(last, name)) / (getattr(last, name) - getattr(half, name))
        for name, limit in limits.items()
        if getattr(last, name) > getattr(half, name)
    ]
    return last.further(half, min(times)), False


class _Meter:
    """Use of a simulation up to any moment, from its record."""

    def __init__(self, experiment: Experiment, record: RunRecord):
        rounds, sent = record.rounds.sort_values("update_s", kind="stable"), record.transfers.sort_values("end_s")
        self._offers, self._sent_s = _offers(experiment), sent["end_s"].to_numpy()
        self._update_s = rounds["update_s"].to_numpy()
        steps = rounds["local_steps"].to_numpy()
        tokens = steps * rounds["micro_batches"].to_numpy() * tokens_per_step(experiment)
        up = is_up(sent).to_numpy()
        size = sent["bytes"].to_numpy()
        self._steps, self._tokens = _sums(steps), _sums(tokens)
        self._versions = np.append(0, np.maximum.accumulate(rounds["version"].to_numpy()))
        self._up, self._down = _sums(np.where(up, size, 0)), _sums(np.where(up, 0, size))
        self._bill: Bill | None = None
        if gives_prices(record.experiment):
            tables = record.rounds, record.transfers, record.faults
            workers, end_s = experiment.cluster.workers, float(record.summary["simulated_seconds"])
            self._bill = bill_of(record.experiment, *tables, workers, end_s)

    def __call__(self, moment_s: float) -> Totals:
        """Returns the use up to a moment."""
        arrived = int(np.searchsorted(self._update_s, moment_s, side="right"))
        sent = int(np.searchsorted(self._sent_s, moment_s, side="right"))
        return Totals(
            simulated_time=moment_s,
            local_steps=float(self._steps[arrived]),
            tokens=float(self._tokens[arrived]),
            rounds=arrived / self._offers,
            server_updates=float(self._versions[arrived]),
            bytes_up=float(self._up[sent]),
            bytes_down=float(self._down[sent]),
            money=None if self._bill is None else float(self._bill(moment_s)),
        )


def _sums(values: Any) -> Any:
    return np.append(0, np.cumsum(values))


def later_utilization(record: RunRecord, skipped: int) -> float:
    """Returns the share of the workers' time spent computing after the first rounds of each: once it is under way.

    A worker of which no round arrived has not computed in all of the time, which is that of its first messages.

    Args:
      record: of a run.
      skipped: rounds of each worker that do not count, unless it has no more.
    """
    rounds, end_s = in_order_of_dispatch(record.rounds), float(record.summary["simulated_seconds"])
    by_worker = rounds.groupby("worker")["worker"]
    later = rounds[by_worker.cumcount() >= (by_worker.transform("size") - 1).clip(upper=skipped)]
    first, last = (later.drop_duplicates("worker", keep=which).set_index("worker") for which in _ENDS)
    covered_s = covered_until_s(last, end_s) - first["pull_start_s"]
    total_s = float(covered_s.sum()) + end_s * (record.summary["workers"] - len(first))
    return float(computing_s(later).sum()) / total_s if total_s else 0.0


# Who waits for whom.


def _workers(record: RunRecord) -> pd.DataFrame:
    """Returns the seconds that each worker computed, communicated and waited, by worker."""
    end_s = float(record.summary["simulated_seconds"])
    table = worker_table(record.rounds, record.summary["workers"], end_s).set_index("worker").fillna(0.0)
    shares = {
        "compute": table["compute"],
        "communicate": table["pull"] + table["push"],
        "wait": table["wait"] + table["lost"],
    }
    return pd.DataFrame({name: share * table["covered_s"] for name, share in shares.items()})


def _shares(seconds: pd.DataFrame) -> tuple[float, float, float]:
    total = float(seconds.to_numpy().sum())
    return tuple(float(each) / total if total else 0.0 for each in seconds.sum())  # type: ignore[return-value]


def _groups(experiment: Experiment, record: RunRecord, totals: Totals) -> list[Waiting]:
    """Returns where the time of each group goes; its data are its part of the total."""
    seconds, last = _workers(record), _last(record)
    sent, up = record.transfers, is_up(record.transfers)
    ways = {"bytes_up": sent[up].groupby("sender"), "bytes_down": sent[~up].groupby("receiver")}
    sizes = {name: own["bytes"].sum() for name, own in ways.items()}
    parts = {name: size * (getattr(totals, name) / max(size.sum(), 1)) for name, size in sizes.items()}
    found = []
    for label, workers in worker_groups(experiment, record):
        each = {name: float(size.reindex(workers).fillna(0).mean()) for name, size in parts.items()}
        shares = dict(zip(("compute", "communicate", "wait"), _shares(seconds.loc[workers]), strict=True))
        found.append(Waiting(label, len(workers), **shares, **each, last=float(last.reindex(workers).fillna(0).sum())))
    return found


def _last(record: RunRecord) -> "pd.Series[float]":
    """Returns the share of meetings of several to which a worker came last, while another waited, by worker."""
    arrival_s = record.rounds.drop_duplicates("round").set_index("round")["arrival_s"]
    met = record.updates[record.updates["round"] >= 0]
    met = met.assign(arrival_s=met["round"].map(arrival_s)).dropna(subset=["arrival_s"])
    by_meeting = met.groupby("meeting")["arrival_s"]
    several = met[by_meeting.transform("size") > 1].sort_values("arrival_s", kind="stable")
    meetings = several["meeting"].nunique()
    behind = several[several["arrival_s"] > by_meeting.transform("min").reindex(several.index)]
    culprits = behind.drop_duplicates("meeting", keep="last")["sender"].value_counts()
    return culprits / max(meetings, 1)


def worker_groups(experiment: Experiment, record: RunRecord) -> list[tuple[str, list[int]]]:
    """Returns the groups by which workers are shown: of one kind of device at a site, or of one speed."""
    devices, workers = experiment.cluster.devices, range(experiment.cluster.workers)
    names, sites = of_each(devices.names, len(workers)), devices.worker_sites
    if isinstance(devices, FlopsDevices):
        kinds = [f"{each.each} x {each.name}" if each.each > 1 else each.name for each in devices.accelerators]
        places = [f"{kind} {each.site}" for kind, each in zip(kinds, devices.accelerators, strict=True)]
        counts = [each.count for each in devices.accelerators]
        names = [_named(kinds, places, place) for place, count in enumerate(counts) for _ in range(count)]
    if names is None:
        end_s = float(record.summary["simulated_seconds"])
        speeds = worker_table(record.rounds, len(workers), end_s).set_index("worker")["seconds_per_step"]
        names = [f"{speeds.get(worker, float('nan')):.3g} s/step" for worker in workers]
    found: dict[str, list[int]] = {}
    for worker, name in zip(workers, names, strict=True):
        found.setdefault(name if sites is None else f"{name} in {sites[worker]}", []).append(worker)
    return list(found.items()) if len(found) <= _MOST_GROUPS else [("all", list(workers))]


def _named(kinds: Sequence[str], places: Sequence[str], place: int) -> str:
    """Returns the name of a kind of accelerators, with its number where there are several of it at one site."""
    same = [index for index, each in enumerate(places) if each == places[place]]
    return kinds[place] if len(same) == 1 else f"{kinds[place]} ({same.index(place) + 1})"
