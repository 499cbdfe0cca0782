"""Fit of a cluster to observations: step times, jitter, drift, slow-downs and links, and what is left unexplained."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from simulator.calibration.observations import Observations
from simulator.calibration.robust import Values, line, median_error, spread, trend
from simulator.calibration.slowdowns import (
    Mask,
    Series,
    Slowdown,
    SlowdownFit,
    beside,
    fit_slowdowns,
    inner_rounds,
    usual,
)

_MORE_THAN_NOISE = 3.0  # standard errors
_MOST_SHOWN = 5
_ROUNDED = 1e-6  # relative deviation that is of rounding alone
_WAITED = 1.5  # times as long as its link needs


class StepFit(NamedTuple):
    """Local steps of a worker.

    Attributes:
      rounds: that were observed.
      median_s: seconds per step, of rounds that were not slow.
      error: relative standard error of the median.
      jitter: standard deviation of its rounds' logarithms.
      drift: relative change of its steps' time per hour.
      drift_ratio: of that to its standard error; above 3 it is more than noise.
    """

    rounds: int
    median_s: float
    error: float
    jitter: float
    drift: float
    drift_ratio: float

    @property
    def drifts(self) -> bool:
        """Kind of its drift: whether it is more than noise."""
        return abs(self.drift_ratio) > _MORE_THAN_NOISE


class LinkFit(NamedTuple):
    """One direction of a worker's link.

    Attributes:
      transfers: that were observed.
      latency_s, second_per_byte: of the line through durations over sizes.
      latency_error, second_per_byte_error: standard errors.
      left: share of the durations' variance that the line leaves; NaN where all messages are of one size.
      waited: share of transfers that took 1.5 times as long as the line says, or more.
      told_apart: whether latency and bandwidth could be; else the size of messages is one, and all is bandwidth.
    """

    transfers: int
    latency_s: float
    second_per_byte: float
    latency_error: float
    second_per_byte_error: float
    left: float
    waited: float
    told_apart: bool


class Residual(NamedTuple):
    """A round that took another time than was expected, by a factor; it began so long after its log."""

    worker: int
    source: int
    start_s: float
    factor: float


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Cluster that was fitted.

    Attributes:
      observations: to which.
      steps: of each worker; empty where no rounds were observed.
      jitter: sigma, over all workers.
      slowdowns: None without enough of them.
      episodes: all slow-downs that were found.
      links: "down" and "up", as far as they were observed: worker to fit.
      left: share of the variance of the logarithm of steps' times that workers' medians and slow-downs leave.
      correlation: of what is left in a worker's successive rounds; NaN where it is no more than noise.
      residuals: largest of what is left.
    """

    observations: Observations
    steps: tuple[StepFit, ...]
    jitter: float
    slowdowns: SlowdownFit | None
    episodes: tuple[Slowdown, ...]
    links: dict[str, dict[int, LinkFit]]
    left: float
    correlation: float
    residuals: tuple[Residual, ...]

    def seconds_per_step(self, worker: int) -> float:
        """Returns the mean time of a worker's steps, whose rounds have a factor of mean 1 and a median below it."""
        return self.steps[worker].median_s * math.exp(self.jitter**2 / 2)


def calibrate(observations: Observations) -> Calibration:
    """Returns the cluster that fits observations best."""
    links: dict[str, dict[int, LinkFit]] = {}
    for (direction, worker), own in observations.transfers.groupby(["direction", "worker"], sort=True):
        sizes, seconds = (own[name].to_numpy(float) for name in ("bytes", "seconds"))
        links.setdefault(str(direction), {})[int(str(worker))] = fit_link(sizes, seconds)
    if observations.rounds.empty:
        return Calibration(observations, (), 0.0, None, (), links, math.nan, math.nan, ())
    rounds = observations.rounds.assign(x=np.log(observations.rounds["seconds"] / observations.rounds["steps"]))
    pooled = spread((rounds["x"] - rounds.groupby("worker")["x"].transform("median")).to_numpy())
    medians, slow = np.empty(len(rounds)), np.zeros(len(rounds), bool)
    for rows in rounds.groupby("worker").indices.values():
        medians[rows], slow[rows] = usual(rounds["x"].to_numpy()[rows], pooled)
    rounds = rounds.assign(left=rounds["x"] - medians, slow=slow)
    steps = tuple(_steps(own) for _, own in rounds.groupby("worker", sort=True))
    freedom = sum(max(each.rounds - 1, 0) for each in steps)
    jitter = math.sqrt(sum(each.jitter**2 * max(each.rounds - 1, 0) for each in steps) / freedom) if freedom else 0.0
    slowdowns, episodes = fit_slowdowns([_series(own) for _, own in _by_series(rounds)], jitter)
    left = _left(rounds, slowdowns)
    variance = float(np.var(rounds["x"]))
    return Calibration(
        observations=observations,
        steps=tuple(each._replace(error=median_error(jitter, each.rounds)) for each in steps),
        jitter=jitter,
        slowdowns=slowdowns,
        episodes=episodes,
        links=links,
        left=float(np.mean(left**2)) / variance if variance > _ROUNDED**2 else 0.0,
        correlation=_correlation(rounds, left),
        residuals=_largest(rounds, left),
    )


