"""Timelines that must be the same, and what tells them apart."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.cluster import build_cluster, seconds
from simulator.experiment.schema.cluster import Cluster
from simulator.timeline import (
    Asynchronous,
    Barrier,
    Dispatched,
    Event,
    LeastVisited,
    Proportional,
    SynchronizationPolicy,
    dynamic_steps,
)
from tests.timeline.builders import (
    AUTHORS_STEP_S,
    arrivals,
    cluster,
    events,
    link,
    rounds,
    starts,
    timeline,
    updates,
)


def assigned(history: Sequence[Event]) -> list[tuple[float, int, int, int, int]]:
    """When who was told to train what; not from which version."""
    return [
        (seconds(event.time_ns), event.round.worker, event.round.shard, event.round.first_step, event.round.steps)
        for event in history
        if isinstance(event, Dispatched)
    ]


@given(
    step_s=st.lists(st.sampled_from([0.58, 0.75, 1.0, 1.51, 3.33]), min_size=2, max_size=6),
    jitter=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 3),
)
def test_asynchronous_with_an_infinite_window_starts_the_same_rounds_as_a_barrier(step_s, jitter, seed):
    model = cluster(step_s, jitter=jitter, seed=seed, up=link(len(step_s), 0.25, shared_s=0.5))
    config: dict[str, Any] = {"shard_choice": LeastVisited(), "budget_local_steps": 5 * len(step_s)}
    barrier = events(model, synchronization=Barrier(), **config)
    infinite = events(model, synchronization=Asynchronous(math.inf), **config)
    assert len(updates(barrier)) == 5
    assert len(updates(infinite)) == 5 * len(step_s)
    assert assigned(infinite) == assigned(barrier)


def test_a_finite_window_starts_other_rounds_than_a_barrier():
    model = cluster(AUTHORS_STEP_S)
    barrier, finite = (
        events(model, synchronization=policy, budget_local_steps=20) for policy in (Barrier(), Asynchronous(0.5))
    )
    assert assigned(finite) != assigned(barrier)


@pytest.mark.parametrize("grace_s", [0.0, 0.5, 10.0])
def test_dynamic_steps_on_equal_devices_with_a_window_are_synchronous_rounds(grace_s: float):
    steps = dynamic_steps([0.7] * 4, 50)
    history = events(cluster([0.7] * 4), synchronization=Asynchronous(grace_s), steps=steps, budget_local_steps=1000)
    groups = starts(history)
    assert steps == [50] * 4
    assert [workers for _, workers in groups] == [[0, 1, 2, 3]] * 5
    assert [time_s for time_s, _ in groups] == pytest.approx([0.0, 35.0, 70.0, 105.0, 140.0])
    assert {update.staleness for update in updates(history)} == {(0,), (1,), (2,), (3,)}


def test_dynamic_steps_bring_unequal_devices_closer_to_synchronous_rounds():
    fixed, dynamic = (
        events(cluster(AUTHORS_STEP_S), synchronization=Asynchronous(5.0), steps=steps, budget_updates=400)
        for steps in ([50] * 4, dynamic_steps(AUTHORS_STEP_S, 50))
    )
    worst_fixed, worst_dynamic = (max(update.staleness[0] for update in updates(each)) for each in (fixed, dynamic))
    assert worst_dynamic <= 6 < worst_fixed


def fingerprint(step_s: Sequence[float] = AUTHORS_STEP_S, grace_s: float = 0.5, **config: Any) -> tuple[str, float]:
    """Causal hash and time at the end."""
    defaults: dict[str, Any] = {"steps": [20] * 4, "budget_local_steps": 4000, "evaluate_every_steps": 400}
    each = timeline(cluster(step_s), synchronization=Asynchronous(grace_s), **(defaults | config))
    last = list(each)[-1]
    return each.causal_hash, seconds(last.time_ns)


def test_causal_hash_is_that_of_a_cluster_twice_as_slow():
    base, slow = fingerprint(), fingerprint([2 * own_s for own_s in AUTHORS_STEP_S], 1.0)
    assert slow[1] == 2 * base[1]
    assert slow[0] == base[0]


def test_causal_hash_of_synchronous_rounds_is_the_same_at_16_bandwidths():
    hashes, ends_s = set(), set()
    for exponent in range(16):
        described = Cluster.model_validate(
            {
                "devices": {"seconds_per_step": AUTHORS_STEP_S},
                "network": {"latency": "10ms", "bandwidth": f"{2**exponent}Mbit/s"},
            }
        )
        model = build_cluster(described, parameters=10**6, flops_per_step=1.0, seed=0)
        each = timeline(model, synchronization=Barrier(), budget_updates=20, evaluate_every_steps=7)
        ends_s.add(seconds(list(each)[-1].time_ns))
        hashes.add(each.causal_hash)
    assert len(ends_s) == 16
    assert len(hashes) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"step_s": (0.75, 0.58, 1.51, 3.33)},
        {"step_s": (0.58, 0.75, 1.51, 2.0)},
        {"grace_s": 5.0},
        {"steps": [20, 20, 20, 19]},
        {"shard_choice": LeastVisited()},
        {"shard_choice": Proportional(np.ones(4, np.int64))},
        {"shards": 2},
        {"evaluate_every_steps": 380},
        {"evaluate_every_s": 100.0},
        {"budget_local_steps": 4020},
        {"arrivals_per_update": 2},
        {"drop_above": 10},
    ],
    ids=lambda change: " ".join(change),
)
def test_causal_hash_tells_other_orders_rounds_and_evaluations_apart(change: dict[str, Any]):
    assert fingerprint(**change)[0] != fingerprint()[0]


def test_causal_hash_grows_with_what_has_happened():
    each = timeline(cluster([1.0]), budget_updates=3)
    hashes = [each.causal_hash]
    hashes.extend(each.causal_hash for event in each if not isinstance(event, Dispatched))
    assert len(set(hashes)) >= 4  # nothing yet, and three updates
    assert hashes[-1] == each.causal_hash


def test_the_same_timeline_twice_is_identical():
    model = cluster([1.0, 1.1, 1.7], jitter=0.5, up=link(3, 0.1, shared_s=0.3), down=link(3, 0.1, shared_s=0.3), seed=3)
    config: dict[str, Any] = {"shard_choice": Proportional(np.array([3, 1, 2])), "budget_updates": 50}
    first, second = events(model, **config), events(model, **config)
    other_seed = events(dataclasses.replace(model, seed=4), **config)
    assert first == second
    assert first != other_seed


def durations(history: Sequence[Event]) -> dict[int, list[float]]:
    """Compute time of each worker's rounds, one after another."""
    times: dict[int, list[float]] = {}
    for arrival in arrivals(history):
        times.setdefault(arrival.round.worker, []).append(seconds(arrival.push_start_ns - arrival.compute_start_ns))
    return times


