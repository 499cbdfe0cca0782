"""Invariants of every timeline: random clusters, links, policies, buffers and evaluations."""

import collections
import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulator.cluster import ClusterModel, Link, Nanoseconds, nanoseconds, seconds
from simulator.timeline import (
    Arrival,
    Asynchronous,
    Barrier,
    Dispatched,
    Event,
    Finished,
    FixedShard,
    LeastVisited,
    NoProgressError,
    Proportional,
    ServerView,
    SynchronizationPolicy,
    Update,
)
from tests.timeline.builders import arrivals, cluster, evaluations, events, link, rounds, starts, timeline, updates

unhurried = settings(suppress_health_check=[HealthCheck.too_slow])


@dataclasses.dataclass(frozen=True)
class World:
    model: ClusterModel
    config: dict[str, Any]

    def run(self, **changes: Any) -> list[Event]:
        return events(self.model, **(self.config | changes))


durations_s = st.sampled_from([0.0, 0.1, 0.25, 1.0]) | st.floats(0.0, 3.0)


@st.composite
def links(draw: st.DrawFn, workers: int, shared: bool) -> Link:
    latency_s, transmission_s = (
        draw(st.lists(durations_s, min_size=workers, max_size=workers)) if draw(st.booleans()) else draw(durations_s)
        for _ in range(2)
    )
    return link(workers, latency_s, transmission_s, draw(st.floats(0.01, 2.0)) if shared else None)


@st.composite
def worlds(draw: st.DrawFn, shared: bool | None = None, idle_server: bool = False) -> World:
    """Any world; `shared` says whether transfers queue, and an idle server takes no time for anything."""
    workers = draw(st.integers(1, 6))
    shared_down, shared_up = (draw(st.booleans()) if shared is None else shared for _ in range(2))
    model = cluster(
        draw(st.lists(st.sampled_from([0.5, 1.0, 2.0]) | st.floats(0.05, 5.0), min_size=workers, max_size=workers)),
        jitter=draw(st.sampled_from([0.0, 0.0, 0.5])),
        down=draw(links(workers, shared_down)),
        up=draw(links(workers, shared_up)),
        server_update_s=0.0 if idle_server else draw(st.sampled_from([0.0, 0.0, 0.25, 2.0])),
        seed=draw(st.integers(0, 5)),
    )
    shards = draw(st.integers(1, 4))
    sizes = draw(st.lists(st.integers(1, 1000), min_size=shards, max_size=shards))
    every_s = draw(st.none() | st.floats(0.5, 10.0))
    windows = st.sampled_from([0.0, 0.5, math.inf]) | st.floats(0.0, 10.0)
    config = {
        "synchronization": draw(st.just(Barrier()) | st.builds(Asynchronous, windows)),
        "shard_choice": draw(st.sampled_from([LeastVisited(), FixedShard(), Proportional(np.array(sizes))])),
        "steps": draw(st.lists(st.integers(1, 5), min_size=workers, max_size=workers)),
        "shards": shards,
        "arrivals_per_update": draw(st.integers(1, 3)),
        "drop_above": draw(st.none() | st.integers(0, 3)),
        "evaluate_every_steps": draw(st.none() | st.integers(1, 30)),
        "evaluate_every_s": every_s,
        "evaluation_s": 0.0 if idle_server else draw(st.sampled_from([0.0, 0.0, 0.2, 0.4])),
    }
    budgets = {
        "budget_local_steps": draw(st.none() | st.integers(1, 150)),
        "budget_s": draw(st.none() | st.floats(0.1, 50.0)),
        "budget_updates": draw(st.none() | st.integers(1, 30)),
    }
    if not any(budgets.values()):
        budgets["budget_local_steps"] = 100
    return World(model, config | budgets)


@unhurried
@given(worlds())
def test_time_never_goes_back(world):
    history = world.run()
    times_ns = [event.time_ns for event in history]
    assert times_ns == sorted(times_ns)
    for update in updates(history):
        for arrival in update.arrivals:
            times_ns = arrival[1:6]
            assert list(times_ns) == sorted(times_ns)
            assert arrival.arrival_ns <= update.time_ns
    order = [arrival.arrival_ns for arrival in arrivals(history)]
    assert order == sorted(order)


