"""The clock of the authors' toy notebook (google-deepmind/asyncdiloco)."""

import statistics
from functools import cache

import pytest

from simulator.timeline import Asynchronous, Barrier, Event, Finished, LeastVisited, Synchronization
from tests.timeline.builders import AUTHORS_STEP_S, arrivals, cluster, evaluations, events, updates


@cache
def toy(synchronization: Synchronization, phases: int) -> list[Event]:
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
    assert [(each.local_steps, round(each.time_s, 1)) for each in history] == [
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


@pytest.mark.parametrize(
    ("worker", "count", "mean", "largest"),
    [(0, 172, "1.20", 3), (1, 132, "1.47", 3), (2, 66, "5.03", 6), (3, 30, "12.27", 14)],
)
def test_staleness_of_each_worker_is_the_authors(worker: int, count: int, mean: str, largest: int):
    staleness = [
        update.staleness[0]
        for update in updates(toy(Asynchronous(0.5), 100))
        if update.arrivals[0].round.worker == worker
    ]
    assert (len(staleness), f"{statistics.mean(staleness):.2f}", max(staleness)) == (count, mean, largest)


def test_100_phases_are_400_server_updates():
    assert toy(Asynchronous(0.5), 100)[-1].version == 400


def test_400_phases_end_at_the_authors_time():
    last = toy(Asynchronous(0.5), 400)[-1]
    assert isinstance(last, Finished)
    assert (round(last.time_s, 1), last.local_steps) == (7991.2, 32_000)


def test_a_synchronous_round_lasts_as_long_as_the_slowest_worker():
    history = updates(toy(Barrier(), 400))
    assert [update.time_s for update in history] == pytest.approx([66.6 * (phase + 1) for phase in range(400)])
    assert {update.staleness for update in history} == {(0, 0, 0, 0)}
