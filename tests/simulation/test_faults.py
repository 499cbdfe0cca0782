"""Clusters that fail: whatever goes wrong, a simulation ends, its record is right, no step is lost or done twice."""

import collections
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulator import Cache, simulate
from simulator.cluster import nanoseconds
from simulator.experiment import Experiment, SimulationError
from simulator.experiment.file import merge
from simulator.host.event_kinds import ABSENCES
from simulator.record import RunRecord
from simulator.simulation.simulate import Simulation, TrainerKind
from simulator.timeline import Dispatched, Fault, Lost, NoProgressError, Shortened, Timeline, Update
from simulator.verify import verify
from tests import killed_runs
from tests.experiments import tiny
from tests.faulty import faults
from tests.verify.test_verify import BARRIER, EQUAL, clusters, policies

CACHE = Cache()
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
    """Or will be before what is under way would be done, the end of which is known when it begins."""
    model, up, down = simulation.cluster.faults, simulation.cluster.up, simulation.cluster.down
    assert model is not None
    under_way_s = max(link.transfer_s(worker) for link in (up, down) for worker in range(simulation.cluster.workers))
    until_ns = nanoseconds(simulation.timeline.now_s + under_way_s + simulation.experiment.cluster.server_update_time)
    return any(
        each.end_ns == math.inf
        for worker in range(simulation.cluster.workers)
        for source in (model.absences(worker), model.link(worker))
        for each in itertools.takewhile(lambda each: each.start_ns <= until_ns, itertools.islice(source, 10_000))
    )


def somebody_fails_again_and_again(events: list[Any]) -> bool:
    """A thousand times since its last arrival; the last times are not told any more."""
    failures: collections.Counter[int] = collections.Counter()
    for event in events:
        match event:
            case Lost(round=task, cause="message"):
                failures[task.worker] += 1
            case Fault(worker=worker, kind=kind) if kind in ABSENCES:
                failures[worker] += 1
            case Update():
                for arrival in event.arrivals:
                    failures.pop(arrival.round.worker, None)
    return max(failures.values(), default=0) >= 990


def constant(value: float) -> dict[str, Any]:
    return {"kind": "constant", "value": value}


class Noted:
    """A timeline that notes its events."""

    def __init__(self, timeline: Timeline):
        self._timeline, self.events = timeline, list[Any]()

    def __iter__(self) -> Iterator[Any]:
        for event in self._timeline:
            self.events.append(event)
            yield event

    def __getattr__(self, name: str) -> Any:
        return getattr(self._timeline, name)


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(failing())
def test_whatever_fails_a_simulation_ends_and_loses_and_duplicates_no_step(experiment: Experiment):
    simulation = Simulation(experiment, trainer="null", cache=CACHE)
    simulation.timeline = timeline = Noted(simulation.timeline)  # type: ignore[assignment]
    try:
        record = simulation.run()
    except NoProgressError:
        assert somebody_is_gone_for_good(simulation) or somebody_fails_again_and_again(timeline.events)
        return
    accounted_for(timeline.events)
    assert verify(record) == []


@pytest.mark.parametrize("variant", ["faults", "faults, sync"])
def test_with_faults_too_both_trainers_and_the_timeline_agree(mixed_dtypes: None, variant: str):
    experiment = killed_runs.experiment_of(variant)
    batched, serial, null = (simulate(experiment, trainer=kind, cache=CACHE) for kind in KINDS)
    assert {"crash", "preemption", "slow", "disconnect", "departure", "lost", "cut"} <= set(batched.faults["fault"])
    pd.testing.assert_frame_equal(batched.faults, null.faults)
    unknown = dict.fromkeys(["train_loss", "non_finite"])
    pd.testing.assert_frame_equal(batched.rounds.assign(**unknown), null.rounds.assign(**unknown))
    for name in ("rounds", "evaluations", "faults"):
        pd.testing.assert_frame_equal(getattr(batched, name), getattr(serial, name), rtol=1e-5)
    assert len({record.summary["causal_hash"] for record in (batched, serial, null)}) == 1
    assert verify(batched) == []


OFTEN = {"every_local_steps": None}
SLOW = {"time_between": 10, "duration": 1, "factor": 2}
SYNC = {"synchronization": BARRIER, "outer": EQUAL}


def ran(faults: Any, seconds_per_step: list[float], **changes: Any) -> RunRecord:
    cluster = {"devices": {"seconds_per_step": seconds_per_step}, "faults": faults}
    experiment = tiny(cluster=merge(cluster, changes.pop("cluster", {})), **changes)
    return simulate(experiment, trainer="null", cache=CACHE)


@pytest.mark.parametrize(
    ("trace", "seconds_per_step", "changes"),
    [
        (
            [[0, 1.2, "crash"], [0, 1.3, "join"]],
            [0.2, 0.22, 0.23],
            {"cluster": {"server_update_time": 0.6}, "synchronization": {"grace": 0}, "budget": {"local_steps": 60}},
        ),
        (
            [[0, 7, "crash"], [0, 10.5, "join"]],
            [0.2, 1.0],
            {
                **SYNC,
                "cluster": {"server_update_time": 2},
                "evaluate": OFTEN | {"every_simulated": 10.55, "takes": 5},
                "budget": {"local_steps": 80},
            },
        ),
        (
            [[0, 5.5, "crash"], [0, 5.6, "join"], [0, 5.7, "disconnect"], [0, 6, "crash"]],
            [1.0, 6.0],
            {"cluster": {"server_update_time": 1}, "synchronization": {"grace": 0}, "budget": {"local_steps": 20}},
        ),
    ],
    ids=["asks while its group restarts", "asks while the server evaluates", "crashes before it has begun"],
)
def test_requests_that_are_out_of_date_are_ignored(trace: Any, seconds_per_step: list[float], changes: dict[str, Any]):
    assert verify(ran({"trace": trace}, seconds_per_step, **changes)) == []


