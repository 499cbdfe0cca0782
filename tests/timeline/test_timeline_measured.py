"""Workers whose step times and links were measured over time: when things happen, worked out by hand."""

import dataclasses
from typing import Any

from simulator.cluster import ClusterModel, build_cluster
from simulator.cluster.traces import PaceTrace
from simulator.experiment.schema.cluster import Cluster
from simulator.timeline import Schedule
from tests.timeline import builders as build

STEPS = [(0, 0.0, 0.5), (0, 2.0, 1.0), (0, 8.0, 0.25)]
RATES = [[0, 0, "400Mbit/s"], [1, 0, "80Mbit/s"], [4, 0, "160Mbit/s"]]


def traced(**settings: Any) -> ClusterModel:
    return dataclasses.replace(build.cluster([0.5], **settings), trace=PaceTrace(STEPS))


def test_rounds_across_changes_of_speed():
    history = build.events(traced(), steps=[10], budget_local_steps=30)
    assert [build.times_s(each)[2:] for each in build.arrivals(history)] == [(0, 8, 8), (8, 10.5, 10.5), (10.5, 13, 13)]


def test_what_is_finished_when_a_worker_goes_away_is_what_the_trace_has_done():
    faults = {"trace": [[0, 5, "notice"], [0, 6, "preempt"], [0, 9, "join"]]}
    history = build.events(traced(faults=faults), steps=[10], budget_local_steps=17)
    told = [line for line in build.log(history) if not line[1].startswith("evaluate")]
    assert told[:4] == [(0, "start 0"), (5, "notice 0"), (5, "cut 0 to 7"), (5, "applied 0 -> v1")]
    assert told[-2:] == [(11.5, "applied 0 -> v2"), (11.5, "finish")]


def test_a_transfer_across_two_changes_of_rate():
    network = {"message_size": "100MB", "latency": "500ms", "trace": RATES}
    section = Cluster.model_validate({"devices": {"seconds_per_step": [1.5]}, "network": network})
    model = build_cluster(section, parameters=1, flops_per_step=1.0, seed=0)
    history = build.events(model, steps=[1], budget_local_steps=2)
    # 50 MB by 1 s, 30 MB by 4 s, 20 MB by 5 s, latency; later 100 MB take 5 s.
    assert [build.times_s(each)[1:] for each in build.arrivals(history)] == [(0, 5.5, 7, 12.5), (12.5, 18, 19.5, 25)]


def test_messages_at_the_same_time_each_have_the_rate():
    network = {"message_size": "100MB", "trace": [*RATES, *([time_s, 1, rate] for time_s, _, rate in RATES)]}
    section = Cluster.model_validate({"devices": {"seconds_per_step": [1.0, 1.0]}, "network": network})
    model = build_cluster(section, parameters=1, flops_per_step=1.0, seed=0)
    history = build.events(model, steps=[1, 1], budget_local_steps=2)
    assert [build.times_s(each) for each in build.arrivals(history)] == [(0, 0, 5, 6, 11)] * 2


def test_a_worker_that_works_by_the_clock_does_as_many_steps_as_its_trace_has_time_for():
    history = build.events(traced(), schedule=Schedule(seconds=4.0), steps=[1], budget_local_steps=40)
    steps = [round.steps for round in build.rounds(history)]
    assert steps[:4] == [6, 4, 16, 16]  # 4 until 2 s and 2 until 4 s; 4 until 8 s; four a second from then on


def test_a_trace_of_one_speed_changes_nothing():
    constant = PaceTrace([(0, time_s, 0.3) for time_s in (0.0, 1.0, 7.0)])
    plain = build.cluster([0.3], jitter=0.2)
    one, other = (
        build.events(model, steps=[7], budget_local_steps=70)
        for model in (plain, dataclasses.replace(plain, trace=constant))
    )
    assert one == other
    assert len(one) > 20