@unhurried
@given(worlds())
def test_who_waits_at_the_end_has_arrived_and_was_not_sent_off_again(world):
    history = world.run()
    idle: set[int] = set()
    for event in history:
        if isinstance(event, Dispatched):
            idle.discard(event.round.worker)
        elif isinstance(event, Update):
            idle |= {arrival.round.worker for arrival in event.arrivals}
    assert set(history[-1].waiting) == idle


@unhurried
@given(worlds())
def test_a_simulation_ends_with_the_first_budget_that_is_used_up(world):
    history = world.run()
    last = history[-1]
    assert [event for event in history if isinstance(event, Finished)] == [last]
    limits = [
        ("local_steps", world.config["budget_local_steps"]),
        ("version", world.config["budget_updates"]),
        ("time_ns", world.config["budget_s"] and nanoseconds(world.config["budget_s"])),
    ]
    reached = [name for name, limit in limits if limit is not None and getattr(last, name) >= limit]
    assert reached != []
    if reached == ["time_ns"]:
        assert last.time_ns == nanoseconds(world.config["budget_s"])
    for update in updates(history)[:-1]:
        for name, limit in limits[:2]:
            assert limit is None or getattr(update, name) < limit


@unhurried
@given(worlds())
def test_start_and_end_are_evaluated_and_no_state_twice_at_a_time(world):
    history = world.run()
    points = evaluations(history)
    assert points[0] == (0, 0, 0)
    assert points[-1] == tuple(history[-1])[:3]
    assert len(points) == len(set(points))


@unhurried
@given(worlds())
def test_staleness_is_the_number_of_updates_between_pull_and_push(world):
    applied = 0
    pulled: dict[int, int] = {}
    for event in world.run():
        match event:
            case Dispatched(round=task):
                assert task.version == applied
                pulled[task.id] = applied
            case Update():
                assert event.staleness == tuple(applied - pulled[arrival.round.id] for arrival in event.arrivals)
                assert min(event.staleness) >= 0
                applied += event.outcome == "applied"
                assert event.version == applied


@unhurried
@given(worlds())
def test_outcomes_follow_from_staleness_and_the_buffer(world):
    kept = 0
    for update in updates(world.run()):
        limit = world.config["drop_above"]
        if limit is not None and max(update.staleness) > limit:
            assert update.outcome == "dropped"
        else:
            kept += 1
            full = kept % world.config["arrivals_per_update"] == 0
            assert update.outcome == ("applied" if full else "buffered")


@unhurried
@given(worlds())
def test_local_steps_are_conserved(world):
    history = world.run()
    total = 0
    for update in updates(history):
        total += sum(arrival.round.steps for arrival in update.arrivals)
        assert update.local_steps == total
    assert history[-1].local_steps == total
    next_step: collections.Counter[int] = collections.Counter()
    for task in rounds(history):
        assert task.steps == world.config["steps"][task.worker]
        assert task.first_step == next_step[task.shard]
        next_step[task.shard] += task.steps


@unhurried
@given(worlds())
def test_every_round_is_dispatched_once_and_a_worker_has_one_at_a_time(world):
    history = world.run()
    assert [task.id for task in rounds(history)] == list(range(len(rounds(history))))
    under_way: dict[int, Any] = {}
    for event in history:
        match event:
            case Dispatched(round=task):
                assert task.worker not in under_way
                under_way[task.worker] = task
            case Update():
                for arrival in event.arrivals:
                    assert under_way.pop(arrival.round.worker) == arrival.round


@unhurried
@given(worlds())
def test_a_barrier_takes_everybody_and_a_window_takes_one_arrival_at_a_time(world):
    barrier = world.run(synchronization=Barrier())
    everybody = set(range(world.model.workers))
    assert all({arrival.round.worker for arrival in update.arrivals} == everybody for update in updates(barrier))
    assert all(len(update.arrivals) == 1 for update in updates(world.run(synchronization=Asynchronous(1.0))))


