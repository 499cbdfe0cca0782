from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cluster import build_cluster, length_at_most
from simulator.experiment import Experiment
from simulator.experiment.file import merge
from simulator.timeline import Evaluation, Finished, Update, timeline_of
from tests.experiments import TINY

BARRIER = {"synchronization": {"kind": "barrier"}, "outer": {"weight": 1.0}}
SAMPLED = {"synchronization": {"kind": "barrier", "sample": 1}, "outer": {"weight": 1.0}}


def lengths(**changes: Any) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """How long an experiment is said to be, and is: local steps, rounds and evaluations."""
    base = {key: value for key, value in TINY.items() if key not in changes.pop("without", ())}
    experiment = Experiment.model_validate(merge(base, changes))
    cluster = build_cluster(experiment.cluster, parameters=1000, flops_per_step=1e9, seed=0)
    events = list(timeline_of(experiment, cluster, None))
    rounds = sum(len(event.arrivals) for event in events if isinstance(event, Update))
    [end] = [event for event in events if isinstance(event, Finished)]
    evaluations = sum(isinstance(event, Evaluation) for event in events)
    return length_at_most(experiment, cluster), (end.local_steps, rounds, evaluations)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"budget": {"local_steps": 200}, "evaluate": {"every_local_steps": 50}}, (200, 40, 4)),
        ({"budget": {"server_updates": 30, "local_steps": None}}, (150, 30, 3)),
        ({"budget": {"server_updates": 30, "local_steps": None}} | BARRIER, (600, 120, 12)),
        ({"budget": {"server_updates": 30, "local_steps": None}} | SAMPLED, (150, 30, 3)),
        ({"budget": {"simulated_time": "1h", "local_steps": None}}, (12_600, 2_520, 252)),
        ({"budget": {"simulated_time": "1h", "local_steps": None}} | BARRIER, (7_200, 1_440, 144)),
        (
            {"cluster": {"server_update_time": "10s"}, "budget": {"simulated_time": "1h", "local_steps": None}},
            (1800, 360, 36),
        ),
    ],
)
def test_lengths_by_hand(changes, expected):
    changes = {"cluster": {}, "synchronization": {"grace": 0}} | changes
    changes["cluster"] = {"devices": {"seconds_per_step": [1, 1, 1, 2]}} | changes["cluster"]
    found, real = lengths(**changes)
    assert found == pytest.approx(expected)
    assert real[0] == pytest.approx(expected[0], rel=0.15)


@settings(max_examples=40)
@given(
    synchronization=st.sampled_from([BARRIER, SAMPLED, {}, {"synchronization": {"grace": "10s"}}]),
    step_s=st.lists(st.floats(0.1, 5.0), min_size=1, max_size=4),
    network=st.sampled_from(
        [
            {},
            {"latency": "1s"},
            {"bandwidth": "1kB/s", "up": {"latency": "3s"}},
            {"server_link": {"bandwidth": "500B/s"}},
        ]
    ),
    dynamic=st.booleans(),
    update_s=st.sampled_from([0.0, 1.0]),
    budget=st.sampled_from([{"simulated_time": 300.0}, {"server_updates": 9}, {"local_steps": 100}]),
)
def test_no_simulation_is_longer_than_it_is_said_to_be(synchronization, step_s, network, dynamic, update_s, budget):
    devices = {"seconds_per_step": step_s}
    changes = {
        **synchronization,
        "cluster": {"devices": devices, "network": network, "server_update_time": update_s},
        "local_steps": {"kind": "dynamic" if dynamic else "fixed"},
        "budget": {"local_steps": None} | budget,
    }
    found, real = lengths(**changes)
    one_more = 5 * len(step_s)  # a round of everybody, which may end where the budget does
    assert real[0] <= found.local_steps + one_more
    assert dynamic or real[1] <= found.rounds + len(step_s)


def test_devices_that_take_no_time_have_no_end():
    found, _ = lengths(cluster={"devices": {"seconds_per_step": [1e-320, 1]}}, budget={"local_steps": 10})
    assert found.local_steps == 10
    assert not found.is_long
