"""Clusters that fail: whatever goes wrong, a simulation ends, its record is right, no step is lost or done twice."""

import collections
import itertools
import math
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulator import Workshop, simulate
from simulator.engine import Simulation, TrainerKind
from simulator.experiment import Experiment
from simulator.timeline import Dispatched, Lost, NoProgressError, Shortened, Update
from simulator.verify import verify
from tests import killed_runs
from tests.experiments import tiny
from tests.faulty import faults
from tests.test_verify import BARRIER, clusters, policies

WORKSHOP = Workshop()
KINDS: tuple[TrainerKind, ...] = ("batched", "serial", "null")


@st.composite
def failing(draw: st.DrawFn) -> Experiment:
    """Any cluster with any faults."""
    cluster, changes = draw(clusters()), draw(policies())
    workers = len(cluster["devices"]["seconds_per_step"])
    cluster["faults"] = draw(faults(workers))
    if changes["local_steps"]["kind"] == "dynamic":
        changes["local_steps"]["speed"] = draw(st.sampled_from(["nominal", "measured"]))
    if changes.get("synchronization") == BARRIER and draw(st.booleans()):
        timeout = draw(st.sampled_from([0, "1s", "10s"]))
        changes["synchronization"] = BARRIER | {"timeout": timeout, "quorum": draw(st.integers(1, workers))}
    if draw(st.booleans()):
        changes["budget"] = changes["budget"] | {"simulated_time": draw(st.sampled_from(["5s", "2min", "1h"]))}
    return tiny(cluster=cluster, **changes)


def accounted_for(events: list[Any]) -> None:
    """Every step that was given out arrives once, or is lost once, or is under way at the end."""
    under_way: dict[int, int] = {}
    ends: collections.Counter[str] = collections.Counter()
    given = 0
    for event in events:
        match event:
            case Dispatched(round=task):
                assert task.id not in under_way
                under_way[task.id] = task.steps
                given += task.steps
            case Shortened(round=task):
                assert event.given == under_way[task.id] > task.steps > 0
                under_way[task.id] = task.steps
                ends["cut"] += event.given - task.steps
            case Lost(round=task):
                assert under_way.pop(task.id) == task.steps >= event.computed >= 0
                ends["lost"] += task.steps
            case Update():
                for arrival in event.arrivals:
                    assert under_way.pop(arrival.round.id) == arrival.round.steps
                    ends["arrived"] += arrival.round.steps
    assert given == sum(ends.values()) + sum(under_way.values())
    assert ends["arrived"] == events[-1].local_steps


def somebody_is_gone_for_good(simulation: Simulation) -> bool:
    model = simulation.cluster.faults
    assert model is not None
    return any(
        absence.end_s == math.inf and absence.start_s <= simulation.timeline.now_s
        for worker in range(simulation.cluster.workers)
        for absence in itertools.islice(model.absences(worker), 10_000)
    )


@settings(deadline=None, max_examples=500, suppress_health_check=[HealthCheck.too_slow])
@given(failing())
def test_whatever_fails_a_simulation_ends_and_loses_and_duplicates_no_step(experiment: Experiment):
    events: list[Any] = []
    simulation = Simulation(experiment, trainer="null", workshop=WORKSHOP)
    take = simulation._take

    def noted(event: Any, *rest: Any) -> None:
        events.append(event)
        take(event, *rest)

    simulation._take = noted  # type: ignore[method-assign,assignment]
    try:
        record = simulation.run()
    except NoProgressError:
        assert somebody_is_gone_for_good(simulation)
        return
    accounted_for(events)
    assert verify(record) == []


@pytest.mark.parametrize("variant", ["faults", "faults, sync"])
def test_with_faults_too_both_trainers_and_the_timeline_agree(mixed_dtypes: None, variant: str):
    experiment = killed_runs.experiment_of(variant)
    batched, serial, null = (simulate(experiment, trainer=kind, workshop=WORKSHOP) for kind in KINDS)
    assert {"crash", "preemption", "slow", "disconnect", "departure", "lost", "cut"} <= set(batched.faults["fault"])
    pd.testing.assert_frame_equal(batched.faults, null.faults)
    unknown = dict.fromkeys(["train_loss", "non_finite"])
    pd.testing.assert_frame_equal(batched.rounds.assign(**unknown), null.rounds.assign(**unknown))
    for name in ("rounds", "evaluations", "faults"):
        pd.testing.assert_frame_equal(getattr(batched, name), getattr(serial, name), rtol=1e-5)
    assert len({record.summary["causal_hash"] for record in (batched, serial, null)}) == 1
    assert verify(batched) == []
