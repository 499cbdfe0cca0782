"""Times at which the simulation ends and evaluates."""

import pytest

from simulator.cluster import nanoseconds, seconds
from simulator.timeline import Barrier
from simulator.timeline.policies.norm_test import NormTest
from tests.timeline.builders import cluster, evaluations, events, link, log, timeline, updates


def test_local_steps_end_the_simulation_with_the_update_that_reaches_them():
    history = events(cluster([1.0, 1.5]), steps=[4, 4], budget_local_steps=9)
    assert [update.local_steps for update in updates(history)] == [4, 8, 12]
    assert log(history)[-3:] == [(8.0, "applied 0 -> v3"), (8.0, "evaluate v3"), (8.0, "finish")]


def test_server_updates_end_the_simulation():
    history = events(cluster([1.0, 1.5]), budget_updates=3)
    assert log(history)[-3:] == [(2.0, "applied 0 -> v3"), (2.0, "evaluate v3"), (2.0, "finish")]


def test_tokens_end_the_simulation_with_the_update_that_reaches_them():
    budget = {"budget_tokens": 30, "tokens_per_step": 5, "micro_batches": NormTest(start=2)}
    history = events(cluster([1.0]), **budget)  # ten tokens a step
    assert log(history)[-1] == (6.0, "finish")  # two micro-batches take twice as long
    assert updates(history)[-1].local_steps == 3


def test_rounds_that_have_arrived_end_the_simulation():
    history = events(cluster([1.0, 3.0]), budget_offers=8)  # at 1, 2, 3, 3, 4, 5, 6 and 6 s
    assert log(history)[-1] == (6.0, "finish")
    assert sum(len(update.arrivals) for update in updates(history)) == 8


def test_time_ends_the_simulation_between_two_arrivals():
    history = events(cluster([1.0]), budget_s=2.5)
    assert log(history) == [
        (0.0, "evaluate v0"),
        (0.0, "start 0"),
        (1.0, "applied 0 -> v1"),
        (1.0, "start 0"),
        (2.0, "applied 0 -> v2"),
        (2.0, "start 0"),
        (2.5, "evaluate v2"),
        (2.5, "finish"),
    ]


def test_the_clock_stops_exactly_at_the_end_of_the_time():
    pulled_s, budget_s = 1.1, 5.605346331
    each = timeline(cluster([100.0], down=link(1, pulled_s)), budget_s=budget_s)
    history = list(each)
    assert history[-1].time_ns == evaluations(history)[-1].time_ns == 5_605_346_331
    assert each.now_s == budget_s


def test_what_happens_at_the_very_end_of_the_time_still_counts():
    history = events(cluster([1.0]), budget_s=2.0)
    assert log(history)[-4:] == [
        (2.0, "applied 0 -> v2"),
        (2.0, "start 0"),
        (2.0, "evaluate v2"),
        (2.0, "finish"),
    ]


def test_an_update_that_the_server_has_not_finished_in_time_does_not_count():
    history = events(cluster([1.0], server_update_s=1.0), budget_s=1.5)
    assert updates(history) == []
    assert log(history)[-1] == (1.5, "finish")


@pytest.mark.parametrize(
    ("budget", "end_s"),
    [
        ({"budget_local_steps": 3, "budget_s": 9.0, "budget_updates": 9}, 3.0),
        ({"budget_local_steps": 9, "budget_s": 4.0, "budget_updates": 9}, 4.0),
        ({"budget_local_steps": 9, "budget_s": 9.0, "budget_updates": 5}, 5.0),
        ({"budget_local_steps": 9, "budget_tokens": 7, "budget_offers": 8}, 7.0),
        ({"budget_local_steps": 9, "budget_tokens": 8, "budget_offers": 6}, 6.0),
    ],
)
def test_the_first_budget_that_is_used_up_ends_the_simulation(budget: dict[str, float], end_s: float):
    assert events(cluster([1.0]), **budget)[-1].time_ns == nanoseconds(end_s)


