"""Small clusters and readable logs for the tests of the timeline."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from simulator.cluster import ClusterModel, FaultModel, Link, seconds
from simulator.experiment.schema.faults import Faults
from simulator.timeline import (
    Arrival,
    Asynchronous,
    Dispatched,
    Evaluation,
    Event,
    Fault,
    Finished,
    FixedShard,
    Lost,
    Round,
    Shortened,
    Timeline,
    TimelineConfig,
    Update,
)

AUTHORS_STEP_S = (0.58, 0.75, 1.51, 3.33)


def link(
    workers: int,
    latency_s: float | Sequence[float] = 0.0,
    transmission_s: float | Sequence[float] = 0.0,
    shared_s: float | None = None,
) -> Link:
    latency, transmission = (
        np.broadcast_to(np.asarray(each, float), (workers,)) for each in (latency_s, transmission_s)
    )
    return Link(message_bytes=1, latency_s=latency, transmission_s=transmission, shared_s=shared_s)


def cluster(
    step_s: Sequence[float],
    *,
    jitter: float = 0.0,
    down: Link | None = None,
    up: Link | None = None,
    server_update_s: float = 0.0,
    seed: int = 0,
    faults: dict[str, Any] | None = None,
) -> ClusterModel:
    free = link(len(step_s))
    model = None if faults is None else FaultModel(Faults.model_validate(faults), seed)
    return ClusterModel(np.array(step_s, float), jitter, down or free, up or free, server_update_s, seed, model)


def timeline(model: ClusterModel, **config: Any) -> Timeline:
    """Unless told otherwise, rounds have one local step, and only simultaneous arrivals form a group."""
    defaults: dict[str, Any] = {
        "synchronization": Asynchronous(0.0),
        "shard_choice": FixedShard(),
        "steps": [1] * model.workers,
        "shards": model.workers,
    }
    return Timeline(model, TimelineConfig(**(defaults | config)))


def events(model: ClusterModel, **config: Any) -> list[Event]:
    return list(timeline(model, **config))


def rounds(history: Sequence[Event]) -> list[Round]:
    """In order of dispatch."""
    return [event.round for event in history if isinstance(event, Dispatched)]


def updates(history: Sequence[Event]) -> list[Update]:
    return [event for event in history if isinstance(event, Update)]


def arrivals(history: Sequence[Event]) -> list[Arrival]:
    """In the order in which the server processed them."""
    return [arrival for update in updates(history) for arrival in update.arrivals]


def times_s(arrival: Arrival) -> tuple[float, ...]:
    """When it was ready, began to pull, to compute and to push, and arrived, in seconds."""
    return tuple(seconds(time_ns) for time_ns in arrival[1:6])


def evaluations(history: Sequence[Event]) -> list[Evaluation]:
    return [event for event in history if isinstance(event, Evaluation)]


def starts(history: Sequence[Event]) -> list[tuple[float, list[int]]]:
    """The groups that start together: their time and the workers in order of dispatch."""
    groups = groupby(history, key=lambda event: (event.time_ns, isinstance(event, Dispatched)))
    return [
        (seconds(time_ns), [event.round.worker for event in group]) for (time_ns, started), group in groups if started
    ]


def log(history: Sequence[Event]) -> list[tuple[float, str]]:
    """What happened when: "start 0 1", "applied 0 1 -> v1", "lost 0", "cut 0 to 3", "evaluate v1", "finish"."""
    lines: list[tuple[float, str]] = []
    for event in history:
        time_s = seconds(event.time_ns)
        match event:
            case Dispatched(round=task):
                if lines and lines[-1][0] == time_s and lines[-1][1].startswith("start"):
                    lines[-1] = (time_s, f"{lines[-1][1]} {task.worker}")
                else:
                    lines.append((time_s, f"start {task.worker}"))
            case Update():
                workers = " ".join(str(arrival.round.worker) for arrival in event.arrivals)
                lines.append((time_s, f"{event.outcome} {workers} -> v{event.version}"))
            case Evaluation():
                lines.append((time_s, f"evaluate v{event.version}"))
            case Fault():
                lines.append((time_s, f"{event.kind} {event.worker}"))
            case Lost():
                lines.append((time_s, f"lost {event.round.worker}"))
            case Shortened():
                lines.append((time_s, f"cut {event.round.worker} to {event.round.steps}"))
            case Finished():
                lines.append((time_s, "finish"))
    return lines
