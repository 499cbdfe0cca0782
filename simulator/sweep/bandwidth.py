"""Bandwidth that a share of time spent computing needs, as a factor on all links."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from simulator.experiment import Experiment
from simulator.experiment.schema.measured_trace import LinkRate
from simulator.experiment.schema.section import Section

SHARES = (0.5, 0.8, 0.9, 0.95, 0.99)
"""Shares of the workers' time spent computing, for which the bandwidth is looked for."""
ANY, _MOST = 1e-9, 1e9  # factors beyond which it has no effect
_STRIDE = 64.0  # longest step where one side is open
_UNLIMITED_BASE = 125e6  # bytes per second, 1 Gbit/s: of links that are unlimited


def with_bandwidth(experiment: Experiment, factor: float) -> Experiment:
    """Returns an experiment whose links between nodes have a bandwidth that is a multiple of what it was.

    Args:
      experiment: whose links have a bandwidth, see `with_limits`.
      factor: infinite for links without limits.
    """
    network, topology = (_scaled(each, factor) for each in (experiment.cluster.network, experiment.topology))
    if factor == math.inf:  # of which no trace has a row
        network = network.model_copy(update={"trace": None, "repeat_every": None})
    cluster = experiment.cluster.model_copy(update={"network": network})
    return experiment.model_copy(update={"cluster": cluster, "topology": topology})


def with_limits(experiment: Experiment) -> tuple[Experiment, bool]:
    """Returns an experiment some link of which has a bandwidth, and whether it is as it was.

    Where every link is unlimited all workers' are given 1 Gbit/s, of which others are multiples.
    """
    if any(math.isfinite(each) for part in (experiment.cluster.network, experiment.topology) for each in _all(part)):
        return experiment, True
    network = experiment.cluster.network
    ways = {"down": network.down, "up": network.up}
    changes = {name: way.model_copy(update={"bandwidth": None}) for name, way in ways.items()}
    limited = network.model_copy(update={"bandwidth": _UNLIMITED_BASE, **changes})
    cluster = experiment.cluster.model_copy(update={"network": limited})
    return experiment.model_copy(update={"cluster": cluster}), False


def span_of(experiment: Experiment) -> tuple[float, float]:
    """Returns the least and the largest bandwidth of its links that have one, bytes per second."""
    found = [each for part in (experiment.cluster.network, experiment.topology) for each in _all(part)]
    finite = [each for each in found if math.isfinite(each)]
    return min(finite), max(finite)


def needed_factor(
    share_at: Callable[[float], float], share: float, known: dict[float, float], within: float = 1.02
) -> float | None:
    """Returns the least factor on all bandwidths at which a share of the time is spent computing.

    Time besides computing is about in inverse proportion to bandwidth, which the guesses follow; what is found is
    bracketed on both sides.

    Args:
      share_at: from a factor to the share, which never falls with it.
      share: wanted.
      known: shares by factor, which are not asked for again; it grows.
      within: factor within which it is found.

    Returns:
      The factor; 0 if it does not matter, None where no bandwidth is enough.
    """

    def at(factor: float) -> float:
        if factor not in known:
            known[factor] = share_at(factor)
        return known[factor]

    unlimited = at(math.inf)
    if unlimited < share:
        return None
    at(1.0)
    while True:
        low = max((factor for factor, found in known.items() if found < share), default=0.0)
        high = min(factor for factor, found in known.items() if found >= share)
        if high <= ANY:
            return 0.0
        if low >= _MOST:
            return None
        if low and high / low <= within:
            return high
        at(_guess(known, low, high, share, within**0.25))


def _guess(known: dict[float, float], low: float, high: float, share: float, beside: float) -> float:
    """Returns a factor between two others, where time besides computing would be in inverse proportion to it.

    It is a little `beside` that, so that it and the next one are likely to be on both sides of what is looked for.
    """
    unlimited, bracketed = known[math.inf], low > 0 and math.isfinite(high)
    least, most = low or high / _STRIDE, high if math.isfinite(high) else low * _STRIDE
    near = low if not math.isfinite(high) or (low and share - known[low] < known[high] - share) else high
    if share == unlimited or known[near] in (0, unlimited) or (bracketed and len(known) % 3 == 0):
        return math.sqrt(low * high) if bracketed else (least if near == high else most)
    rest, wanted = (1 / each - 1 / unlimited for each in (known[near], share))  # of time, for each second of computing
    guess = near * rest / wanted
    guess = guess * beside if near == low else guess / beside
    if bracketed and not low < guess < high:
        return math.sqrt(low * high)
    return min(max(guess, least), most)


def _scaled(section: Any, factor: float) -> Any:
    """Returns a section in which every bandwidth and measured rate, also within it, is a multiple of what it was."""
    if isinstance(section, Mapping):
        return {name: _scaled(each, factor) for name, each in section.items()}
    if isinstance(section, LinkRate):
        return section._replace(rate=section.rate * factor)
    if isinstance(section, tuple):
        return tuple(_scaled(each, factor) for each in section)
    if not isinstance(section, Section):
        return section
    changes = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        changes[name] = _times(value, factor) if name == "bandwidth" else _scaled(value, factor)
    return section.model_copy(update=changes)


def _times(value: Any, factor: float) -> Any:
    if isinstance(value, tuple):
        return tuple(_times(each, factor) for each in value)
    return value if value is None else value * factor


def _all(section: Any) -> list[float]:
    """Returns every bandwidth and measured rate within a section."""
    if isinstance(section, Mapping):
        return _all(tuple(section.values()))
    if isinstance(section, LinkRate):
        return [section.rate]
    if isinstance(section, tuple):
        return [each for part in section for each in _all(part)]
    if not isinstance(section, Section):
        return []
    found: list[float] = []
    for name in type(section).model_fields:
        value = getattr(section, name)
        found += _numbers(value) if name == "bandwidth" else _all(value)
    return found


def _numbers(value: Any) -> Iterator[float]:
    """Yields the numbers of one for all, a list of them, or a matrix."""
    if isinstance(value, tuple):
        for each in value:
            yield from _numbers(each)
    elif value is not None:
        yield value
