"""Faults by hand: small clusters in which one thing goes wrong."""

from typing import Any

import pytest

from simulator.cluster import seconds
from simulator.timeline import Asynchronous, Barrier, Fault, Lost, MeasuredSpeed, NoProgressError, ServerView
from tests.timeline.builders import arrivals, cluster, events, link, log, rounds, times_s, updates

WAITS = Asynchronous(0.0)


def happens(step_s: list[float], *trace: list[Any], **changes: Any) -> list[tuple[float, str]]:
    """What happens in a cluster with a trace, evaluations left out."""
    config = {"budget_s": 40.0, "steps": [10] * len(step_s), "synchronization": Barrier()} | changes
    model = cluster(step_s, faults={"trace": list(trace)})
    return [line for line in log(events(model, **config)) if not line[1].startswith("evaluate")]


def test_a_crash_loses_the_round_and_a_barrier_waits_until_it_is_done_again():
    assert happens([1.0, 2.0], [1, 15, "crash"], [1, 17, "join"]) == [
        (0.0, "start 0 1"),
        (15.0, "lost 1"),
        (15.0, "crash 1"),
        (17.0, "return 1"),
        (17.0, "start 1"),
        (37.0, "applied 0 1 -> v1"),
        (37.0, "start 0 1"),
        (40.0, "finish"),
    ]


def test_without_a_barrier_nobody_waits_for_a_crash():
    assert happens([1.0, 2.0], [1, 15, "crash"], [1, 17, "join"], synchronization=WAITS, budget_s=30.0) == [
        (0.0, "start 0 1"),
        (10.0, "applied 0 -> v1"),
        (10.0, "start 0"),
        (15.0, "lost 1"),
        (15.0, "crash 1"),
        (17.0, "return 1"),
        (17.0, "start 1"),
        (20.0, "applied 0 -> v2"),
        (20.0, "start 0"),
        (30.0, "applied 0 -> v3"),
        (30.0, "start 0"),
        (30.0, "finish"),
    ]


def test_how_many_steps_a_lost_round_had_computed_is_told():
    model = cluster([1.0], faults={"trace": [[0, 7.5, "crash"], [0, 8, "join"]]})
    [lost] = [event for event in events(model, steps=[10], budget_updates=1) if isinstance(event, Lost)]
    assert (lost.cause, lost.computed, lost.round.steps, lost.pulls, lost.pushes) == ("crash", 7, 10, 1, 0)


def test_finished_steps_can_be_sent_after_the_repair():
    crashes = {"time_between": {"kind": "constant", "value": 7.5}, "repair": {"kind": "constant", "value": 2}}
    model = cluster([1.0], faults={"crashes": crashes | {"in_flight": "delivered"}}, up=link(1, 0.5))
    history = events(model, steps=[10], budget_updates=1)
    [arrival] = arrivals(history)
    assert arrival.round.steps == 7
    assert times_s(arrival)[1:] == (0.0, 0.0, 7.5, 10.0)
    assert [event.forgets for event in history if isinstance(event, Fault) and event.kind == "crash"] == [False]


def test_what_is_preempted_with_a_notice_sends_its_finished_steps_and_is_given_no_more():
    trace = [[0, 4.5, "notice"], [0, 6, "preempt"], [0, 9, "join"]]
    assert happens([1.0, 2.0], *trace, synchronization=WAITS, budget_s=20.0) == [
        (0.0, "start 0 1"),
        (4.5, "notice 0"),
        (4.5, "cut 0 to 4"),
        (4.5, "applied 0 -> v1"),
        (6.0, "preemption 0"),
        (9.0, "return 0"),
        (9.0, "start 0"),
        (19.0, "applied 0 -> v2"),
        (19.0, "start 0"),
        (20.0, "applied 1 -> v3"),
        (20.0, "start 1"),
        (20.0, "finish"),
    ]


def test_a_notice_that_is_too_short_for_the_message_loses_the_round():
    model = cluster([1.0], faults={"trace": [[0, 4, "notice"], [0, 6, "preempt"], [0, 9, "join"]]}, up=link(1, 3.0))
    history = events(model, steps=[10], budget_updates=1)
    [lost] = [event for event in history if isinstance(event, Lost)]
    assert (seconds(lost.time_ns), lost.cause, lost.computed, lost.pushes) == (6.0, "preemption", 4, 1)
    assert seconds(arrivals(history)[0].ready_ns) == 9.0


