"""Numbers of the runs of a group, which differ by their seed: the mean, the range, and how they are written."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from simulator.host import format as human

Format = Callable[[float | None], str]

FORMATS: Mapping[str, Format] = {
    "final_perplexity": human.perplexity,
    "simulated_seconds": human.short_duration,
    "simulated_s": human.short_duration,
    "host_seconds": human.short_duration,
    "time_to_target": human.short_duration,
    "utilization": human.percent,
    "local_steps": human.short_count,
    "tokens": human.short_count,
    "server_updates": human.short_count,
    "lost_steps": human.short_count,
    "dropped_steps": human.short_count,
    "steps_to_target": human.short_count,
    "tokens_to_target": human.short_count,
    "tokens_per_host_second": human.short_count,
    "bytes_sent": human.byte_count,
    "lost_bytes": human.byte_count,
    "bytes_to_target": human.byte_count,
    "money": human.amount,
    "money_to_target": human.amount,
}
"""Formats of numbers, by their key in summaries, evaluations and tables of targets."""


class Spread(NamedTuple):
    """A number over the runs of a group; NaN where it is not known of any.

    Attributes:
        mean: Over those of which it is known.
        low: The smallest.
        high: The largest.
        known: Of how many runs it is known.
        runs: How many there are.
    """

    mean: float
    low: float
    high: float
    known: int
    runs: int

    def lines(self, show: Format) -> list[str]:
        """Returns the mean and, on a line of its own, half the range, if any."""
        return [show(self.mean), *([f"± {show((self.high - self.low) / 2)}"] if self.high > self.low else [])]


def spread(values: Iterable[float | None]) -> Spread:
    """Returns the spread of a number, given of each run; it is not known where it is None, NaN or infinite."""
    each = list(values)
    finite = [float(value) for value in each if value is not None and math.isfinite(value)]
    if not finite:
        return Spread(math.nan, math.nan, math.nan, 0, len(each))
    return Spread(float(np.mean(finite)), min(finite), max(finite), len(finite), len(each))
