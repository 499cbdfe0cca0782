"""Statistics that a few unusual values do not move, each with its standard error where the rest is normal."""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.floating[Any]]
_OF_DEVIATION = 1.4826  # a normal distribution's standard deviation over its median absolute deviation
_MOST_PAIRED = 800  # values of which all pairs are looked at


def spread(values: Values) -> float:
    """Returns a standard deviation from the median absolute deviation."""
    return _OF_DEVIATION * float(np.median(np.abs(values - np.median(values)))) if len(values) else 0.0


def median_error(deviation: float, count: int) -> float:
    """Returns the standard error of a median of normal values, sqrt(pi/2) of a mean's."""
    return math.sqrt(math.pi / 2) * deviation / math.sqrt(count)


class Line(NamedTuple):
    """Line through points, y = intercept + slope x, with standard errors, and the standard deviation about it."""

    intercept: float
    slope: float
    intercept_error: float
    slope_error: float
    deviation: float


def line(x: Values, y: Values) -> Line | None:
    """Returns the line of Theil and Sen: the median slope of all pairs; None where all x are the same.

    Of more than 800 points as many at equal distances in their order are paired.
    """
    if np.ptp(x) == 0:
        return None
    chosen = np.linspace(0, len(x) - 1, min(len(x), _MOST_PAIRED)).round().astype(int)
    if np.ptp(x[chosen]) == 0:  # the rare others are left out
        chosen = np.unique(np.append(chosen, np.flatnonzero(x != x[chosen[0]])[:_MOST_PAIRED]))
    first, second = np.triu_indices(len(chosen), 1)
    dx, dy = x[chosen][second] - x[chosen][first], y[chosen][second] - y[chosen][first]
    slope = float(np.median(dy[dx != 0] / dx[dx != 0]))
    intercept = float(np.median(y - slope * x))
    deviation, variance = spread(y - slope * x), float(np.var(x)) * len(x)
    error = deviation * math.sqrt(1 / len(x) + float(np.mean(x)) ** 2 / variance)
    return Line(intercept, slope, error, deviation / math.sqrt(variance), deviation)


def trend(time: Values, values: Values) -> tuple[float, float]:
    """Returns the slope of values over time by least squares, and how many standard errors it is from none.

    With few values Student's distribution is wider than the normal one: the number is that of normal errors which is as
    rare, by Wallace's approximation.
    """
    if len(time) < 4 or np.ptp(time) == 0:
        return 0.0, 0.0
    centred, freedom = time - time.mean(), len(time) - 2
    square = float(centred @ centred)
    slope = float(centred @ values) / square
    left = values - values.mean() - slope * centred
    error = math.sqrt(float(left @ left) / freedom / square)
    if error <= 1e-12 * abs(slope):
        return slope, math.copysign(math.inf, slope) if slope else 0.0
    rarity = math.sqrt(freedom * math.log1p((slope / error) ** 2 / freedom)) * (8 * freedom + 1) / (8 * freedom + 3)
    return slope, math.copysign(rarity, slope)