def test_a_barrier_goes_on_without_those_who_say_that_they_leave():
    assert happens([1.0, 2.0], [1, 15, "leave"], budget_s=28.0) == [
        (0.0, "start 0 1"),
        (15.0, "lost 1"),
        (15.0, "departure 1"),
        (15.0, "applied 0 -> v1"),
        (15.0, "start 0"),
        (25.0, "applied 0 -> v2"),
        (25.0, "start 0"),
        (28.0, "finish"),
    ]


def test_who_joins_later_starts_with_the_next_round():
    assert happens([1.0, 2.0], [1, 3, "join"], budget_s=32.0) == [
        (0.0, "late 1"),
        (0.0, "start 0"),
        (3.0, "return 1"),
        (10.0, "applied 0 -> v1"),
        (10.0, "start 1 0"),
        (30.0, "applied 0 1 -> v2"),
        (30.0, "start 0 1"),
        (32.0, "finish"),
    ]


def test_a_timeout_ends_a_round_and_who_comes_late_is_dropped():
    policy = Barrier(timeout_s=12.0, quorum=1)
    assert happens([1.0, 2.0], synchronization=policy, budget_s=33.0) == [
        (0.0, "start 0 1"),
        (12.0, "applied 0 -> v1"),
        (12.0, "start 0"),
        (20.0, "dropped 1 -> v1"),
        (22.0, "applied 0 -> v2"),
        (22.0, "start 1 0"),
        (33.0, "finish"),
    ]


def test_a_timeout_waits_for_a_quorum():
    lines = happens([1.0, 1.5, 4.0], synchronization=Barrier(timeout_s=5.0, quorum=2), budget_s=16.0)
    assert lines[1:3] == [(15.0, "applied 0 1 -> v1"), (15.0, "start 0 1")]


def test_a_barrier_with_a_timeout_survives_a_worker_that_never_comes_back():
    lines = happens([1.0, 1.0], [1, 5, "crash"], synchronization=Barrier(timeout_s=12.0, quorum=1), budget_s=25.0)
    assert lines[3:] == [
        (12.0, "applied 0 -> v1"),
        (12.0, "start 0"),
        (22.0, "applied 0 -> v2"),
        (22.0, "start 0"),
        (25.0, "finish"),
    ]


def test_a_lost_round_is_done_again_with_its_steps_and_one_that_is_cut_short_counts():
    """Rounds of 1, 2, 3 ... steps of a second."""
    growing = {"interval": lambda offer, local_steps: 1 + offer, "budget_s": 11.5}
    lost = cluster([1.0], faults={"trace": [[0, 2, "crash"], [0, 3, "join"]]})
    assert [task.steps for task in rounds(events(lost, steps=[10], **growing))] == [1, 2, 2, 3, 4]
    cut = cluster([1.0], faults={"trace": [[0, 2, "notice"], [0, 2.5, "preempt"], [0, 3, "join"]]})
    history = events(cut, steps=[10], **growing)
    assert [task.steps for task in rounds(history)] == [1, 2, 3, 4, 5]
    assert [arrival.round.steps for arrival in arrivals(history)] == [1, 1, 3, 4]


def test_workers_have_rounds_by_their_own_offers_and_their_own_number_of_steps():
    halves = {"interval": lambda offer, local_steps: max(local_steps >> offer, 1), "budget_s": 10.4}
    history = events(cluster([1.0, 0.5]), steps=[4, 8], **halves)
    steps = [[task.steps for task in rounds(history) if task.worker == worker] for worker in (0, 1)]
    assert steps == [[4, 2, 1, 1, 1, 1, 1], [8, 4, 2, 1, 1, 1, 1, 1, 1, 1]]


def test_a_slow_time_makes_the_steps_in_it_longer():
    model = cluster([1.0], faults={"trace": [[0, 4, "slow 3"], [0, 10, "normal"]]})
    [arrival] = arrivals(events(model, steps=[10], budget_updates=1))
    assert seconds(arrival.arrival_ns) == 14.0  # 4 steps, 2 in 6 s, 4 more