def compute_times(world: World, history: list[Event]) -> dict[int, Nanoseconds]:
    """Nominal times with each worker's own jitter, drawn in the order of its rounds."""
    model = world.model
    streams = [model.jitter_stream(worker) for worker in range(model.workers)]
    return {
        task.id: nanoseconds(model.compute_s(task.worker, task.steps, model.jitter_factor(streams[task.worker])))
        for task in rounds(history)
    }


@unhurried
@given(worlds(shared=False))
def test_without_contention_a_round_lasts_exactly_the_sum_of_its_phases(world):
    history = world.run()
    dispatched_ns = {event.round.id: event.time_ns for event in history if isinstance(event, Dispatched)}
    compute_ns = compute_times(world, history)
    for arrival in arrivals(history):
        worker = arrival.round.worker
        assert arrival.pull_start_ns == dispatched_ns[arrival.round.id]
        assert arrival.compute_start_ns == arrival.pull_start_ns + nanoseconds(world.model.down.transfer_s(worker))
        assert arrival.push_start_ns == arrival.compute_start_ns + compute_ns[arrival.round.id]
        assert arrival.arrival_ns == arrival.push_start_ns + nanoseconds(world.model.up.transfer_s(worker))


@unhurried
@given(worlds(shared=True))
def test_contention_delays_transfers_and_nothing_else(world):
    history = world.run()
    compute_ns = compute_times(world, history)
    for arrival in arrivals(history):
        worker = arrival.round.worker
        assert arrival.compute_start_ns - arrival.pull_start_ns >= nanoseconds(world.model.down.transfer_s(worker))
        assert arrival.push_start_ns == arrival.compute_start_ns + compute_ns[arrival.round.id]
        assert arrival.arrival_ns - arrival.push_start_ns >= nanoseconds(world.model.up.transfer_s(worker))


def occupied(
    direction: Link, requested_ns: Nanoseconds, ended_ns: Nanoseconds, worker: int
) -> tuple[Nanoseconds, Nanoseconds, Nanoseconds]:
    """When a transfer had the shared link, from when the link was left for the worker's own; and its request."""
    shared_ns = nanoseconds(direction.shared_s)
    left_ns = ended_ns - (nanoseconds(direction.transfer_s(worker)) - shared_ns)
    return left_ns - shared_ns, left_ns, requested_ns


@unhurried
@given(worlds(shared=True))
def test_a_shared_link_carries_one_message_at_a_time_in_order_of_request(world):
    history = world.run()
    down = [
        occupied(world.model.down, each.pull_start_ns, each.compute_start_ns, each.round.worker)
        for each in arrivals(history)
    ]
    up = [
        occupied(world.model.up, each.push_start_ns, each.arrival_ns, each.round.worker) for each in arrivals(history)
    ]
    for slots in (down, up):
        for (_, left_ns, asked_ns), (entered_ns, _, next_asked_ns) in itertools.pairwise(sorted(slots)):
            assert entered_ns >= left_ns
            assert next_asked_ns >= asked_ns
        assert all(entered_ns >= asked_ns for entered_ns, _, asked_ns in slots)


def test_without_a_shared_link_the_same_messages_would_overlap():
    transfers = link(3, transmission_s=1.0)
    shared = dataclasses.replace(transfers, shared_s=1.0)
    for each, gap_s in ((transfers, 0.0), (shared, 1.0)):
        history = events(cluster([1.0] * 3, up=each), synchronization=Barrier(), budget_updates=1)
        ends_s = [seconds(arrival.arrival_ns) for arrival in arrivals(history)]
        assert np.diff(ends_s).tolist() == [gap_s, gap_s]


class Seen(NamedTuple):
    """What a policy was shown and said, with how many rounds had been dispatched and processed by then."""

    dispatched: int
    processed: int
    view: ServerView
    closes: bool


