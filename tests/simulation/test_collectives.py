"""All-reduce against one server: the same numbers, bit for bit, and none of its messages."""

from typing import Any

import numpy as np
import pytest

from simulator import Cache, simulate
from simulator.experiment import ExperimentError
from simulator.experiment.file import merge
from simulator.learning import Setup
from tests.experiments import tiny
from tests.killed_runs import CLASSIFIER
from tests.simulation.quadratic_cluster import NESTEROV, Followed, experiment

ALL_REDUCE = {"topology": {"kind": "all_reduce"}}
CACHE = Cache()
METHODS: dict[str, dict[str, Any]] = {
    "DiLoCo": {"outer": NESTEROV},
    "streaming": {
        "schedule": {"fragments": 3, "overlap": 2},
        "merge": {"kind": "lerp"},
        "compression": {"kind": "fp4"},
    },
    "eager": {"schedule": {"overlap": 6}, "merge": {"kind": "eager", "share": 1 / 3}, "outer": NESTEROV},
    "at the worker": {"merge": {"kind": "outer"}, "outer": NESTEROV},
    "error feedback": {"compression": {"kind": "sign", "feedback": 0.9}},
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("algorithm", ["ring", "star"])
def test_what_is_learned_is_that_of_a_server_bit_for_bit(method: str, algorithm: str):
    """Also over links whose time differs: the members of a barrier's meetings are the same."""
    slow = {"cluster": {"network": {"bandwidth": "20B/s", "latency": "100ms"}}}
    step_s = [1.0, 1.7, 3.1]
    server = Followed(experiment(step_s, METHODS[method]))
    topology = {"topology": {"kind": "all_reduce", "algorithm": algorithm}}
    collective = Followed(experiment(step_s, METHODS[method], topology, slow))
    assert collective.timeline.now_s > server.timeline.now_s
    np.testing.assert_array_equal(collective.params, server.params)
    if method == "DiLoCo":
        assert collective.timeline.causal_hash == server.timeline.causal_hash


def test_training_is_shared_by_all_algorithms():
    ring, tree, server = (
        Setup(tiny(**merge(CLASSIFIER, {"synchronization": {"kind": "barrier"}, "topology": topology})), CACHE)
        for topology in ({"kind": "all_reduce"}, {"kind": "all_reduce", "algorithm": "tree"}, {"kind": "server"})
    )
    assert ring.learning_settings == tree.learning_settings != server.learning_settings


def test_a_record_has_its_time_bytes_and_money():
    """Three workers with steps of 1 s; a message of 300 bytes at 300 bytes/s takes 4/3 s in a ring."""
    changes: dict[str, Any] = {
        "cluster": {
            "devices": {"seconds_per_step": [1.0, 1.0, 1.0]},
            "network": {"message_size": "300B", "bandwidth": "300B/s", "price_per_gigabyte": 1e9},
        },
        "synchronization": {"kind": "barrier"},
        "outer": {"optimizer": "nesterov", "learning_rate": 0.4, "momentum": 0.9, "weight": 1.0},
        "inner": {"local_steps": 2},
        "budget": {"local_steps": 12},
    }
    record = simulate(tiny(**merge(merge(CLASSIFIER, changes), ALL_REDUCE)), trainer="null", cache=CACHE)
    sent = record.transfers
    assert sent["begin_s"].tolist() == pytest.approx([2.0] * 3 + [2 + 4 / 3 + 2] * 3)
    assert sent["end_s"].tolist() == pytest.approx([2 + 4 / 3] * 3 + [2 * (2 + 4 / 3)] * 3)
    assert set(sent["bytes"]) == {400}  # 2 (M - 1)/M of 300
    assert record.summary["bytes_sent"] == 2 * 3 * 400
    assert record.summary["money"] == pytest.approx(2400)
    assert record.rounds["bytes_up"].tolist() == [400] * 6
    assert record.rounds["bytes_down"].tolist() == [0] * 6
    assert record.summary["utilization"] == pytest.approx(2 / (2 + 4 / 3))


def test_layers_are_for_timelines_alone():
    changes = {"schedule": {"layers": 4, "fragments": 4, "phases": 1}, "synchronization": {"kind": "barrier"}}
    with pytest.raises(ExperimentError, match=r"schedule\.layers.*for timelines"):
        simulate(tiny(**merge(CLASSIFIER, changes)), cache=CACHE)
