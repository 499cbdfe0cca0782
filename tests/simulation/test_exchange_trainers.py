"""Every kind of method: trainers agree, nothing is compiled again and again, and training is shared."""

import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

from simulator import Cache, simulate
from simulator.experiment import Experiment
from simulator.experiment.file import merge
from simulator.record import DIAGNOSTICS
from simulator.sweep.reuse_plan import sharing
from simulator.verify import verify
from tests.experiments import outside, tiny
from tests.killed_runs import CLASSIFIER

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
    "six fragments": {
        "model": {"hidden": [8, 8]},
        "inner": {"local_steps": 12},
        "schedule": {"fragments": 6, "overlap": 3} | PARTS,
    },
    "pulls": {"inner": {"pull": {"probability": 0.4}}},
    "pipelines": {
        "model": {"hidden": [8, 8, 8]},
        "inner": {"stages": {"kind": "asynchronous", "count": 4, "adaptive_momentum": 0.95}},
        "cluster": {"pipeline": {"shares": [1, 2, 1, 1], "latency": "10ms"}},
    },
    "drained pipelines": {
        "model": {"hidden": [8, 8]},
        "inner": {"stages": {"kind": "asynchronous", "count": 3}, "state": "reset"},
    },
    "pipelines in fragments": {
        "model": {"hidden": [8, 8]},
        "inner": {"stages": {"kind": "asynchronous", "count": 3}},
        "schedule": {"fragments": 3, "overlap": 1} | PARTS,
    },
    "GPipe's pipelines": {
        "model": {"hidden": [8, 8]},
        "inner": {"stages": {"kind": "gpipe", "count": 3, "micro_batches": 2}},
    },
    "batches that grow": {
        "synchronization": ASYNCHRONOUS,
        "inner": {"batch_size": 2, "micro_batches": {"start": 2, "threshold": 0.6, "most": 12}},
    },
    "batches of their own": {"synchronization": ASYNCHRONOUS, "inner": {"batch_size": [6, 2, 2, 4]}},
    "batches in parts": {"inner": {"batch_size": 6, "accumulation": 3}},
    "batches in parts that grow": {
        "synchronization": ASYNCHRONOUS,
        "inner": {"batch_size": 2, "accumulation": 2, "micro_batches": {"start": 2, "threshold": 0.6, "most": 12}},
    },
    "weights by norm": {"aggregation": {"kind": "edit", "clip_norm": 0.5}},
    "direction and norm apart, in fragments": {
        "synchronization": {"kind": "quorum", "offers": 2, "window": "1s"},
        "schedule": {"fragments": 2, "overlap": 2} | PARTS,
        "aggregation": {"kind": "direction"},
    },
    "mean over senders": {"compression": {"kind": "top_k", "density": 0.2}, "aggregation": {"kind": "senders"}},
    "a table": {
        "synchronization": ASYNCHRONOUS,
        "outer": {"optimizer": "dude", "learning_rate": 0.2, "workers": "workers"},
    },
    "turned towards the momentum": {
        "synchronization": ASYNCHRONOUS,
        "view": {"kind": "look_ahead"},
        "outer": {"optimizer": "heloco", "learning_rate": 0.2},
    },
    "look-ahead": {"synchronization": ASYNCHRONOUS, "view": {"kind": "look_ahead"}},
}
# Those whose rounds differ, in length, cuts, starts or steps: what servers do is done on the first device anyway.
ON_DEVICES = (
    "overlap",
    "streaming",
    "eager",
    "regions",
    "pairs",
    "by the clock",
    "six fragments",
    "pulls",
    "pipelines",
    "batches that grow",
    "batches in parts",
    "batches of their own",
)


def of_kind(kind: str, **changes: Any) -> Experiment:
    return tiny(**functools.reduce(merge, [BASE, KINDS[kind], changes], CLASSIFIER))


SIMULATE = """
import json
import jax
from simulator import simulate
from tests.simulation.test_exchange_trainers import CACHE, ON_DEVICES, of_kind

records = {kind: simulate(of_kind(kind), cache=CACHE) for kind in ON_DEVICES}
found = {kind: [record.summary["causal_hash"], record.evaluations["loss"].tolist()] for kind, record in records.items()}
print(json.dumps([jax.local_device_count(), found]))
"""


@pytest.fixture(scope="module")
def on_three_devices() -> dict[str, tuple[str, list[float]]]:
    """Causal hash and losses of some kinds, in a process with three devices."""
    environment = outside() | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "3"}
    command = [sys.executable, "-c", SIMULATE]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    devices, found = json.loads(done.stdout)
    assert devices == 3
    return found


@pytest.fixture
def compilations() -> Iterator[list[str]]:
    """Programs that were compiled so far in this test."""
    compiled: list[str] = []

    def listen(event: str, duration_s: float, **_: Any) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield compiled
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("kind", KINDS)
def test_trainers_devices_and_timeline_agree_and_nothing_is_compiled_late(
    kind: str, on_three_devices: dict[str, tuple[str, list[float]]], compilations: list[str]
):
    """Lengths of stretches are data, and so is what is accepted between them."""
    made, cache, counts = of_kind(kind), Cache(), [0]

    def count() -> bool:
        counts.append(len(compilations))
        return False

    batched = simulate(made, cache=cache, stop=count)
    assert 0 < counts[len(counts) // 2] == counts[-1]

    serial = simulate(made, cache=cache, trainer="serial")
    needs_training = made.inner.micro_batches is not None
    alone = serial if needs_training else simulate(made, cache=cache, trainer="null")
    assert (batched.rounds["micro_batches"].nunique() > 1) == (made.inner.room is not None)
    hashed = batched.summary["causal_hash"]
    causal_hash, losses = on_three_devices.get(kind, (hashed, batched.evaluations["loss"]))
    for others in (serial.evaluations["loss"], losses):
        np.testing.assert_allclose(others, batched.evaluations["loss"], rtol=1e-4)
    assert batched.evaluations["loss"].iloc[-1] != batched.evaluations["loss"].iloc[0]
    assert hashed == serial.summary["causal_hash"] == alone.summary["causal_hash"] == causal_hash
    assert batched.transfers.equals(alone.transfers)
    of_the_clock = batched.updates.columns.difference(DIAGNOSTICS)
    assert batched.updates[of_the_clock].equals(alone.updates[of_the_clock])
    assert batched.updates["norm"].notna().all()
    assert verify(batched) == verify(alone) == []


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
