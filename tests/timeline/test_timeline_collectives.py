"""Meetings by collectives, with times worked by hand."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from simulator.cluster import ClusterModel, Collective, Link, MessageShares, seconds
from simulator.timeline import Accepted, Arrival, Barrier, Dispatched, Quorum, Schedule, Update
from tests.timeline.builders import cluster, events, log, times_s, updates


def ringed(step_s: list[float], latency_s: float, all_s: float, *, faults: Any = None) -> ClusterModel:
    """Workers whose links take `all_s` for the whole model, in a ring."""
    workers = len(step_s)
    link = Link(600, np.full(workers, latency_s), np.full(workers, all_s), None)
    model = cluster(step_s, up=link, down=link, faults=faults)
    return dataclasses.replace(model, collective=Collective("ring", link.costs, link.costs))


def test_data_parallel_in_a_ring_by_hand():
    """The last is ready at 2 s; 4 steps of 0.1 s + 3 s / 3 follow; then all begin again."""
    history = events(ringed([1.0, 1.0, 2.0], 0.1, 3.0), synchronization=Barrier(), budget_updates=3)
    assert [seconds(each.time_ns) for each in updates(history)] == pytest.approx([6.4, 12.8, 19.2])
    assert [seconds(each.since_ns) for each in updates(history)] == pytest.approx([2.0, 8.4, 14.8])
    first, second = (updates(history)[number].arrivals[0] for number in (0, 1))
    assert isinstance(first, Arrival)
    assert isinstance(second, Arrival)
    assert times_s(first) == (0, 0, 0, 1, 1)  # nothing is pulled, and its offer waits where it is
    assert times_s(second) == (1, 2, 6.4, 7.4, 7.4)  # it waits for the others, then for the ring
    assert [(first.pulls, first.pushes), (second.pulls, second.pushes)] == [(0, 0)] * 2


def test_fragments_share_one_network_first_come_first_served():
    """A step takes 1 s and the collective of one of two fragments 1.5 s; one is requested after every step."""
    model = ringed([1.0, 1.0], 0.0, 3.0)
    history = events(
        model,
        synchronization=Barrier(),
        steps=[2, 2],
        schedule=Schedule((0, 1), overlap=1),
        shares=MessageShares((0.5, 0.5), (0.5, 0.5)),
        budget_updates=5,
    )
    # Fragment 0 is offered after step 2, at 2 s; fragment 1 at 3 s, and waits for the network until 3.5 s. Answer 0 is
    # awaited after step 3, so step 4 is from 3.5 s to 4.5 s, and fragment 0 is offered anew; and so on.
    met = [(each.fragment, seconds(each.since_ns), seconds(each.time_ns)) for each in updates(history)]
    assert met == [(0, 2.0, 3.5), (1, 3.5, 5.0), (0, 5.0, 6.5), (1, 6.5, 8.0), (0, 8.0, 9.5)]
    accepted = [(seconds(each.time_ns), each.fragment) for each in history if isinstance(each, Accepted)]
    assert accepted == [(3.5, 0), (3.5, 0), (5.0, 1), (5.0, 1), (6.5, 0), (6.5, 0), (8.0, 1), (8.0, 1)]
    assert all(not each.messages for each in history if isinstance(each, Accepted))


def test_who_comes_back_does_its_round_again_with_a_copy():
    """The ring of two takes 1 s, and so does a copy."""
    trace = [[1, 0.5, "crash"], [1, 2, "join"], [1, 4.5, "crash"], [1, 6, "join"]]
    history = events(ringed([1.0, 1.0], 0.0, 1.0, faults={"trace": trace}), synchronization=Barrier(), budget_updates=2)
    assert [line for line in log(history) if "evaluate" not in line[1]] == [
        (0, "start 0 1"),
        (0.5, "lost 1"),
        (0.5, "crash 1"),
        (2, "return 1"),
        (2, "start 1"),  # with what all have from the start: nothing is sent
        (4, "applied 0 1 -> v1"),  # from 3 s on
        (4, "start 0 1"),
        (4.5, "lost 1"),
        (4.5, "crash 1"),
        (6, "return 1"),
        (6, "start 1"),
        (9, "applied 0 1 -> v2"),  # a copy until 7 s, a step until 8 s
        (9, "finish"),
    ]
    offers = [arrival for each in updates(history) for arrival in each.arrivals if isinstance(arrival, Arrival)]
    assert [arrival.pulls for arrival in offers] == [0, 0, 0, 1]


def test_a_member_fewer_is_a_shorter_ring():
    """One is away for good and says so: two halves for two workers, 2 steps of 1.5 s instead of 4 of 1 s."""
    trace = [[2, 0.5, "leave"]]
    model = ringed([1.0, 1.0, 1.0], 0.0, 3.0, faults={"trace": trace})
    history = updates(events(model, synchronization=Barrier(), budget_updates=2))
    assert [len(each.arrivals) for each in history] == [2, 2]
    assert [seconds(each.time_ns) for each in history] == [1 + 3, 1 + 3 + 1 + 3]


def test_a_quorum_meets_by_itself():
    """Two of three are ready at 1 s; the third has its own at 5 s with who is there by then."""
    model = ringed([1.0, 1.0, 5.0], 0.0, 2.0)
    history = updates(events(model, synchronization=Quorum(2), budget_updates=2))
    met = [(sorted(a.round.worker for a in each.arrivals), seconds(each.since_ns)) for each in history]  # type: ignore[union-attr]
    assert met == [([0, 1], 1.0), ([0, 1], 4.0)]


def test_one_worker_alone_waits_for_nothing():
    history = events(ringed([1.0], 5.0, 5.0), synchronization=Barrier(), budget_updates=3)
    assert [seconds(each.time_ns) for each in history if isinstance(each, Update)] == [1, 2, 3]
    assert [seconds(each.time_ns) for each in history if isinstance(each, Dispatched)][:3] == [0, 1, 2]