def test_transfers_wait_for_a_link_that_is_down():
    faults = {"trace": [[0, 1, "disconnect"], [0, 4, "reconnect"], [1, 0, "disconnect"], [1, 2, "reconnect"]]}
    model = cluster([1.0, 1.0], faults=faults, down=link(2, 2.0))
    first, second = arrivals(events(model, steps=[10, 10], budget_updates=2))
    assert (first.round.worker, seconds(first.compute_start_ns), seconds(second.compute_start_ns)) == (1, 4.0, 5.0)


def test_a_server_that_is_down_neither_receives_nor_processes():
    faults = {"trace": [["server", 9, "down"], ["server", 12, "up"], ["server", 26, "down"], ["server", 28.5, "up"]]}
    model = cluster([1.0], faults=faults, up=link(1, 2.0), server_update_s=1.0)
    history = events(model, steps=[10], budget_updates=2)
    assert [seconds(arrival.arrival_ns) for arrival in arrivals(history)] == [14.0, 29.5]
    assert [seconds(update.time_ns) for update in updates(history)] == [15.0, 30.5]


def test_an_update_stands_still_while_the_server_is_down():
    model = cluster([1.0], faults={"trace": [["server", 10.5, "down"], ["server", 12, "up"]]}, server_update_s=1.0)
    [update] = updates(events(model, steps=[10], budget_updates=1))
    assert seconds(update.time_ns) == 12.5


def test_lost_messages_are_sent_again_and_after_so_many_given_up():
    loss = {"probability": 0.6, "timeout": 3.0, "attempts": 3}
    model = cluster([1.0], faults={"message_loss": loss}, up=link(1, 0.5), down=link(1, 0.25), seed=3)
    history = events(model, steps=[10], budget_updates=40)
    lost = [event for event in history if isinstance(event, Lost)]
    for arrival in arrivals(history):
        assert seconds(arrival.compute_start_ns - arrival.pull_start_ns) == 3.25 * (arrival.pulls - 1) + 0.25
        assert seconds(arrival.arrival_ns - arrival.push_start_ns) == 3.5 * (arrival.pushes - 1) + 0.5
    assert {arrival.pulls for arrival in arrivals(history)} == {1, 2, 3}
    assert {(event.cause, event.computed, event.pulls, event.pushes) for event in lost} >= {
        ("message", 0, 3, 0),
        ("message", 10, 1, 3),
    }
    assert len(rounds(history)) == len(lost) + 40


def test_dylu_follows_the_measured_speed_if_asked():
    model = cluster([1.0, 1.0], faults={"trace": [[1, 0, "slow 2.5"]]})
    measured = MeasuredSpeed([1.0, 1.0], 10)
    history = events(model, synchronization=WAITS, steps=[10, 10], measured=measured, budget_updates=8)
    steps = [task.steps for task in rounds(history) if task.worker == 1]
    assert steps[:3] == [10, 4, 4]
    assert {task.steps for task in rounds(history) if task.worker == 0} == {10}


def test_a_round_that_took_no_time_says_nothing_of_a_workers_speed():
    speeds = MeasuredSpeed([1.0, 2.0], 10).new_choices()
    speeds.observe(0, 0.0)
    assert [speeds.steps(worker) for worker in (0, 1)] == [10, 5]
    speeds.observe(1, 1.0)
    assert [speeds.steps(worker) for worker in (0, 1)] == [10, 10]


def fails(step_s: list[float], *trace: list[Any], **changes: Any) -> str:
    with pytest.raises(NoProgressError) as caught:
        happens(step_s, *trace, **({"budget_s": None, "budget_updates": 9} | changes))
    return str(caught.value)


def test_who_waits_for_what_is_said_when_nobody_can_make_progress():
    message = fails([1.0, 1.0], [1, 5, "crash"])
    assert message.startswith(
        "nobody can make progress any more at 10 s: the server waits for worker 1 (crash at 5 s, "
    )
    assert "never back), and worker 0 for the server: give a synchronization.timeout and a quorum" in message
    assert "there are only worker 0 (departure at 5 s, never back)" in fails([1.0], [0, 5, "leave"])
    assert "worker 0 (which can neither send nor receive)" in fails([1.0], [0, 5, "disconnect"])
    assert "the server went down before 10 s for good" in fails([1.0], ["server", 5, "down"], synchronization=WAITS)
    too_few = fails([1.0, 1.0], [1, 5, "crash"], synchronization=Barrier(timeout_s=20.0, quorum=2))
    assert "the server waits for worker 1 (crash at 5 s, never back), and worker 0 for the server" in too_few