def _by_series(rounds: pd.DataFrame) -> Any:
    return rounds.groupby(["source", "worker"], sort=True)


def _series(own: pd.DataFrame) -> Series:
    start_s, end_s, seconds, left = (own[name].to_numpy(float) for name in ("start_s", "end_s", "seconds", "left"))
    return Series(int(own["worker"].iloc[0]), start_s, end_s, seconds, np.exp(left), own["slow"].to_numpy())


def _steps(own: pd.DataFrame) -> StepFit:
    """Returns the fit of a worker's steps to its rounds that were not slow, nor next to slow ones."""
    near = np.concatenate([beside(series["slow"].to_numpy()) for _, series in own.groupby("source", sort=True)])
    normal = own[~near] if not near.all() else own
    x, left = normal["x"].to_numpy(), normal["left"].to_numpy()
    of_source = normal.groupby("source")
    hours = (normal["start_s"] - of_source["start_s"].transform("mean")).to_numpy() / 3600
    drift, ratio = trend(hours, (normal["x"] - of_source["x"].transform("mean")).to_numpy())
    drifts = abs(ratio) > _MORE_THAN_NOISE and abs(drift) * float(np.ptp(hours)) > _ROUNDED
    if drifts:
        left = left - drift * hours
    deviation = float(np.std(left, ddof=1)) if len(left) > 1 else 0.0
    jitter = deviation if deviation > _ROUNDED else 0.0
    return StepFit(len(normal), math.exp(float(np.median(x))), 0.0, jitter, drift if drifts else 0.0, ratio * drifts)


def _left(rounds: pd.DataFrame, slowdowns: SlowdownFit | None) -> Values:
    """Returns what medians and slow-downs leave of each round's logarithm; of a round that is slow in part nothing."""
    left: Values = rounds["left"].to_numpy().copy()
    if slowdowns is None:
        return left
    slow: Mask = rounds["slow"].to_numpy()
    inner = np.concatenate([inner_rounds(own["slow"].to_numpy()) for _, own in _by_series(rounds)])
    left[slow & ~inner] = 0.0
    left[inner] -= math.log(slowdowns.factor)
    return left


def _correlation(rounds: pd.DataFrame, left: Values) -> float:
    follows = (rounds[["source", "worker"]].to_numpy()[1:] == rounds[["source", "worker"]].to_numpy()[:-1]).all(axis=1)
    before, after = left[:-1][follows], left[1:][follows]
    if len(before) < 10 or min(np.std(before), np.std(after)) < _ROUNDED:
        return math.nan
    found = float(np.corrcoef(before, after)[0, 1])
    return found if abs(found) > 4 / math.sqrt(len(before)) else math.nan


def _largest(rounds: pd.DataFrame, left: Values) -> tuple[Residual, ...]:
    largest = np.argsort(-np.abs(left), kind="stable")[:_MOST_SHOWN]
    rows = rounds.iloc[largest[np.abs(left[largest]) > _ROUNDED]]
    since_s = (rounds["start_s"] - rounds.groupby("source")["start_s"].transform("min"))[rows.index]
    columns = zip(rows["worker"], rows["source"], since_s, left[largest], strict=False)
    return tuple(Residual(int(worker), int(source), float(at), math.exp(x)) for worker, source, at, x in columns)


def fit_link(sizes: Values, seconds: Values) -> LinkFit:
    """Returns the fit of transfers of some sizes, in bytes, that took so long.

    The line is that of Theil and Sen, which up to a quarter of transfers that wait for others hardly move.
    """
    count, median_s = len(sizes), float(np.median(seconds))
    found = line(sizes, seconds)
    if found is not None and found.slope <= _MORE_THAN_NOISE * found.slope_error:
        most = (max(found.slope, 0.0) + _MORE_THAN_NOISE * found.slope_error) * float(sizes.max())
        if most <= 0.05 * median_s:  # sizes are unlike, and times are not
            errors, left = (median_error(found.deviation, count), found.slope_error), float(np.ptp(seconds) > 0)
            return LinkFit(count, median_s, 0.0, *errors, left, _waited(seconds, median_s), True)
        found = None
    if found is None:
        per_byte = float(np.median(seconds / sizes))
        error = median_error(spread(seconds / sizes), count)
        return LinkFit(count, 0.0, per_byte, 0.0, error, math.nan, _waited(seconds, sizes * per_byte), False)
    latency_s = found.intercept if found.intercept > max(2 * found.intercept_error, 1e-6) else 0.0
    expected_s = latency_s + found.slope * sizes
    left = float(np.mean((seconds - expected_s) ** 2) / np.var(seconds))
    errors = found.intercept_error, found.slope_error
    return LinkFit(count, latency_s, found.slope, *errors, left, _waited(seconds, expected_s), True)


def _waited(seconds: Values, expected_s: Values | float) -> float:
    return float(np.mean(seconds > _WAITED * np.asarray(expected_s)))


def agreed(values: Sequence[float], errors: Sequence[float]) -> float | None:
    """Returns the median of values that agree within noise: four standard errors and a thousandth; else None."""
    middle, apart = float(np.median(values)), math.sqrt(1 - 1 / len(values))
    near = (abs(v - middle) <= 4 * e * apart + 1e-3 * abs(middle) for v, e in zip(values, errors, strict=True))
    return middle if all(near) else None
