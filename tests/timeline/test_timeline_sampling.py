"""Barriers whose members are drawn anew for each meeting, worked by hand."""

import math
from typing import Any

import pytest

from simulator.host.random_streams import numpy_stream
from simulator.timeline import Barrier, Event, NoProgressError, Regions, Update
from simulator.timeline.policies.sampling import sampled
from tests.timeline.builders import cluster, events, link, log, rounds, starts

STEP_S = [1.0, 2.0, 3.0, 5.0]  # rounds of 4, 8, 12 and 20 s
ORDERS = [[2, 3, 0, 1], [1, 3, 0, 2], [2, 3, 1, 0], [0, 3, 2, 1], [2, 3, 0, 1], [1, 0, 3, 2], [3, 1, 0, 2]]
"""Of the workers at each meeting, by the stream of seed 0: a meeting takes the first that are ready."""


def history(sample: int | None, timeout_s: float = math.inf, quorum: int = 1, **config: Any) -> list[Event]:
    faults = config.pop("faults", None)
    defaults = {"synchronization": Barrier(timeout_s, quorum, sample), "steps": [4] * 4, "budget_updates": 4}
    model = cluster(STEP_S, faults=None if faults is None else {"trace": faults})
    return events(model, **(defaults | config))


def met(events: list[Event], node: int = -1) -> list[tuple[float, list[int]]]:
    return [
        (each.time_ns / 1e9, [arrival.round.worker for arrival in each.arrivals])
        for each in events
        if isinstance(each, Update) and each.node == node and each.outcome == "applied"
    ]


def test_the_orders_of_the_stream_stay_as_they_are():
    drawn = [numpy_stream(0, "sampled workers", meeting).permutation(4).tolist() for meeting in range(7)]
    assert drawn == ORDERS
    assert [sampled(range(4), 2, 4, 0, meeting) for meeting in range(7)] == [{*order[:2]} for order in ORDERS]


def test_a_worker_that_is_not_ready_is_replaced_by_one_other():
    assert [sampled([0, 1, 3], 2, 4, 0, meeting) for meeting in range(4)] == [{3, 0}, {1, 3}, {3, 1}, {0, 3}]
    assert sampled([1], 2, 4, 0, 0) == {1}


def test_every_worker_is_drawn_as_often_as_any_other():
    times = [0] * 5
    for meeting in range(2000):
        for worker in sampled(range(5), 2, 5, 1, meeting):
            times[worker] += 1
    assert sum(times) == 4000
    assert all(abs(each - 800) < 4 * math.sqrt(2000 * 0.4 * 0.6) for each in times)


def test_a_meeting_waits_for_those_that_are_drawn_and_the_others_do_nothing():
    made = history(2)
    assert met(made) == [(20.0, [2, 3]), (40.0, [1, 3]), (60.0, [2, 3]), (80.0, [0, 3])]
    assert starts(made) == [(0.0, [2, 3]), (20.0, [1, 3]), (40.0, [2, 3]), (60.0, [0, 3])]
    first = [arrival for each in made if isinstance(each, Update) for arrival in each.arrivals][-2]
    assert (first.round.worker, first.ready_ns, first.pull_start_ns) == (0, 0, 60e9)  # it has waited since the start


@pytest.mark.parametrize("sample", [4, 9])
def test_a_sample_of_all_is_a_barrier_of_all(sample: int):
    assert history(sample) == history(None)
    assert history(2) != history(None)


def test_a_worker_that_is_away_is_not_drawn():
    """Worker 3 leaves while the first meeting waits for it, and is drawn again after it has come back."""
    made = history(2, faults=[[3, 15, "leave"], [3, 50, "join"]], budget_updates=7)
    assert met(made) == [
        (15.0, [2]),
        (23.0, [0, 1]),
        (35.0, [1, 2]),
        (47.0, [0, 2]),
        (59.0, [0, 2]),
        (67.0, [0, 1]),
        (87.0, [1, 3]),
    ]


def test_a_worker_that_has_crashed_does_its_round_again():
    made = history(2, faults=[[3, 15, "crash"], [3, 16, "join"]], budget_updates=1)
    assert met(made) == [(36.0, [2, 3])]


def test_who_comes_after_the_timeout_is_dropped_and_ready_again():
    made = history(2, timeout_s=15.0)
    assert met(made) == [(15.0, [2]), (23.0, [0, 1]), (38.0, [2]), (50.0, [0, 2])]
    assert (20.0, "dropped 3 -> v1") in log(made)
    assert [each.worker for each in rounds(made)] == [2, 3, 0, 1, 2, 3, 0, 2]


def test_a_meeting_whose_workers_are_all_gone_is_drawn_again_at_its_timeout():
    made = history(1, timeout_s=10.0, faults=[[2, 1, "crash"]], budget_updates=1)
    assert starts(made) == [(0.0, [2]), (10.0, [1])]
    assert met(made) == [(18.0, [1])]


def test_without_a_timeout_nobody_makes_progress_then():
    with pytest.raises(NoProgressError, match=r"waits for worker 2 \(crash at 1 s.*, and worker 0, worker 1, worker 3"):
        history(1, faults=[[2, 1, "crash"]])
    with pytest.raises(NoProgressError, match="a quorum that can be reached"):
        history(2, timeout_s=15.0, quorum=2, faults=[[3, 1, "crash"]])


def test_each_region_draws_of_its_own():
    model = cluster([1.0] * 4)
    model = type(model)(**{**vars(model), "regional": link(2)})
    config = {"synchronization": Barrier(sample=1), "steps": [4] * 4, "budget_updates": 4}
    made = events(model, regions=Regions((0, 0, 1, 1), 10), **config)
    assert [met(made, node) for node in (-2, -3)] == [[(4.0, [0]), (8.0, [1])], [(4.0, [2]), (8.0, [3])]]
