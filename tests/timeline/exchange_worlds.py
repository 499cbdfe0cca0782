"""Random worlds in which sends overlap training, fragments take turns, or there are many servers, or none."""

import collections
import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from simulator.cluster import ClusterModel, Collective, FaultModel, Link, LinkCost, MessageShares
from simulator.experiment.schema.faults import Faults
from simulator.timeline import (
    Accepted,
    Answered,
    Arrival,
    Asynchronous,
    Barrier,
    Dispatched,
    Event,
    FixedShard,
    Lost,
    Offered,
    Quorum,
    Regions,
    Schedule,
    Shortened,
    Timeline,
    TimelineConfig,
    Update,
)
from simulator.timeline.policies.window import AdaptiveWindow
from simulator.timeline.topology import graph, groups_of
from tests.faulty import faults as any_faults

durations_s = st.sampled_from([0.0, 0.1, 0.25, 1.0, 7.0])


class World(NamedTuple):
    model: ClusterModel
    config: TimelineConfig

    def timeline(self) -> Timeline:
        return Timeline(self.model, self.config)


def growing(offer: int, local_steps: int) -> int:
    """Rounds of 1, 2, 3 ... H local steps."""
    return min(1 + offer, local_steps)


@st.composite
def links(draw: st.DrawFn, count: int, shared: bool) -> Link:
    latency_s, transmission_s = (np.array(draw(st.lists(durations_s, min_size=count, max_size=count))) for _ in "lt")
    return Link(1000, latency_s, transmission_s, draw(st.sampled_from([0.1, 1.0])) if shared else None)


@st.composite
def clusters(draw: st.DrawFn, workers: int, regions: int, faulty: bool, without_server: bool) -> ClusterModel:
    step_s = draw(st.lists(st.sampled_from([0.1, 0.5, 0.5, 1.0, 3.0]), min_size=workers, max_size=workers))
    section = draw(any_faults(workers)) if faulty else None
    if section and without_server:
        section = section | {"trace": [row for row in section.get("trace", ()) if row[0] != "server"]}
        section = {key: value for key, value in section.items() if key not in ("server_outages", "message_loss")}
    return ClusterModel(
        np.array(step_s),
        draw(st.sampled_from([0.0, 0.0, 0.3])),
        draw(links(workers, draw(st.booleans()))),
        draw(links(workers, draw(st.booleans()))),
        draw(st.sampled_from([0.0, 0.0, 0.5])),
        draw(st.integers(0, 5)),
        None if section is None else FaultModel(Faults.model_validate(section), 0),
        draw(links(regions, False)) if regions else None,
    )


@st.composite
def with_collective(draw: st.DrawFn, model: ClusterModel) -> ClusterModel:
    """The cluster without what its server has, whose workers all-reduce."""
    algorithm = draw(st.sampled_from(["ring", "tree", "star", "hierarchical", "bound"]))
    groups = tuple(draw(st.lists(st.integers(0, 1), min_size=model.workers, max_size=model.workers)))
    down, up = (dataclasses.replace(link, shared_s=None) for link in (model.down, model.up))
    collective = Collective(algorithm, up.costs, down.costs, groups, LinkCost(draw(durations_s), 0.001))
    return dataclasses.replace(model, down=down, up=up, server_update_s=0.0, collective=collective)


@st.composite
def schedules(draw: st.DrawFn, steps: int) -> Schedule:
    if draw(st.integers(0, 5)) == 0:
        return Schedule(seconds=draw(st.sampled_from([1.0, 2.5, 10.0])))
    offsets = draw(st.lists(st.integers(1, steps - 1), max_size=4, unique=True)) if steps > 1 else []
    return Schedule((0, *sorted(offsets)), draw(st.integers(0, steps)))


