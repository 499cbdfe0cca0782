"""The clock of the authors' toy notebook (google-deepmind/asyncdiloco).

Its times, updates and first arrivals are the authors' to the digit. Rounds of 11.6, 15, 30.2 and 66.6 s often end at
the same moment; the authors add up floats, whose rounding then decides who is first, and here it is who was sent off
first. That moves the mean staleness of three workers by up to 0.05, and nothing else.
"""

import statistics
from collections import defaultdict
from collections.abc import Iterable
from functools import cache

import pytest

from simulator.cluster import seconds
from simulator.timeline import Asynchronous, Barrier, Event, Finished, LeastVisited, SynchronizationPolicy
from tests.timeline.algorithm_2 import algorithm_2
from tests.timeline.builders import AUTHORS_STEP_S, arrivals, cluster, evaluations, events, updates


@cache
def toy(synchronization: SynchronizationPolicy, phases: int) -> list[Event]:
    return events(
        cluster(AUTHORS_STEP_S),
        synchronization=synchronization,
        shard_choice=LeastVisited(),
        steps=[20] * 4,
        budget_local_steps=80 * phases,
        evaluate_every_steps=800,
    )


def test_evaluations_of_100_phases_come_at_the_authors_times():
    history = evaluations(toy(Asynchronous(0.5), 100))
    assert [(each.local_steps, round(seconds(each.time_ns), 1)) for each in history] == [
        (0, 0.0),
        (800, 209.0),
        (1600, 406.4),
        (2400, 603.8),
        (3200, 801.4),
        (4000, 999.0),
        (4800, 1207.8),
        (5600, 1404.2),
        (6400, 1600.6),
        (7200, 1800.2),
        (8000, 1998.6),
    ]


def test_first_arrivals_come_in_the_authors_order():
    order = [arrival.round.worker for arrival in arrivals(toy(Asynchronous(0.5), 100))]
    assert order[:20] == [0, 1, 0, 1, 2, 0, 1, 0, 0, 1, 2, 3, 0, 1, 0, 1, 2, 0, 0, 1]


def of_each_worker(arrived: Iterable[tuple[int, int]]) -> list[tuple[int, str, int]]:
    """Of (worker, staleness) of each arrival: how many each worker has, and the mean and largest staleness."""
    staleness: dict[int, list[int]] = defaultdict(list)
    for worker, stale in arrived:
        staleness[worker].append(stale)
    return [(len(each), f"{statistics.mean(each):.2f}", max(each)) for _, each in sorted(staleness.items())]


def test_updates_and_largest_staleness_of_each_worker_are_the_authors():
    history = updates(toy(Asynchronous(0.5), 100))
    mine = of_each_worker((update.arrivals[0].round.worker, update.staleness[0]) for update in history)
    assert mine == [(172, "1.24", 3), (132, "1.42", 3), (66, "5.02", 6), (30, "12.27", 14)]


def test_with_times_that_are_floats_the_mean_staleness_of_each_worker_is_the_authors():
    floats = algorithm_2(list(AUTHORS_STEP_S), [20] * 4, 0.5, 8000, duration=float)
    authors = of_each_worker((worker, stale) for _, worker, stale, _ in floats.arrivals)
    assert authors == [(172, "1.20", 3), (132, "1.47", 3), (66, "5.03", 6), (30, "12.27", 14)]
    whole = algorithm_2(list(AUTHORS_STEP_S), [20] * 4, 0.5, 8000)
    assert sorted(seconds(time) for time, *_ in whole.arrivals) == pytest.approx([time for time, *_ in floats.arrivals])


def test_100_phases_are_400_server_updates():
    assert toy(Asynchronous(0.5), 100)[-1].version == 400


def test_400_phases_end_at_the_authors_time():
    last = toy(Asynchronous(0.5), 400)[-1]
    assert isinstance(last, Finished)
    assert (round(seconds(last.time_ns), 1), last.local_steps) == (7991.2, 32_000)


def test_a_synchronous_round_lasts_as_long_as_the_slowest_worker():
    history = updates(toy(Barrier(), 400))
    assert [seconds(update.time_ns) for update in history] == pytest.approx(
        [66.6 * (phase + 1) for phase in range(400)]
    )
    assert {update.staleness for update in history} == {(0, 0, 0, 0)}
