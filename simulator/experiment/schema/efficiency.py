"""Share of a link's bandwidth that transfers reach: one for all rates, or one that depends on the rate."""

import bisect
import math
from typing import Annotated

from pydantic import AfterValidator, Discriminator, Tag

from simulator.experiment.schema.per_worker import one_or_each
from simulator.experiment.schema.units import Bandwidth, Fraction

_Points = tuple[tuple[Bandwidth, Fraction], ...]


def _ascending(points: _Points) -> _Points:
    rates = [rate for rate, _ in points]
    if not points or rates != sorted(set(rates)) or rates[-1] == math.inf:
        raise ValueError("expected pairs of a rate and a share, such as [[50Mbit/s, 0.78], [1Gbit/s, 0.99]], rising")
    return points


Efficiency = Annotated[
    Annotated[Fraction, Tag("<one>")] | Annotated[_Points, AfterValidator(_ascending), Tag("<each>")],
    Discriminator(one_or_each),
]
"""A share, or pairs of a rate and the share that a link of that rate reaches."""


def reached(efficiency: float | _Points, bandwidth: float) -> float:
    """Returns the bandwidth that transfers reach, bytes per second.

    Args:
      efficiency: one share, or shares at rates, between which it is interpolated over the logarithm of the rate; beyond
        them it stays as it is.
      bandwidth: of the link, which is the rate that counts, however many transfers share it.
    """
    if not isinstance(efficiency, tuple):
        return bandwidth * efficiency
    rates, shares = zip(*efficiency, strict=True)
    above = bisect.bisect_right(rates, bandwidth)
    if above in (0, len(rates)):
        return float(bandwidth * shares[max(above - 1, 0)])
    low, high = rates[above - 1], rates[above]
    part = math.log(bandwidth / low) / math.log(high / low)
    return float(bandwidth * (shares[above - 1] + part * (shares[above] - shares[above - 1])))
