"""Slow-downs in the times of a worker's rounds: episodes that are clearly above its usual time."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simulator.calibration.robust import Values, spread

_DEVIATIONS = 4.0  # of the logarithm, beyond which one normal round in 30,000 is
_LEAST = math.log(1.05)
_FEW = 3  # episodes, of which no rate can be told
_ENOUGH = 20  # rounds, of which the deviation is known well enough
_EXPECTED = 5.0  # episodes of a worker that would have had some, but for one time in 150

Mask = npt.NDArray[np.bool_]


class Series(NamedTuple):
    """Rounds of a worker one after the other.

    Attributes:
      worker: its number.
      start_s, end_s: of each round.
      seconds: of computing.
      ratios: of these to the worker's usual time.
      slow: whether it is clearly above that.
    """

    worker: int
    start_s: Values
    end_s: Values
    seconds: Values
    ratios: Values
    slow: Mask


class Slowdown(NamedTuple):
    """One episode: the worker, and its start and length in seconds."""

    worker: int
    start_s: float
    length_s: float


class SlowdownFit(NamedTuple):
    """Slow-downs of a cluster, as `faults.slowdowns` has them.

    Attributes:
      episodes: that were found.
      workers: that have some; None for all.
      time_between_s: mean time from the end of one to the start of the next.
      duration_s: mean.
      factor: on the time of a step.
      shortest_s: shorter ones than about this are not told from jitter; the means allow for them.
    """

    episodes: tuple[Slowdown, ...]
    workers: tuple[int, ...] | None
    time_between_s: float
    duration_s: float
    factor: float
    shortest_s: float


def threshold(deviation: float) -> float:
    """Returns the logarithm of the ratio to the usual time above which a round is slow."""
    return max(_DEVIATIONS * deviation, _LEAST)


def usual(logarithms: Values, pooled: float) -> tuple[float, Mask]:
    """Returns the median of a worker's usual rounds, and which rounds are slow.

    Args:
      logarithms: of seconds per step, in order.
      pooled: standard deviation over all workers, for one with few rounds.
    """
    slow = np.zeros(len(logarithms), bool)
    for _ in range(20):
        normal = logarithms[~slow]
        median = float(np.median(normal))
        deviation = spread(normal) if len(normal) >= _ENOUGH else pooled
        found = logarithms > median + threshold(deviation)
        if (found == slow).all() or found.all():
            break
        slow = found
    return median, slow


def beside(slow: Mask) -> Mask:
    """Returns which rounds are slow or next to one, of which a part may be."""
    wide = slow.copy()
    wide[1:] |= slow[:-1]
    wide[:-1] |= slow[1:]
    return wide


def inner_rounds(slow: Mask) -> Mask:
    """Returns which rounds are slow between two that are."""
    inner = slow.copy()
    inner[:1] = inner[-1:] = False
    inner[1:] &= slow[:-1]
    inner[:-1] &= slow[1:]
    return inner


def factor_of(series: Sequence[Series]) -> float | None:
    """Returns the factor of slow-downs: the median of rounds that are slow from begin to end.

    Where no episode is so long, it is what nine of ten slow rounds are below. None without any.
    """
    whole = np.concatenate([each.ratios[inner_rounds(each.slow)] for each in series])
    if len(whole):
        return float(np.median(whole))
    parts = np.concatenate([each.ratios[each.slow] for each in series])
    return float(np.quantile(parts, 0.9)) if len(parts) else None


def episodes(series: Series, factor: float) -> Iterator[Slowdown]:
    """Yields the slow-downs of a series.

    In an episode of length L, work that usually takes L / factor is done: so it lasts as long as its rounds take longer
    than usual, over 1 - 1 / factor, and as what is between them. Of the rounds before and after it a part may be slow.
    """
    longer_s = series.seconds * (1 - 1 / series.ratios) / (1 - 1 / factor)
    starts = np.flatnonzero(series.slow & ~np.append(False, series.slow[:-1]))
    ends = np.flatnonzero(series.slow & ~np.append(series.slow[1:], False))
    for first, last in zip(starts.tolist(), ends.tolist(), strict=True):
        around = slice(max(first - 1, 0), last + 2)
        between_s = float((series.end_s - series.start_s - series.seconds)[first : last + 1].sum())
        between_s += float((series.start_s[first + 1 : last + 1] - series.end_s[first:last]).sum())
        begin_s = max(float(series.end_s[first] - longer_s[first]), float(series.start_s[first]))
        yield Slowdown(series.worker, begin_s, max(float(longer_s[around].sum()) + between_s, 0.0))


def fit_slowdowns(series: Sequence[Series], deviation: float) -> tuple[SlowdownFit | None, tuple[Slowdown, ...]]:
    """Returns the fit, None of too few, and the episodes.

    Args:
      series: of all workers.
      deviation: of the logarithm of usual rounds.
    """
    factor = factor_of(series)
    if factor is None:
        return None, ()
    of_series = [tuple(episodes(each, factor)) for each in series]
    found = tuple(itertools.chain.from_iterable(of_series))
    if len(found) < _FEW:
        return None, found
    workers, seen_s = _concerned(series, found)
    longer = math.expm1(threshold(deviation)) / (1 - 1 / factor)  # than usual, as long as a round, and just told
    shortest_s = [longer * float(np.median(each.seconds / each.ratios)) for each in series]
    # Of exponential lengths those above the shortest have a mean larger by it, and are exp(-shortest / mean) of all.
    missed_s = sum(len(own) * each_s for own, each_s in zip(of_series, shortest_s, strict=True))
    total_s = sum(each.length_s for each in found)
    duration_s = max(total_s - missed_s, total_s / 2) / len(found)
    several = [min(math.exp(each_s / duration_s), math.e) for each_s in shortest_s]
    count = sum(len(own) * each for own, each in zip(of_series, several, strict=True))
    between_s = max(seen_s - count * duration_s, 0.0) / count
    return SlowdownFit(found, workers, between_s, duration_s, factor, float(np.median(shortest_s))), found


def _concerned(series: Iterable[Series], found: Sequence[Slowdown]) -> tuple[tuple[int, ...] | None, float]:
    """Returns the workers that have slow-downs, None for all, and for how long they were seen."""
    seen_s: dict[int, float] = {}
    for each in series:
        seen_s[each.worker] = seen_s.get(each.worker, 0.0) + float(each.end_s.max() - each.start_s.min())
    having = {each.worker for each in found}
    total_s = sum(seen_s.values())
    spared = {each for each in seen_s if each not in having and len(found) * seen_s[each] / total_s > _EXPECTED}
    if not spared:
        return None, total_s
    rest = sorted(set(seen_s) - spared)
    return tuple(rest), sum(seen_s[worker] for worker in rest)
