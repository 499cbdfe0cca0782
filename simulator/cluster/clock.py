"""Simulated time in whole nanoseconds: events that should coincide do, whatever unit durations are given in."""

import math

Nanoseconds = int | float
"""A time or duration in whole nanoseconds; `math.inf` for never."""


def nanoseconds(seconds: float) -> Nanoseconds:
    """Returns a duration in whole nanoseconds; one above zero lasts at least one.

    Args:
      seconds: the duration, 0 or more, or infinite.
    """
    count = seconds * 1e9
    if count == math.inf:
        return math.inf
    return max(round(count), 1) if count > 0 else 0


def seconds(time_ns: Nanoseconds) -> float:
    """Returns a time in seconds, as records show it."""
    return time_ns / 1e9
