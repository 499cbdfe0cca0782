"""Every kind of method: trainers agree, nothing is compiled again and again, and training is shared."""

import functools
from typing import Any

import numpy as np
import pytest

from simulator import Cache, simulate
from simulator.experiment import Experiment
from simulator.experiment.file import merge
from simulator.sweep.reuse_plan import sharing
from simulator.verify import verify
from tests.experiments import tiny
from tests.killed_runs import CLASSIFIER
from tests.simulation.quadratic_cluster import NESTEROV, Followed, experiment

CACHE = Cache()
BASE: dict[str, Any] = {
    "synchronization": {"kind": "barrier"},
    "outer": {"optimizer": "nesterov", "learning_rate": 0.2, "momentum": 0.9, "weight": 1.0},
    "inner": {"local_steps": 6, "learning_rate": 0.05},
    "cluster": {"network": {"bandwidth": "10kB/s", "latency": "100ms"}},
    "compute": {"lanes": 4},
    "budget": {"local_steps": 150},
}
SGD = {"optimizer": "sgd", "learning_rate": 1.0}
PARTS = {"composition": "by_size"}
ASYNCHRONOUS = {"kind": "asynchronous"}
KINDS: dict[str, dict[str, Any]] = {
    "overlap": {"schedule": {"overlap": 2}},
    "streaming": {
        "schedule": {"fragments": 3, "overlap": 1} | PARTS,
        "merge": {"kind": "lerp", "mix": 0.5},
        "compression": {"kind": "fp4"},
    },
    "eager": {"schedule": {"overlap": 6}, "merge": {"kind": "eager", "share": "1/workers"}},
    "outer at the worker": {"merge": {"kind": "outer"}},
    "regions": {
        "synchronization": ASYNCHRONOUS,
        "topology": {"kind": "regions", "regions": 2, "every_versions": 2, "mix": 0.25, "latency": "1s", "outer": SGD},
    },
    "pairs": {
        "topology": {"kind": "groups"},
        "offer": {"weights": True},
        "outer": {"optimizer": "noloco", "learning_rate": 0.7, "momentum": 0.5},
    },
    "nobody": {"topology": {"kind": "nobody"}},
    "quorum of fragments": {
        "synchronization": {"kind": "quorum", "offers": 2, "window": "1s"},
        "schedule": {"fragments": 2, "overlap": 2} | PARTS,
        "aggregation": {"kind": "weighted"},
    },
    "by the clock": {"schedule": {"seconds": "6s"}},
    "sparse, with feedback": {"compression": {"kind": "top_k", "width": 2, "feedback": 0.95}},
    "random subsets, progress kept": {
        "compression": {"kind": "random", "share": 0.5},
        "schedule": {"overlap": 3},
        "merge": {"kind": "keep_progress"},
    },
    "look-ahead": {"synchronization": ASYNCHRONOUS, "view": {"kind": "look_ahead"}},
}


def of_kind(kind: str, **changes: Any) -> Experiment:
    return tiny(**functools.reduce(merge, [BASE, KINDS[kind], changes], CLASSIFIER))


@pytest.mark.parametrize("kind", KINDS)
def test_serial_batched_and_timeline_agree(kind: str):
    made = of_kind(kind)
    batched, serial, alone = (simulate(made, cache=CACHE, trainer=trainer) for trainer in ("batched", "serial", "null"))
    np.testing.assert_allclose(batched.evaluations["loss"], serial.evaluations["loss"], rtol=1e-4)
    assert batched.evaluations["loss"].iloc[-1] != batched.evaluations["loss"].iloc[0]
    assert batched.summary["causal_hash"] == serial.summary["causal_hash"] == alone.summary["causal_hash"]
    for name in ("updates", "transfers"):
        assert getattr(batched, name).equals(getattr(alone, name))
    assert verify(batched) == verify(alone) == []


def test_fragments_with_overlap_compile_nothing_after_the_first_rounds():
    """Lengths of stretches are data: rounds of two steps, each cut in two by an acceptance."""
    method = {
        "inner": {"local_steps": 6},
        "schedule": {"fragments": 3, "overlap": 1, "composition": "by_size"},
        "merge": {"kind": "lerp", "mix": 0.5},
        "outer": NESTEROV,
    }
    counts = []
    for rounds in (3, 9):
        made = Followed(experiment([1.0, 1.7, 3.1], method, rounds=rounds))
        exchange = made.setup.exchanges.exchange
        programs = made.setup.quadratic[0]
        compiled = [function._cache_size() for function in (exchange.offer, exchange.merge)]
        counts.append([programs.compilations, *compiled])
    assert counts[0][0] <= 3  # of one, two and four lanes
    assert counts[0] == counts[1]


def test_sixteen_bandwidths_of_an_overlapped_run_are_trained_once():
    bandwidths = [f"{10 + number}kB/s" for number in range(16)]
    made = [of_kind("overlap", cluster={"network": {"bandwidth": each}}) for each in bandwidths]
    plan = sharing(made, bandwidths, CACHE)
    assert plan.groups(16) == [list(range(16))]
    assert [plan.source(index) for index in range(1, 16)] == [(0, True)] * 15
    first = simulate(made[0], cache=CACHE, share=plan.share(0))
    plan.done(0, first)
    last = simulate(made[15], cache=CACHE, share=plan.share(15))
    alone = simulate(made[15], cache=CACHE)
    assert last.summary["reused"]["from"] == "10kB/s"
    assert last.evaluations.equals(alone.evaluations)
    assert last.rounds.equals(alone.rounds)
    assert last.summary["parameters_hash"] == alone.summary["parameters_hash"]
    assert last.summary["simulated_seconds"] != first.summary["simulated_seconds"]
