"""A literal transcription of the paper's task scheduling (Algorithm 2)."""

import dataclasses
import math
from collections.abc import Callable

from simulator.cluster import Nanoseconds, nanoseconds


@dataclasses.dataclass
class Worker:
    index: int
    step_s: float
    local_updates: int
    completed_time: Nanoseconds = 0
    turn: int = 0  # how many rounds were started before: earlier ones go first where times are equal
    pulled: int = 0


@dataclasses.dataclass
class Reference:
    arrivals: list[tuple[Nanoseconds, int, int, int]] = dataclasses.field(default_factory=list)
    starts: list[tuple[Nanoseconds, list[int]]] = dataclasses.field(default_factory=list)


def algorithm_2(
    step_s: list[float],
    steps: list[int],
    tau_grace: float,
    t_max: int,
    duration: Callable[[float], Nanoseconds] = nanoseconds,
) -> Reference:
    """Returns arrivals (time, worker, staleness, t_local) and group starts (time, workers); `duration` counts time."""
    reference = Reference()
    running: list[Worker] = []
    theta = turn = 0  # theta stands for the server's version
    clock: Nanoseconds = 0

    def train(workers: list[Worker]) -> None:
        nonlocal turn
        reference.starts.append((clock, [w.index for w in workers]))
        for w in workers:
            w.completed_time = clock + duration(w.local_updates * w.step_s)
            w.turn, w.pulled = turn, theta
            turn += 1
            running.append(w)

    t_local = 0
    completed: list[Worker] = []
    train([Worker(index, *own) for index, own in enumerate(zip(step_s, steps, strict=True))])
    tau_sync: Nanoseconds = math.inf
    while t_local < t_max:
        earliest = min(running, key=lambda w: (w.completed_time, w.turn), default=None)
        if earliest is not None and earliest.completed_time - tau_sync <= duration(tau_grace):
            running.remove(earliest)
            tau_sync = min(tau_sync, earliest.completed_time)
            clock = earliest.completed_time
            staleness = theta - earliest.pulled
            theta += 1
            completed.append(earliest)
            t_local += earliest.local_updates
            reference.arrivals.append((clock, earliest.index, staleness, t_local))
        else:
            tau_sync = math.inf
            train(completed)
            completed = []
    return reference