def test_adding_a_worker_shifts_no_one_elses_jitter():
    three, four = (
        events(cluster(step_s, jitter=0.4), synchronization=Barrier(), budget_updates=20)
        for step_s in ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 30.0])
    )
    before, after = durations(three), durations(four)
    assert three[-1].time_ns != four[-1].time_ns
    assert len({round(value, 6) for value in before[0]}) == 20
    assert before[0] != pytest.approx([value / 2 for value in before[1]])  # nor do two workers share their draws
    for worker in range(3):
        assert after[worker] == pytest.approx(before[worker])


def test_adding_a_worker_shifts_no_one_elses_shards_where_each_has_its_own():
    three, four = (events(cluster([1.0] * count), shards=3, budget_s=5.0) for count in (3, 4))
    shards = [[(task.worker, task.shard) for task in rounds(each) if task.worker < 3] for each in (three, four)]
    assert len(rounds(four)) > len(rounds(three))
    assert shards[0] == shards[1]


@pytest.mark.parametrize("policy", [Asynchronous(0.0), Asynchronous(1.5), Asynchronous(math.inf), Barrier()])
@pytest.mark.parametrize("transfer_s", [0.0, 0.25])
@pytest.mark.parametrize("update_s", [0.0, 0.5])
def test_faults_that_come_too_late_change_nothing(policy: SynchronizationPolicy, transfer_s: float, update_s: float):
    """Rounds that nothing can disturb, and that something could, have code of their own; all times are exact."""
    step_s = [0.25, 0.5, 0.5, 1.25, 3.0]
    links = link(5, [transfer_s, 0.0, transfer_s, 0.5, 0.0], transfer_s)
    config = {"synchronization": policy, "steps": [4, 3, 2, 2, 1], "budget_local_steps": 300, "evaluate_every_s": 5.0}
    quiet, late = (
        events(cluster(step_s, down=links, up=links, server_update_s=update_s, faults=faults), **config)
        for faults in (None, {"trace": [[0, 1e6, "crash"]]})
    )
    assert quiet == late
    assert len(updates(quiet)) > 20
