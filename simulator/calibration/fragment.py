"""A fitted cluster as a section of an experiment file, with what it was fitted on as comments."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import yaml

from simulator.calibration.fit import Calibration, LinkFit, StepFit, agreed
from simulator.calibration.observations import Observations
from simulator.host.format import duration, percent, significant
from simulator.host.text import one_line, plural
from simulator.record import RecordError

By = Literal["cluster", "worker"]
_DIGITS = 6


def fragment(calibration: Calibration, by: By = "cluster") -> str:
    """Returns YAML that an experiment file can extend: one value where workers agree within noise, else lists.

    Args:
      calibration: of the cluster.
      by: "worker" for lists everywhere.
    """
    section: dict[str, Any] = {}
    if calibration.steps:
        section["devices"] = _devices(calibration, by)
    if calibration.links:
        section["network"] = _network(calibration, by)
    if calibration.slowdowns is not None:
        section["faults"] = {"slowdowns": _slowdowns(calibration)}
    comments = "".join(f"# {one_line(line)}\n" for line in remarks(calibration))
    content = yaml.safe_dump({"cluster": section}, sort_keys=False, default_flow_style=None, width=110)
    return f"{comments}{content}"


def step_trace(observations: Observations) -> str:
    """Returns the step times of rounds as a CSV file that `cluster.devices.trace` replays.

    Raises:
      RecordError: they are of several runs or logs, or there are none.
    """
    rounds = observations.rounds
    if rounds["source"].nunique() != 1:
        known = "several runs or logs" if len(rounds) else "no rounds"
        raise RecordError(f"a trace is of one run or log, and there are {known}: give one with rounds")
    times_s = rounds["start_s"] - rounds["start_s"].min()
    rows = zip(times_s, rounds["worker"], rounds["seconds"] / rounds["steps"], strict=True)
    lines = (f"{time_s:.9f},{worker},{step_s:.9g}\n" for time_s, worker, step_s in rows)
    return "time,worker,seconds_per_step\n" + "".join(lines)


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _time(seconds: float) -> str:
    return f"{_rounded(seconds)!r}s"


def _devices(calibration: Calibration, by: By) -> dict[str, Any]:
    steps = calibration.steps
    values = [_rounded(calibration.seconds_per_step(worker)) for worker in range(len(steps))]
    one = agreed(values, [value * each.error for value, each in zip(values, steps, strict=True)])
    section: dict[str, Any] = {"seconds_per_step": values}
    if by == "cluster" and one is not None:
        section = {"seconds_per_step": _rounded(one), "workers": len(steps)}
    return section | ({"jitter": _rounded(calibration.jitter)} if calibration.jitter else {})


def _network(calibration: Calibration, by: By) -> dict[str, Any]:
    count = len(calibration.observations.workers)
    found = {name: _of_all(links, count) for name, links in calibration.links.items()}
    if by == "cluster" and set(found) == {"down", "up"}:
        both = found["down"] + found["up"]
        common = _direction(both, by)
        if not any(isinstance(value, list) for value in common.values()):
            return common
    return {name: _direction(links, by) for name, links in found.items()}


def _of_all(links: dict[int, LinkFit], count: int) -> list[LinkFit]:
    """Returns the links of all workers; of one without transfers it is that with the median time per byte."""
    typical = sorted(links.values(), key=lambda link: link.second_per_byte)[len(links) // 2]
    return [links.get(worker, typical) for worker in range(count)]


def _direction(links: Sequence[LinkFit], by: By) -> dict[str, Any]:
    latencies_s, per_byte = ([link[place] for link in links] for place in (1, 2))
    latency_s = agreed(latencies_s, [link.latency_error for link in links])
    second_per_byte = agreed(per_byte, [link.second_per_byte_error for link in links])
    one = by == "cluster"
    return {
        "latency": _time(latency_s) if one and latency_s is not None else [_time(each) for each in latencies_s],
        "bandwidth": _rate(second_per_byte)
        if one and second_per_byte is not None
        else [_rate(each) for each in per_byte],
    }


def _rate(second_per_byte: float) -> str:
    return f"{_rounded(8e-6 / second_per_byte)!r}Mbit/s" if second_per_byte > 0 else "unlimited"


def _slowdowns(calibration: Calibration) -> dict[str, Any]:
    found = calibration.slowdowns
    assert found is not None
    section: dict[str, Any] = {
        "time_between": _time(found.time_between_s),
        "duration": _time(found.duration_s),
        "factor": _rounded(found.factor),
    }
    return section | ({} if found.workers is None else {"workers": list(found.workers)})


def remarks(calibration: Calibration) -> Iterator[str]:
    """Yields lines that say what a cluster was fitted on, and what of that it does not explain."""
    seen, steps = calibration.observations, calibration.steps
    amounts = f"{plural(len(seen.rounds), 'round')} and {plural(len(seen.transfers), 'transfer')}"
    yield f"Fitted by tardigrad calibrate on {amounts} of {plural(len(seen.workers), 'worker')}: {_few(seen.sources)}."
    if seen.workers != tuple(map(str, range(len(seen.workers)))):
        yield f"Workers, from 0: {_few(seen.workers)}."
    if steps:
        yield from _of_steps(calibration)
    for direction, links in calibration.links.items():
        yield from _of_links(calibration, direction, links)
    yield from seen.notes


def _of_steps(calibration: Calibration) -> Iterator[str]:
    steps, found, names = calibration.steps, calibration.slowdowns, calibration.observations.workers
    lowest, highest = min(each.jitter for each in steps), max(each.jitter for each in steps)
    errors = [each.jitter / math.sqrt(2 * max(each.rounds - 1, 1)) for each in steps]
    if agreed([each.jitter for each in steps], errors) is None:
        yield f"Workers have jitters from {lowest:.3g} to {highest:.3g}; a cluster has one, which is that of them all."
    if found is not None:
        lengths = np.array([each.length_s for each in found.episodes])
        spread = float(lengths.std() / lengths.mean())
        yield (
            f"Slow-downs: {plural(len(lengths), 'episode')}; their lengths vary by {percent(spread)} (exponential ones "
            f"by 100 %); shorter ones than {duration(found.shortest_s)} are not told from jitter."
        )
    elif calibration.episodes:
        yield f"Slow-downs: {plural(len(calibration.episodes), 'episode')}, too few for a rate: none is written."
    drifting = [
        f"{name} by {_percent(each.drift)} an hour" for name, each in zip(names, steps, strict=True) if each.drifts
    ]
    if drifting:
        yield f"Drift that is more than noise, and that no setting has (replay a trace): worker {_few(drifting)}."
    yield f"Medians and slow-downs leave {percent(calibration.left)} of the variance of the steps' times to jitter."
    if not math.isnan(calibration.correlation):
        alike = f"{calibration.correlation:.2f}"
        yield f"Left unexplained: successive rounds of a worker are alike (correlation {alike}); jitter is drawn anew."
    largest = [
        f"worker {names[each.worker]} at {significant(each.start_s, 6)} s by {each.factor:.3g}"
        for each in calibration.residuals
    ]
    if largest:
        yield f"Largest factors that are left: {_few(largest)}."


def _of_links(calibration: Calibration, direction: str, links: dict[int, LinkFit]) -> Iterator[str]:
    names = calibration.observations.workers
    together = [names[worker] for worker, link in links.items() if not link.told_apart]
    if together:
        text = "messages are of one size, and latency is part of the bandwidth"
        yield f"{direction}: {text}: worker {_few(together)}."
    lines = [link.left for link in links.values() if not math.isnan(link.left)]
    if lines:
        yield f"{direction}: latency and bandwidth leave up to {percent(max(lines))} of the variance of transfers."
    waited = max(link.waited for link in links.values())
    if waited:
        text = "of a worker's transfers took 1.5 times as long or more: waiting for others is not fitted"
        yield f"{direction}: up to {percent(waited)} {text}."
    missing = [name for worker, name in enumerate(names) if worker not in links]
    if missing:
        yield f"{direction}: no transfers of worker {_few(missing)}, which has the median link of the others."


def _percent(share: float) -> str:
    return f"{100 * share:+.3g} %"


def _few(names: Sequence[str], most: int = 8) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def step_row(calibration: Calibration, worker: int) -> list[str]:
    """Returns a worker's cells for a table: rounds, seconds per step, jitter, drift and slow-downs."""
    each: StepFit = calibration.steps[worker]
    drift = f"{_percent(each.drift)}/h" if each.drifts else "none"
    slow = sum(episode.worker == worker for episode in calibration.episodes)
    return [f"{each.rounds:,}", significant(each.median_s, 4), f"{each.jitter:.3g}", drift, f"{slow:,}"]


def link_row(link: LinkFit | None) -> list[str]:
    """Returns a link's cells for a table: transfers, latency and bandwidth."""
    if link is None:
        return ["0", "", ""]
    latency = duration(link.latency_s) if link.told_apart else "in bandwidth"
    return [f"{link.transfers:,}", latency, _rate(link.second_per_byte)]
