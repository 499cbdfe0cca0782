"""Buffered and dropped arrivals, counted by hand."""

from simulator.cluster import seconds
from simulator.timeline import Event
from tests.timeline.builders import cluster, events, updates


def counted(history: list[Event]) -> list[tuple[float, int, int, str, int]]:
    """Time, worker, staleness, outcome and the version afterwards of each arrival."""
    return [
        (seconds(update.time_ns), update.arrivals[0].round.worker, update.staleness[0], update.outcome, update.version)
        for update in updates(history)
    ]


def test_every_second_arrival_makes_a_version():
    history = events(cluster([1.0, 2.0, 4.0]), arrivals_per_update=2, budget_updates=4)
    assert counted(history) == [
        (1.0, 0, 0, "buffered", 0),
        (2.0, 1, 0, "applied", 1),
        (2.0, 0, 1, "buffered", 1),  # pulled version 0 at 1
        (3.0, 0, 0, "applied", 2),  # pulled version 1 at 2: what is only buffered makes nobody stale
        (4.0, 2, 2, "buffered", 2),
        (4.0, 1, 1, "applied", 3),
        (4.0, 0, 1, "buffered", 3),
        (5.0, 0, 0, "applied", 4),
    ]


def test_arrivals_staler_than_the_threshold_make_no_version():
    history = events(cluster([1.0, 3.0]), steps=[1, 1], drop_above=1, budget_updates=5)
    assert counted(history) == [
        (1.0, 0, 0, "applied", 1),
        (2.0, 0, 0, "applied", 2),
        (3.0, 1, 2, "dropped", 2),
        (3.0, 0, 0, "applied", 3),
        (4.0, 0, 0, "applied", 4),
        (5.0, 0, 0, "applied", 5),
    ]
    assert updates(history)[-1].local_steps == 6  # the dropped round's step was taken too


def test_an_arrival_as_stale_as_the_threshold_is_kept():
    history = events(cluster([1.0, 3.0]), drop_above=2, budget_updates=3)
    assert counted(history)[2] == (3.0, 1, 2, "applied", 3)


def test_the_server_takes_its_time_for_what_it_applies():
    model = cluster([1.0], server_update_s=0.5)
    history = events(model, arrivals_per_update=2, budget_updates=2)
    assert [(time_s, outcome) for time_s, _, _, outcome, _ in counted(history)] == [
        (1.0, "buffered"),
        (2.5, "applied"),
        (3.5, "buffered"),
        (5.0, "applied"),
    ]


def test_a_dropped_arrival_fills_no_place_in_the_buffer():
    history = events(cluster([1.0, 4.0]), arrivals_per_update=2, drop_above=0, budget_updates=3)
    assert counted(history) == [
        (1.0, 0, 0, "buffered", 0),
        (2.0, 0, 0, "applied", 1),
        (3.0, 0, 0, "buffered", 1),
        (4.0, 1, 1, "dropped", 1),
        (4.0, 0, 0, "applied", 2),
        (5.0, 0, 0, "buffered", 2),
        (6.0, 0, 0, "applied", 3),
    ]
