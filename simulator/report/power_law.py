"""Power laws through points: least squares in logarithms, with Student's interval."""

import math
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from simulator.host.text import plural
from simulator.report.group_keys import ReportError

Fit = Literal["power"]
"""Laws that can be laid through the points of a group: y = coefficient * x^exponent."""

CONFIDENCE = 0.95
_FEWEST = 3  # values of x, of which two lie on a law whatever they are


class PowerLaw(NamedTuple):
    r"""Power law y = A x^a: least squares of log y over log x, every point with the same weight.

    With u = log x and its mean m, S = sum (u - m)^2, and s^2 = (squared residuals) / (points - 2), the ends of the
    interval at x are t s sqrt(1 / points + (u - m)^2 / S) around log y, those of a are t s / sqrt(S): Student's, with
    points - 2 degrees of freedom. They hold where the points scatter independently around a power law, in proportion
    to it.

    Attributes:
        coefficient: A, the law at x = 1.
        exponent: a.
        exponent_low: End of its interval.
        exponent_high: End of its interval.
        scatter: s, of log y: about the share of y by which points miss the law.
        center: m.
        spread: S.
        quantile: t.
        points: Number of points.
    """

    coefficient: float
    exponent: float
    exponent_low: float
    exponent_high: float
    scatter: float
    center: float
    spread: float
    quantile: float
    points: int

    def at(self, x: np.ndarray) -> np.ndarray:
        """Returns the law at x."""
        return self.coefficient * x**self.exponent

    def band(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ends of the law's interval at x."""
        of_mean = 1 / self.points + (np.log(x) - self.center) ** 2 / self.spread
        factor = np.exp(self.quantile * self.scatter * np.sqrt(of_mean))
        return self.at(x) / factor, self.at(x) * factor


def power_law(
    x: np.ndarray, y: np.ndarray, *, names: tuple[str, str] = ("x", "y"), confidence: float = CONFIDENCE
) -> PowerLaw:
    """Returns the power law through points.

    Args:
        x: Of each point; several may have the same.
        y: Of each point.
        names: Of both, for messages.
        confidence: Of the intervals.

    Raises:
        ReportError: If there are fewer than three values of x, or a number is not finite or not above 0.
    """
    for name, numbers in zip(names, (x, y), strict=True):
        wrong = numbers[~(np.isfinite(numbers) & (numbers > 0))]
        if wrong.size:
            raise ReportError(
                f"{name} of a run is {wrong[0]:g}, and a power law goes through finite numbers above 0: "
                "leave such runs out, or give no fit"
            )
    if len(values := np.unique(x)) < _FEWEST:
        shown = ", ".join(f"{value:g}" for value in values)
        raise ReportError(
            f"{names[0]} has {plural(len(values), 'value')} ({shown}), and a power law needs {_FEWEST}: give "
            "more runs, or no fit"
        )
    u, log_y = np.log(x), np.log(y)
    center, degrees = float(u.mean()), len(u) - 2
    spread = float(((u - center) ** 2).sum())
    exponent = float(((u - center) * log_y).sum()) / spread
    log_coefficient = float(log_y.mean()) - exponent * center
    scatter = math.sqrt(float(((log_y - log_coefficient - exponent * u) ** 2).sum()) / degrees)
    quantile = float(special.stdtrit(degrees, (1 + confidence) / 2))
    half = quantile * scatter / math.sqrt(spread)
    ends = (exponent - half, exponent + half)
    return PowerLaw(math.exp(log_coefficient), exponent, *ends, scatter, center, spread, quantile, len(u))