def test_a_barrier_waits_for_who_crashes_again_before_the_server_heard_of_its_return():
    trace = [[0, 2.5, "crash"], [0, 3.5, "join"], [0, 4, "crash"], [0, 50, "join"]]
    evaluate = OFTEN | {"every_simulated": 3, "takes": 2}
    record = ran({"trace": trace}, [1.0, 1.0], **SYNC, evaluate=evaluate, budget={"local_steps": 30})
    assert record.rounds["update_s"].min() > 50


def test_what_has_arrived_in_time_is_not_late():
    evaluate = OFTEN | {"every_simulated": 6.5, "takes": 2}
    left = ran({"trace": [[0, 8, "leave"]]}, [1.0, 1.5], **SYNC, evaluate=evaluate, budget={"local_steps": 30})
    assert set(left.rounds["outcome"]) == {"applied"}
    timeout = {"synchronization": BARRIER | {"timeout": 8}, "outer": EQUAL, "budget": {"local_steps": 80}}
    busy = ran(None, [1.0, 1.5], **timeout, evaluate=OFTEN | {"every_simulated": 6, "takes": 3})
    assert set(busy.rounds["outcome"]) == {"applied"}
    just = ran(None, [1.0, 1.6], **timeout)
    assert set(just.rounds["outcome"]) == {"applied"}


@pytest.mark.parametrize(
    "faults",
    [
        {"trace": [[w, 0, "disconnect"] for w in (0, 1)], "slowdowns": SLOW},
        {"trace": [["server", 7.2, "down"]], "slowdowns": SLOW},
        {"crashes": {"time_between": "1ns", "repair": "365d"}},
        {"crashes": {"time_between": constant(1e-300), "repair": constant(1)}},
        {"preemption": {"time_between": constant(60), "absence": 10, "notice": "2min"}},
    ],
    ids=["links", "server", "hardly there", "never there", "always warned"],
)
def test_what_can_never_end_is_an_error(faults: dict[str, Any]):
    with pytest.raises(SimulationError, match=r"nobody (can make|makes) progress|cluster\.faults: "):
        ran(faults, [1.0, 1.0], synchronization={"grace": 0})


@pytest.mark.parametrize("kind", ["slowdowns", "link_outages"])
def test_faults_that_last_no_time_change_nothing(kind: str):
    section = {"time_between": 1, "duration": constant(1e-300)} | ({"factor": 2} if kind == "slowdowns" else {})
    disturbed, calm = (ran(each, [1.0, 2.0], synchronization={"grace": 0}) for each in ({kind: section}, None))
    assert disturbed.rounds["arrival_s"].max() == pytest.approx(calm.rounds["arrival_s"].max())


def test_a_healthy_slow_worker_is_waited_for_while_another_fails_again_and_again():
    faults = {"crashes": {"time_between": 1, "repair": 1, "workers": [1]}}
    record = ran(faults, [1000.0, 10.0], synchronization={"grace": 0}, budget={"local_steps": 5})
    assert record.rounds["worker"].tolist() == [0]


def test_a_worker_that_can_never_send_frees_the_barrier_when_it_leaves():
    trace = [[0, 1, "disconnect"], [0, 100, "leave"]]
    network = {"network": {"latency": 0.1}}
    record = ran({"trace": trace}, [1.0, 1.0], **SYNC, cluster=network, budget={"local_steps": 20})
    assert record.rounds["update_s"].min() >= 100


def test_a_timeout_of_no_time_ends():
    synchronization = BARRIER | {"timeout": 0, "quorum": 2}
    record = ran(
        {"crashes": {"time_between": "20s", "repair": "5s"}},
        [1.0, 1.0, 2.0],
        **SYNC | {"synchronization": synchronization},
    )
    assert verify(record) == []


def test_the_faults_of_a_record_are_a_trace_that_repeats_them(tmp_path: Path):
    faults = {
        "crashes": {"time_between": 60, "repair": 9, "workers": [0]},
        "preemption": {"time_between": 90, "absence": 20, "notice": "4s"},
        "slowdowns": {"time_between": 20, "duration": 9, "factor": 2.5},
        "link_outages": {"time_between": 40, "duration": 3},
        "server_outages": {"time_between": 80, "duration": 5},
        "joins": [0, 0, 30, 10_000],
        "departures": {"after": 400, "workers": [1]},
    }
    first = ran(faults, [0.58, 0.75, 1.51, 3.33], budget={"local_steps": 800})
    assert {"crash", "preemption", "departure", "late", "notice", "slow", "disconnect", "server down", "lost"} <= set(
        first.faults["fault"]
    )
    assert first.faults.loc[first.faults["fault"] == "slow", "factor"].unique().tolist() == [2.5]
    first.write(tmp_path)
    repeated = ran({"trace": str(tmp_path / "faults.parquet")}, [0.58, 0.75, 1.51, 3.33], budget={"local_steps": 800})
    pd.testing.assert_frame_equal(first.rounds, repeated.rounds)
    told = first.faults.astype({"fault": str})
    told.loc[(told["worker"] == 3) & (told["fault"] == "late"), "fault"] = "departure"  # who never joins has left
    order = ["time_s", "worker", "fault"]
    pd.testing.assert_frame_equal(
        told.sort_values(order, ignore_index=True),
        repeated.faults.astype({"fault": str}).sort_values(order, ignore_index=True),
    )