@st.composite
def worlds(draw: st.DrawFn, faulty: bool = True) -> World:
    """A world of any method."""
    workers, steps = draw(st.integers(1, 5)), draw(st.sampled_from([1, 2, 5, 12]))
    topology = draw(st.sampled_from(["server", "server", "regions", "pairs", "graph", "nobody", "all_reduce"]))
    of = tuple(draw(st.lists(st.integers(0, 2), min_size=workers, max_size=workers)))
    of = tuple(sorted(set(of)).index(region) for region in of)
    regions = Regions(of, draw(st.integers(1, 4))) if topology == "regions" else None
    peers = {
        "pairs": groups_of(workers, 2, seed=3),
        "graph": graph(workers, tuple((a, (a + 1) % workers) for a in range(workers) if workers > 1)),
        "nobody": groups_of(workers, 1, seed=0),
    }.get(topology)
    collects = topology == "all_reduce"
    model = draw(clusters(workers, regions.count if regions else 0, faulty, peers is not None or collects))
    if collects:
        model = draw(with_collective(model))
    schedule = Schedule()
    if peers is None and draw(st.integers(0, 3)):
        schedule = draw(schedules(steps))
    if regions is not None:
        schedule = Schedule((0,), schedule.overlap, schedule.seconds)
    timeouts = st.sampled_from([math.inf, math.inf, 3.0, 30.0])
    alone = st.builds(Asynchronous, st.sampled_from([0.0, 0.5, 5.0, math.inf]))
    together = st.builds(Barrier, timeouts) | st.builds(Quorum, st.integers(1, workers), st.sampled_from([0.0, 1.0]))
    synchronization = draw(together if collects else together | alone)
    count = schedule.fragments
    if isinstance(synchronization, Quorum) and schedule.overlap and draw(st.booleans()):
        synchronization = dataclasses.replace(synchronization, adaptive=AdaptiveWindow(schedule.overlap))
    has_copy = peers is not None or regions is not None or draw(st.booleans())
    if isinstance(synchronization, Barrier) and schedule.waits and has_copy and not collects:
        synchronization = dataclasses.replace(synchronization, sample=draw(st.none() | st.integers(1, workers)))
    config = TimelineConfig(
        synchronization=Barrier() if peers is not None else synchronization,
        shard_choice=FixedShard(),
        steps=[steps] * workers,
        shards=workers,
        arrivals_per_update=1 if peers is not None or collects else draw(st.sampled_from([1, 1, 2])),
        budget_local_steps=draw(st.sampled_from([20, 100])) * workers,
        budget_s=200.0,
        evaluate_every_steps=draw(st.none() | st.integers(5, 30)),
        evaluate_every_s=draw(st.none() | st.sampled_from([0.5, 10.0])),
        schedule=schedule,
        interval=draw(st.sampled_from([None, growing])) if schedule.waits else None,
        regions=regions,
        peers=peers,
        shares=MessageShares((1 / count,) * count, (1 / count,) * count),
        merges=draw(st.booleans()),
        has_copy=has_copy,
    )
    return World(model, config)


def check_conservation(history: list[Event]) -> None:
    """Every offer is made once, processed once at each place, and answered and accepted no more than once."""
    given: dict[int, Any] = {}
    lost: set[int] = set()
    met: set[tuple[int, int]] = set()  # place's node and round
    answered: dict[tuple[int, int], int] = {}
    for event in history:
        match event:
            case Dispatched(round=round):
                assert round.id == len(given), "rounds are numbered in order"
                given[round.id] = round
            case Shortened(round=round):
                assert 0 < round.steps < given[round.id].steps
                given[round.id] = round
            case Lost(round=round):
                assert round.id not in lost
                assert all(known != round.id for _, known in met), "a round was processed and then lost"
                lost.add(round.id)
            case Update():
                for arrival, staleness in zip(event.arrivals, event.staleness, strict=True):
                    assert staleness >= 0
                    if isinstance(arrival, Arrival):
                        assert arrival.round == given[arrival.round.id]
                        assert arrival.round.id not in lost, "a lost round arrived"
                        assert (event.node, arrival.round.id) not in met, "an offer met twice"
                        assert arrival.round.fragment == event.fragment
                        met.add((event.node, arrival.round.id))
                        times = arrival[1:6]
                        assert list(times) == sorted(times)
                        assert times[-1] <= event.time_ns
                    else:
                        assert arrival.sent_ns <= arrival.arrival_ns <= event.time_ns
            case Answered():
                key = event.to, event.fragment
                answered[key] = answered.get(key, 0) + 1
            case Offered() | Accepted() if event.time_ns >= 0:
                if isinstance(event, Accepted):
                    assert event.sent_ns <= event.arrival_ns <= event.time_ns
                    if event.node >= 0:
                        answered[event.node, event.fragment] -= 1
                        assert answered[event.node, event.fragment] >= 0, "accepted before it was answered"


def check_interval(world: World, history: list[Event]) -> None:
    """The round before a worker's n-th offer has the n-th number of steps, whatever was lost before it."""
    interval, offers = world.config.interval, collections.Counter[int]()
    if interval is None:
        return
    for event in history:
        if isinstance(event, Lost):
            offers[event.round.worker] -= 1
        elif isinstance(event, Dispatched):
            worker = event.round.worker
            assert event.round.steps == interval(offers[worker], world.config.steps[worker])
            offers[worker] += 1


def check_barrier(world: World, history: list[Event]) -> None:
    """A meeting that averages has no two offers of one worker, and those of one turn."""
    policy = world.config.synchronization
    if not policy.averages_group or policy.keeps_late:
        return
    for event in history:
        if isinstance(event, Update) and event.outcome != "dropped" and len(event.arrivals) > 1:
            workers = [arrival.round.worker for arrival in event.arrivals if isinstance(arrival, Arrival)]
            assert len(workers) == len(set(workers))
            assert len({arrival.turn for arrival in event.arrivals if isinstance(arrival, Arrival)}) <= 1
