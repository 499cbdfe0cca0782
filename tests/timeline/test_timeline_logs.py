"""Small clusters worked out by hand: what happens when."""

import pytest

from simulator.cluster import build_cluster, seconds
from simulator.experiment.schema.cluster import Cluster
from simulator.timeline import Asynchronous, Barrier
from tests.timeline.builders import arrivals, cluster, events, link, log, starts, times_s, updates


def test_barrier_waits_for_latency_transmission_and_the_slowest():
    described = Cluster.model_validate(
        {
            "devices": {"seconds_per_step": [1, 2]},
            "network": {"latency": "500ms", "bandwidth": "1kB/s"},  # 250 parameters of 4 bytes: 1.5 s each way
        }
    )
    model = build_cluster(described, parameters=250, flops_per_step=1.0, seed=0)
    history = events(model, synchronization=Barrier(), steps=[2, 2], budget_updates=2)
    assert log(history) == [
        (0.0, "evaluate v0"),
        (0.0, "start 0 1"),
        (7.0, "applied 0 1 -> v1"),
        (7.0, "start 0 1"),
        (14.0, "applied 0 1 -> v2"),
        (14.0, "evaluate v2"),
        (14.0, "finish"),
    ]
    phases = [times_s(arrival) for arrival in arrivals(history)]
    assert phases == [
        (0.0, 0.0, 1.5, 3.5, 5.0),
        (0.0, 0.0, 1.5, 5.5, 7.0),
        (5.0, 7.0, 8.5, 10.5, 12.0),
        (7.0, 7.0, 8.5, 12.5, 14.0),
    ]


def test_each_direction_and_worker_has_its_own_link():
    model = cluster([1.0, 1.0], down=link(2, [0.5, 2.0]), up=link(2, [4.0, 0.25], [0.0, 0.5]))
    history = events(model, synchronization=Barrier(), budget_updates=1)
    assert [times_s(arrival)[1:] for arrival in arrivals(history)] == [(0.0, 2.0, 3.0, 3.75), (0.0, 0.5, 1.5, 5.5)]


def test_who_arrives_at_the_very_end_of_the_window_joins_the_group():
    history = events(cluster([1.0, 1.5]), synchronization=Asynchronous(0.5), budget_updates=4)
    assert log(history) == [
        (0.0, "evaluate v0"),
        (0.0, "start 0 1"),
        (1.0, "applied 0 -> v1"),
        (1.5, "applied 1 -> v2"),
        (1.5, "start 0 1"),
        (2.5, "applied 0 -> v3"),
        (3.0, "applied 1 -> v4"),
        (3.0, "evaluate v4"),
        (3.0, "finish"),
    ]
    assert [update.staleness for update in updates(history)] == [(0,), (1,), (0,), (1,)]


def test_who_just_misses_the_window_starts_alone():
    history = events(cluster([1.0, 1.5]), synchronization=Asynchronous(0.499_999_999), budget_updates=4)
    assert log(history) == [
        (0.0, "evaluate v0"),
        (0.0, "start 0 1"),
        (1.0, "applied 0 -> v1"),
        (1.0, "start 0"),
        (1.5, "applied 1 -> v2"),
        (1.5, "start 1"),
        (2.0, "applied 0 -> v3"),
        (2.0, "start 0"),
        (3.0, "applied 1 -> v4"),
        (3.0, "evaluate v4"),
        (3.0, "finish"),
    ]
    assert [update.staleness for update in updates(history)] == [(0,), (1,), (1,), (1,)]


def test_the_empty_rest_of_a_window_costs_no_time():
    history = events(cluster([1.0, 2.0, 100.0]), synchronization=Asynchronous(10.0), budget_updates=5)
    assert starts(history) == [(0.0, [0, 1, 2]), (2.0, [0, 1]), (4.0, [0, 1])]


def test_the_window_counts_from_the_groups_first_arrival():
    # 1.0, 1.75 and 2.5 are each within 0.8 of the one before, but 2.5 is not of the first.
    history = events(cluster([1.0, 1.75, 2.5]), synchronization=Asynchronous(0.8), budget_updates=3)
    assert starts(history) == [(0.0, [0, 1, 2]), (1.75, [0, 1])]


def test_simultaneous_arrivals_are_processed_in_order_of_dispatch():
    history = events(cluster([1.0, 2.0, 4.0]), budget_updates=7)
    assert [(seconds(update.time_ns), update.arrivals[0].round.worker) for update in updates(history)] == [
        (1.0, 0),
        (2.0, 1),  # started at 0, the other at 1
        (2.0, 0),
        (3.0, 0),
        (4.0, 2),  # started at 0, the others at 2 and 3
        (4.0, 1),
        (4.0, 0),
    ]
    assert starts(history) == [(0.0, [0, 1, 2]), (1.0, [0]), (2.0, [1, 0]), (3.0, [0])]


def test_arrivals_queue_at_a_server_that_takes_time():
    history = events(cluster([1.0, 1.0, 1.0], server_update_s=1.0), budget_updates=4)
    assert log(history) == [
        (0.0, "evaluate v0"),
        (0.0, "start 0 1 2"),
        (2.0, "applied 0 -> v1"),
        (3.0, "applied 1 -> v2"),
        (4.0, "applied 2 -> v3"),
        (4.0, "start 0 1 2"),
        (6.0, "applied 0 -> v4"),
        (6.0, "evaluate v4"),
        (6.0, "finish"),
    ]
    assert [update.staleness for update in updates(history)] == [(0,), (1,), (2,), (0,)]
    assert [seconds(arrival.arrival_ns) for arrival in arrivals(history)] == [1.0, 1.0, 1.0, 5.0]


