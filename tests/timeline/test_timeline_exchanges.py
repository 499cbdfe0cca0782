"""Timelines of methods in which sends overlap training, fragments take turns, or servers stand above each other."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from simulator.cluster import MessageShares, seconds
from simulator.experiment import SimulationError
from simulator.experiment.schema.offer_schedule import PeriodicSchedule
from simulator.timeline import (
    Accepted,
    Barrier,
    Dispatched,
    Event,
    FixedShard,
    Lost,
    Quorum,
    Regions,
    Schedule,
    Timeline,
    TimelineConfig,
    Update,
)
from simulator.timeline.schedule import next_offer
from simulator.timeline.topology import graph, groups_of
from tests.timeline.builders import cluster, link
from tests.timeline.exchange_worlds import World, check_barrier, check_conservation, check_interval, worlds

GONE = ("never back", "for good", "neither send", "has failed", "disturbed")


@settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(worlds())
def test_any_world_ends_and_loses_or_doubles_no_step_and_no_message(world: World):
    history: list[Event] = []
    failure = ""
    try:
        for event in world.timeline():
            history.append(event)
            assert len(history) < 60_000, "it does not end"
    except SimulationError as error:
        failure = str(error)
    if failure:
        assert world.model.faults is not None
        assert any(reason in failure for reason in GONE), failure
    check_conservation(history)
    check_interval(world, history)
    check_barrier(world, history)


# Schedules, worked by hand.


def test_fragments_are_offered_in_turn_each_every_h_steps():
    schedule = Schedule((0, 2, 4), overlap=1)
    assert [schedule.offered_after(each, 6) for each in range(-1, 7)] == [0, 6, 8, 10, 12, 14, 16, 18]
    assert [schedule.fragment(each) for each in range(5)] == [0, 1, 2, 0, 1]
    assert [schedule.steps(each, 6) for each in range(4)] == [6, 2, 2, 2]
    assert [schedule.accepts(each, 0, 6) for each in range(4)] == [[], [(1, 0)], [(1, 1)], [(1, 2)]]


def test_an_answer_is_accepted_after_the_offer_of_the_same_step():
    assert Schedule((0,), overlap=4).accepts(1, 0, 4) == []  # at the end of that round, and so with the next
    assert Schedule((0,), overlap=4).accepts(2, 0, 4) == [(0, 0)]
    assert Schedule((0,), overlap=4).accepts(1, -1, 4) == [(0, 0)]  # eagerly
    assert Schedule((0,)).accepts(1, 0, 4) == [(0, 0)]
    assert Schedule((0,)).accepts(1, 1, 4) == []  # it has had a copy since


def test_unequal_offsets_may_bring_two_answers_into_a_round():
    schedule = Schedule((0, 3, 7), overlap=4)
    assert [schedule.offered_after(each, 10) for each in range(5)] == [10, 13, 17, 20, 23]
    assert schedule.accepts(2, 0, 10) == [(1, 0)]
    assert schedule.accepts(3, 0, 10) == [(0, 1)]
    assert schedule.accepts(4, 0, 10) == [(1, 2)]


def test_spaced_offsets_and_the_offer_with_which_a_worker_begins_again():
    assert PeriodicSchedule(fragments=3).offsets_of(10) == (0, 3, 6)
    assert next_offer([4, 4, 3]) == 3 * 3 + 2
    assert next_offer([0]) == 0


# Small clusters, worked by hand.


def history(step_s: list[float], **config: Any) -> list[Event]:
    defaults: dict[str, Any] = {
        "synchronization": Barrier(),
        "shard_choice": FixedShard(),
        "steps": [4] * len(step_s),
        "shards": len(step_s),
        "budget_updates": 3,
    }
    links = {name: config.pop(name) for name in ("down", "up", "regional", "faults") if name in config}
    regional = links.pop("regional", None)
    model = cluster(step_s, **links)
    if regional is not None:
        model = type(model)(**{**vars(model), "regional": regional})
    return list(Timeline(model, TimelineConfig(**(defaults | config))))


def begins(events: list[Event], worker: int) -> list[float]:
    return [seconds(each.time_ns) for each in events if isinstance(each, Dispatched) and each.round.worker == worker]


def met(events: list[Event], node: int = -1) -> list[tuple[float, int, list[int]]]:
    """Time, fragment and workers of each meeting."""
    updates = [each for each in events if isinstance(each, Update) and each.node == node]
    return [
        (seconds(each.time_ns), each.fragment, [arrival.round.worker for arrival in each.arrivals]) for each in updates
    ]


def test_sends_that_overlap_training_cost_no_time():
    """Rounds of 4 s; an offer takes 1 s up and 1 s down, and is accepted 2 steps later."""
    events = history([1.0, 1.0], schedule=Schedule(overlap=2), up=link(2, 1.0), down=link(2, 1.0))
    assert begins(events, 0) == [0.0, 5.0, 9.0, 13.0]  # the first pulls for 1 s
    assert [time_s for time_s, _, _ in met(events)] == [6.0, 10.0, 14.0]
    accepted = [(seconds(each.time_ns), each.after) for each in events if isinstance(each, Accepted) and each.node == 0]
    assert accepted == [(7.0, 2), (11.0, 2)]


def test_a_worker_waits_for_an_answer_that_is_late():
    """The answer is there 2 + 1 s after the offer, and wanted after 1 s."""
    events = history([1.0], schedule=Schedule(overlap=1), up=link(1, 2.0), down=link(1, 1.0), budget_updates=2)
    assert begins(events, 0) == [0.0, 5.0, 11.0]  # 4 steps, and 2 s of waiting behind the first
    [arrival] = [each for each in events if isinstance(each, Update)][1].arrivals
    assert arrival.blocked_ns == 2_000_000_000


def test_fragments_take_turns_and_each_waits_for_everybody():
    events = history([1.0, 1.5], schedule=Schedule((0, 2)), shares=MessageShares((0.5, 0.5), (0.5, 0.5)))
    # Without overlap everybody waits for the slower: after 4, then 2 steps each, of 1.5 s.
    assert met(events) == [(6.0, 0, [0, 1]), (9.0, 1, [0, 1]), (12.0, 0, [0, 1])]


def test_a_fast_worker_may_have_sent_its_next_offer_before_a_meeting():
    """With an overlap of a whole round, worker 0 offers twice before worker 1 does once."""
    events = history([1.0, 2.5], schedule=Schedule(overlap=4), budget_updates=2)
    assert met(events) == [(10.0, 0, [0, 1]), (20.0, 0, [0, 1])]
    assert begins(events, 0)[:3] == [0.0, 4.0, 10.0]


def test_a_quorum_meets_and_who_comes_later_meets_next():
    events = history([1.0, 2.0, 7.0], synchronization=Quorum(2), budget_updates=4)
    assert met(events) == [(8.0, 0, [0, 1]), (16.0, 0, [0, 1]), (24.0, 0, [0, 1]), (28.0, 0, [2, 0])]


def test_a_region_offers_after_so_many_updates_and_has_one_offer_under_way():
    far = link(1, 10.0)
    events = history(
        [1.0],
        regions=Regions((0,), 2),
        regional=far,
        budget_updates=9,
    )
    assert [time_s for time_s, _, _ in met(events, -2)] == [4.0, 8.0, 12.0, 16.0, 20.0, 24.0, 28.0, 32.0]
    upper = [each for each in events if isinstance(each, Update) and each.node == -1]
    assert [seconds(each.time_ns) for each in upper] == [18.0]  # offered at 8, 10 s on the way
    accepted = [seconds(each.time_ns) for each in events if isinstance(each, Accepted) and each.node == -2]
    assert accepted == [28.0]


def test_peers_wait_for_the_slower_of_their_group_alone():
    step_s = [1.0, 2.0, 4.0, 0.5]
    peers = groups_of(4, 2, seed=1)
    events = history(step_s, peers=peers, budget_updates=40)
    clock = [0.0] * 4
    for meeting in range(3):
        clock = [time_s + 4 * own_s for time_s, own_s in zip(clock, step_s, strict=True)]
        clock = [max(clock[peer] for peer in peers(worker, meeting)) for worker in range(4)]
        for worker in range(4):
            assert met(events, worker)[meeting][0] == pytest.approx(clock[worker])


def test_a_message_between_peers_takes_the_slower_of_two_links():
    events = history(
        [1.0, 1.0],
        peers=graph(2, ((0, 1),)),
        up=link(2, [3.0, 0.0]),
        down=link(2, [1.0, 2.0]),
        budget_updates=2,
    )
    # 0 to 1: the slower of 3 up and 2 down; 1 to 0: of 0 up and 1 down.
    assert {node: met(events, node)[0][0] for node in (0, 1)} == {0: 5.0, 1: 7.0}


def test_a_peer_that_comes_back_behind_the_others_has_met_with_what_had_come():
    """Both offer at 4 s; what is sent to worker 0 takes 10 s, and it is away from 5 to 6 s while worker 1 goes on."""
    events = history(
        [1.0, 1.0],
        peers=graph(2, ((0, 1),)),
        down=link(2, [10.0, 0.0]),
        faults={"trace": [[0, 5, "leave"], [0, 6, "join"]]},
        budget_updates=5,
    )
    assert met(events, 1)[:2] == [(4.0, 0, [1, 0]), (8.0, 0, [1])]
    assert met(events, 0)[0] == (6.0, 0, [0])  # so that its round has arrived
    assert not [each for each in events if isinstance(each, Lost)]
    assert begins(events, 0)[:2] == [0.0, 6.0]


def test_groups_cover_everybody_once():
    for workers, size in ((7, 2), (6, 3), (5, 1)):
        peers = groups_of(workers, size, seed=0)
        for meeting in range(3):
            found = {peers(worker, meeting) for worker in range(workers)}
            assert sorted(worker for group in found for worker in group) == list(range(workers))
            assert all(worker in peers(worker, meeting) for worker in range(workers))