def test_a_timeline_without_a_budget_is_refused():
    with pytest.raises(ValueError, match="without a budget"):
        timeline(cluster([1.0]))


def test_steps_for_another_number_of_workers_are_refused():
    with pytest.raises(ValueError, match="steps for 3 workers in a cluster of 2"):
        timeline(cluster([1.0, 1.0]), steps=[1, 1, 1], budget_s=1.0)


def test_a_jump_over_several_multiples_of_local_steps_is_one_evaluation():
    history = events(
        cluster([1.0] * 4), synchronization=Barrier(), steps=[20] * 4, evaluate_every_steps=30, budget_local_steps=320
    )
    assert [each.local_steps for each in evaluations(history)] == [0, 80, 160, 240, 320]


def test_local_steps_are_evaluated_at_the_first_update_past_each_multiple():
    history = events(cluster([1.0]), steps=[4], evaluate_every_steps=10, budget_local_steps=44)
    assert [each.local_steps for each in evaluations(history)] == [0, 12, 20, 32, 40, 44]


def test_after_a_jump_the_next_evaluation_is_at_the_next_multiple():
    history = events(cluster([0.125, 4.5]), steps=[35, 1], evaluate_every_steps=10, budget_local_steps=110)
    assert [update.local_steps for update in updates(history)] == [35, 36, 71, 72, 107, 108, 143]
    assert [each.local_steps for each in evaluations(history)] == [0, 35, 71, 107, 143]


def test_evaluations_by_time_come_at_exact_multiples():
    history = events(cluster([7.0]), evaluate_every_s=0.1, budget_s=100.05)
    times_ns = [each.time_ns for each in evaluations(history)]
    assert times_ns == [count * 100_000_000 for count in range(1001)] + [100_050_000_000]
    assert sum([0.1] * 1000) != 1000 * 0.1  # a clock that adds up would have drifted


def test_an_evaluation_by_time_waits_for_a_busy_server_and_those_it_missed_are_one():
    model = cluster([1.0], server_update_s=5.0)
    history = events(model, evaluate_every_s=2.0, evaluation_s=0.5, budget_updates=2)
    assert log(history) == [
        (0.0, "evaluate v0"),
        (0.5, "start 0"),
        (6.5, "applied 0 -> v1"),  # busy since 1.5: the evaluations at 2, 4 and 6 were missed
        (6.5, "evaluate v1"),
        (7.0, "start 0"),
        (8.0, "evaluate v1"),
        (13.5, "applied 0 -> v2"),  # arrived at 8, taken at 8.5
        (13.5, "evaluate v2"),
        (13.5, "finish"),
    ]


def test_the_end_is_evaluated_although_there_was_an_evaluation_at_the_same_time_before_the_last_update():
    history = events(cluster([1.0]), evaluate_every_s=1.0, budget_updates=1)
    assert log(history) == [
        (0.0, "evaluate v0"),
        (0.0, "start 0"),
        (1.0, "evaluate v0"),
        (1.0, "applied 0 -> v1"),
        (1.0, "evaluate v1"),
        (1.0, "finish"),
    ]


def test_the_same_state_at_the_same_time_is_evaluated_once():
    history = events(cluster([2.0]), evaluate_every_steps=1, evaluate_every_s=1.0, budget_s=4.0)
    points = [(seconds(each.time_ns), each.version) for each in evaluations(history)]
    assert len(points) == len(set(points))
    assert points == [(0.0, 0), (1.0, 0), (2.0, 0), (2.0, 1), (3.0, 1), (4.0, 1), (4.0, 2)]


@pytest.mark.parametrize("evaluation_s", [1.0, 3.0])
def test_evaluations_that_would_leave_the_server_no_time_are_refused(evaluation_s: float):
    with pytest.raises(ValueError, match=f"an evaluation of {evaluation_s} s every 1.0 s"):
        timeline(cluster([1.0]), evaluate_every_s=1.0, evaluation_s=evaluation_s, budget_updates=1)