def test_behind_a_barrier_the_server_takes_its_time_once():
    history = events(cluster([1.0, 2.0], server_update_s=1.0), synchronization=Barrier(), budget_updates=2)
    assert [seconds(update.time_ns) for update in updates(history)] == [3.0, 6.0]


def test_the_window_is_compared_with_arrivals_not_with_when_the_busy_server_takes_them():
    model = cluster([1.0, 1.5, 2.5], server_update_s=1.0)
    history = events(model, synchronization=Asynchronous(0.5), budget_updates=3)
    assert log(history) == [
        (0.0, "evaluate v0"),
        (0.0, "start 0 1 2"),
        (2.0, "applied 0 -> v1"),
        (3.0, "applied 1 -> v2"),  # arrived at 1.5
        (3.0, "start 0 1"),  # the third, here since 2.5, is too late for them
        (4.0, "applied 2 -> v3"),
        (4.0, "evaluate v3"),
        (4.0, "finish"),
    ]


def test_an_evaluation_that_takes_time_keeps_the_server_from_arrivals():
    history = events(cluster([1.0, 1.5]), evaluation_s=2.0, evaluate_every_steps=1, budget_updates=2)
    assert log(history) == [
        (0.0, "evaluate v0"),
        (2.0, "start 0 1"),
        (3.0, "applied 0 -> v1"),
        (3.0, "evaluate v1"),
        (5.0, "start 0"),
        (5.0, "applied 1 -> v2"),  # arrived at 3.5
        (5.0, "evaluate v2"),
        (5.0, "finish"),
    ]


def test_simultaneous_pushes_pass_a_shared_link_one_after_another():
    model = cluster([1.0, 1.0, 1.0], up=link(3, shared_s=2.0))
    history = events(model, synchronization=Barrier(), budget_updates=2)
    expected = [(0, 3.0), (1, 5.0), (2, 7.0), (0, 10.0), (1, 12.0), (2, 14.0)]
    assert [(arrival.round.worker, seconds(arrival.arrival_ns)) for arrival in arrivals(history)] == expected
    assert [seconds(arrival.push_start_ns) for arrival in arrivals(history)] == [1.0] * 3 + [8.0] * 3


def test_a_shared_link_serves_whoever_asked_first():
    model = cluster([2.0, 1.0, 1.5], up=link(3, shared_s=4.0))
    history = events(model, synchronization=Barrier(), budget_updates=1)
    order = [(arrival.round.worker, seconds(arrival.arrival_ns)) for arrival in arrivals(history)]
    assert order == [(1, 5.0), (2, 9.0), (0, 13.0)]


def test_a_workers_own_slow_link_and_latency_hold_up_no_one_else():
    model = cluster([1.0, 1.0], up=link(2, [0.5, 0.0], [8.0, 0.0], shared_s=2.0))
    history = events(model, synchronization=Barrier(), budget_updates=1)
    # Worker 0 leaves the shared link at 3 and its own 6 s and the latency later; worker 1 follows at 3.
    order = [(arrival.round.worker, seconds(arrival.arrival_ns)) for arrival in arrivals(history)]
    assert order == [(1, 5.0), (0, 9.5)]


def test_the_directions_of_a_shared_link_are_independent():
    model = cluster([1.0, 1.0], down=link(2, shared_s=2.0), up=link(2, shared_s=2.0))
    history = events(model, synchronization=Barrier(), budget_updates=1)
    # Worker 0 pushes from 3 to 5 while worker 1 pulls from 2 to 4.
    assert [times_s(arrival)[1:] for arrival in arrivals(history)] == [(0.0, 2.0, 3.0, 5.0), (0.0, 4.0, 5.0, 7.0)]


@pytest.mark.parametrize("grace_s", [15.0, 1000.0])
def test_a_group_does_not_wait_for_a_worker_whose_queued_pull_makes_it_miss_the_window(grace_s: float):
    model = cluster([1.0, 1.0, 1.0], down=link(3, shared_s=10.0))
    history = events(model, synchronization=Asynchronous(grace_s), budget_updates=3)
    assert [seconds(arrival.arrival_ns) for arrival in arrivals(history)] == [11.0, 21.0, 31.0]
    assert starts(history)[1:] == ([(21.0, [0, 1])] if grace_s == 15.0 else [])


def test_a_group_stops_waiting_when_a_push_is_seen_to_queue_beyond_the_window():
    # Worker 1 would arrive at 22, but from 11.5 worker 2 has the link: from 12 it is known that it will be 31.5.
    model = cluster([1.0, 12.0, 11.5], up=link(3, [0.0, 0.0, 20.0], shared_s=10.0))
    history = events(model, synchronization=Asynchronous(15.0), budget_updates=4)
    assert starts(history)[:2] == [(0.0, [0, 1, 2]), (12.0, [0])]
    order = [(arrival.round.worker, seconds(arrival.arrival_ns)) for arrival in arrivals(history)]
    assert order == [(0, 11.0), (1, 31.5), (2, 41.5), (0, 41.5)]