class Watched:
    """A policy that notes what it was shown and said."""

    def __init__(self, policy: SynchronizationPolicy, workers: int):
        self.policy, self.averages_group = policy, policy.averages_group
        self.timeout_s, self.looks_ahead = policy.timeout_s, True
        self.keeps_late, self.window_s, self.quorum = policy.keeps_late, policy.window_s, policy.quorum
        self.seen: list[Seen] = []
        self._workers, self._restarted = workers, 0

    def closes(self, view: ServerView) -> bool:
        answer = self.policy.closes(view)
        self.seen.append(Seen(self._workers + self._restarted, self._restarted + view.group, view, answer))
        self._restarted += view.group * answer
        return answer

    def next_arrivals(self, history: list[Event]) -> Iterator[tuple[Seen, Arrival]]:
        """With each note the first arrival of a round that was then under way, where there is one."""
        order = arrivals(history)
        for seen in self.seen:
            under_way = (each for each in order[seen.processed :] if each.round.id < seen.dispatched)
            first = next(under_way, None)
            if first is not None:
                yield seen, first


@unhurried
@given(worlds(shared=False))
def test_without_contention_the_predicted_arrival_is_the_real_one(world):
    watched = Watched(world.config["synchronization"], world.model.workers)
    for seen, arrival in watched.next_arrivals(world.run(synchronization=watched)):
        assert seen.view.next_arrival_ns == arrival.arrival_ns


@unhurried
@given(worlds(shared=True))
def test_with_contention_the_predicted_arrival_is_a_lower_bound(world):
    watched = Watched(world.config["synchronization"], world.model.workers)
    for seen, arrival in watched.next_arrivals(world.run(synchronization=watched)):
        assert seen.view.next_arrival_ns <= arrival.arrival_ns


def test_with_contention_the_predicted_arrival_is_not_always_the_real_one():
    model = cluster([1.0, 12.0, 11.5], up=link(3, [0.0, 0.0, 20.0], shared_s=10.0))
    watched = Watched(Asynchronous(15.0), 3)
    history = events(model, synchronization=watched, budget_updates=4)
    gaps_s = [
        seconds(arrival.arrival_ns - seen.view.next_arrival_ns) for seen, arrival in watched.next_arrivals(history)
    ]
    assert gaps_s[:2] == [9.5, 0.0]  # at 11 worker 1 is expected at 22, at 12 its place in the queue is known


@unhurried
@given(worlds(), st.floats(0.0, 10.0))
def test_a_policy_is_shown_the_group_and_the_rounds_under_way(world, grace_s):
    watched = Watched(Asynchronous(grace_s), world.model.workers)
    order = arrivals(world.run(synchronization=watched))
    for _, processed, view, _ in watched.seen:
        assert view.group + view.outstanding == world.model.workers
        assert view.opened_ns == order[processed - view.group].arrival_ns <= view.now_ns


@unhurried
@given(worlds(idle_server=True), st.floats(0.0, 10.0))
def test_a_group_is_who_arrived_in_its_window_and_restarts_within_it(world, grace_s):
    watched = Watched(Asynchronous(grace_s), world.model.workers)
    history = world.run(synchronization=watched)
    order, closings = arrivals(history), [seen for seen in watched.seen if seen.closes]
    grace_ns = nanoseconds(grace_s)
    for seen, (time_s, workers) in zip(closings, starts(history)[1:], strict=True):
        group = order[seen.processed - seen.view.group : seen.processed]
        assert workers == [arrival.round.worker for arrival in group]
        opened_ns, last_ns = group[0].arrival_ns, group[-1].arrival_ns
        assert last_ns - opened_ns <= grace_ns
        assert seconds(last_ns) <= time_s <= seconds(max(last_ns, opened_ns + grace_ns))
        if world.model.up.shared_s is None:
            assert time_s == seconds(last_ns)
    for seen, arrival in watched.next_arrivals(history):
        assert not seen.closes or arrival.arrival_ns - seen.view.opened_ns > grace_ns


def test_a_policy_that_restarts_nobody_is_an_error():
    class Never(SynchronizationPolicy):
        def closes(self, view: ServerView) -> bool:
            return False

    history = []
    with pytest.raises(NoProgressError, match=r"any more at 2 s: worker 0, worker 1 wait to restart"):
        history.extend(timeline(cluster([1.0, 2.0]), synchronization=Never(), budget_s=10.0))