def test_rounds_that_are_never_finished_are_an_error_and_no_endless_loop():
    crashes = {"time_between": {"kind": "constant", "value": 7}, "repair": {"kind": "constant", "value": 1}}
    model = cluster([1.0], faults={"crashes": crashes})
    with pytest.raises(NoProgressError, match=r"worker 0 has failed 1,000 times since its .* now by a crash"):
        events(model, steps=[10], budget_updates=1)


def test_faults_have_random_times_of_their_own():
    crashes = {"time_between": 20, "repair": 2}
    alone = events(cluster([1.0, 2.0], faults={"crashes": crashes}), steps=[5, 5], budget_s=200.0)
    both = {"crashes": crashes, "slowdowns": {"time_between": 10, "duration": 5, "factor": 2}}
    more = events(cluster([1.0, 2.0, 3.0], faults=both), steps=[5, 5, 5], budget_s=200.0)
    told = [
        [event for event in history if isinstance(event, Fault) and event.kind == "crash" and event.worker < 2]
        for history in (alone, more)
    ]
    assert told[0] == told[1]
    assert len(told[0]) > 5


def test_a_round_that_begins_at_the_timeout_of_the_one_before_has_a_timeout_too():
    trace = [[1, 4, "slow", 2.5], [1, 15, "slow", 1000.0]]  # worker 1 takes 10 s in its second round
    history = happens([0.4, 0.4], *trace, synchronization=Barrier(10.0), budget_s=26.0)
    assert [line for line in history if line[1].startswith("applied")] == [
        (4.0, "applied 0 1 -> v1"),
        (14.0, "applied 0 1 -> v2"),
        (24.0, "applied 0 -> v3"),
    ]


def test_a_timeout_too_short_for_the_clock_ends_rounds_with_the_first_arrival():
    history = happens([1e6, 2e6], synchronization=Barrier(1e-12), budget_s=None, budget_updates=3)
    assert [line for line in history if line[1].startswith("applied")] == [
        (1e7, "applied 0 -> v1"),
        (2e7, "applied 0 -> v2"),
        (3e7, "applied 0 -> v3"),
    ]


def test_lost_messages_take_their_turn_on_a_shared_link_like_any_other():
    loss = {"probability": 0.5, "timeout": 0.1, "attempts": 50}
    shared = link(40, transmission_s=0.5, shared_s=0.5)
    history = events(cluster([0.1] * 40, faults={"message_loss": loss}, up=shared), budget_s=200.0)
    pushes = sum(arrival.pushes for arrival in arrivals(history))
    assert pushes > 1.5 * len(arrivals(history))
    assert 0.5 * pushes <= 200.0


def test_a_message_that_is_lost_has_taken_its_time():
    loss = {"probability": 0.5, "timeout": 1.0, "attempts": 50}
    history = events(cluster([1.0], faults={"message_loss": loss}, up=link(1, transmission_s=100.0)), budget_updates=20)
    took_s = {arrival.pushes: seconds(arrival.arrival_ns - arrival.push_start_ns) for arrival in arrivals(history)}
    assert {1: 100.0, 2: 201.0, 3: 302.0}.items() <= took_s.items()


def test_a_lost_message_is_expected_when_it_gets_through():
    loss = {"probability": 0.3, "timeout": 3.0, "attempts": 30}
    model = cluster([1.0, 1.3], faults={"message_loss": loss}, up=link(2, 0.5), down=link(2, 0.25), seed=3)
    seen = []

    class Watched(Asynchronous):
        def closes(self, view: ServerView) -> bool:
            seen.append(view)
            return super().closes(view)

    order = [arrival.arrival_ns for arrival in arrivals(events(model, synchronization=Watched(1.0), budget_updates=60))]
    for view in seen:
        later = [arrival_ns for arrival_ns in order if arrival_ns > view.now_ns]
        assert view.outstanding < 2 or not later or view.next_arrival_ns == later[0]
