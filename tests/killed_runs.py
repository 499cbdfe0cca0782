"""Simulates in processes that are killed at random moments and go on, and writes down what they made in the end.

A script, because only a process without threads may fork, and importing the simulator once for each would take long.
"""

import json
import os
import random
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orbax.checkpoint  # noqa: F401  # once, not in every process

from simulator import Cache, load, simulate
from simulator.experiment import Experiment
from simulator.experiment.file import merge
from simulator.progress.observer import Progress
from simulator.record import checkpoints
from tests.experiments import TINY

KILLS = 1  # of every variant, and more of those whose sends overlap training, or that have several servers or none
MORE_KILLS = 5
NESTEROV = {"optimizer": "nesterov", "learning_rate": 0.5, "momentum": 0.9}
DELAYED = {"optimizer": "delayed_nesterov", "learning_rate": 0.5, "momentum": 0.9, "buffer": 4}
CLASSIFIER = {  # compiles fast
    "model": {"kind": "mlp", "hidden": [8]},
    "data": {"source": "gaussian-clusters", "dimension": 5, "points": 400, "evaluation_points": 64},
    "inner": {"optimizer": "sgd", "arguments": {"momentum": 0.9}, "learning_rate": 0.1},
}
FAULTS = {
    "crashes": {"time_between": "30s", "repair": "5s", "in_flight": "delivered", "workers": [0, 1]},
    "preemption": {"time_between": "40s", "absence": "6s", "notice": "2s", "workers": [2]},
    "slowdowns": {"time_between": "20s", "duration": "10s", "factor": 3},
    "message_loss": {"probability": 0.3, "timeout": "500ms", "attempts": 3},
    "link_outages": {"time_between": "30s", "duration": "3s"},
    "trace": [[3, 15, "crash"], [3, 22, "join"], [1, 30, "leave"]],
}
MEASURED = {  # by traces
    "cluster": {
        "devices": {
            "trace": [[0, 0, 0.5], [20, 0, 1.5], [0, 1, 0.75], [0, 2, 1.5], [9, 2, 0.5], [0, 3, 3.25]],
            "repeat_every": "50s",
        },
        "network": {"latency": "100ms", "trace": [[0, 0, "8kbit/s"], [6, 0, "2kbit/s"], [30, 0, "8Mbit/s"]]},
    }
}
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "sync": {"synchronization": {"kind": "barrier"}, "outer": NESTEROV | {"weight": 1.0}, "pretrain": {"steps": 3}},
    "async": {},
    "DN": {"outer": DELAYED | {"weight": 1.0}, "inner": {"state": "reset"}},
    "DN + DyLU": {"outer": DELAYED | {"weight": 1.0}, "local_steps": {"kind": "dynamic"}, "compute": {"lanes": 4}},
    "FedBuff": {
        "outer": {"arrivals_per_update": 3, "staleness": {"kind": "threshold", "drop_above": 4}},
        "inner": {"schedule": {"kind": "cosine", "warmup_steps": 5}},
    },
    "faults": {
        "cluster": {"faults": FAULTS},
        "local_steps": {"kind": "dynamic", "speed": "measured"},
        "outer": DELAYED | {"weight": 1.0},
        "compute": {"lanes": 4},
    },
    "faults, sync": {
        "cluster": {"faults": FAULTS},
        "synchronization": {"kind": "barrier", "timeout": "20s", "quorum": 2},
        "outer": NESTEROV | {"weight": 1.0},
    },
    "streaming, faults": {
        "cluster": {"faults": FAULTS},
        "method": {"kind": "streaming_diloco", "fragments": 2, "overlap": 2, "composition": "by_size"},
        "compression": {"kind": "fp4", "feedback": 0.9},
    },
    "eager": {"method": "eager_updates"},
    "HALoS": {"method": {"kind": "halos", "regions": 2, "every_versions": 2, "latency": "500ms"}},
    "NoLoCo, faults": {
        "cluster": {"faults": {key: value for key, value in FAULTS.items() if key != "message_loss"}},
        "method": "noloco",
    },
}

STOPPED: Mapping[str, Mapping[str, Any]] = {  # in a process of its own is none of these killed
    "adaptive batch": {"method": {"kind": "adaptive_batch", "threshold": 0.4, "most": 5}},
    "EDiT": {"method": {"kind": "a_edit", "seconds": "5s"}},
    "HeLoCo": {"method": "heloco"},
    "DuDe": {"method": "dude_asgd"},
    "batches of their own": {"inner": {"batch_size": [6, 4, 2, 4]}, "cluster": {"faults": FAULTS}},
    "batches in parts": {"inner": {"accumulation": 2}, "pretrain": {"steps": 3, "accumulation": 4}},
    "Ringleader": {"method": "ringleader_asgd"},
    "Decoupled": {"method": {"kind": "decoupled_diloco", "fragments": 2, "quorum": 2}},
    "Decoupled, adaptive": {"method": {"kind": "decoupled_diloco", "fragments": 2, "grace": "5s", "share": 0.5}},
    "SparseLoCo": {"method": "sparse_loco"},
    "bins": {"method": "diloco", "compression": {"kind": "statistical", "width": 3, "rows": True, "feedback": 0.9}},
    "HeLoCo, fading": {"method": "heloco", "outer": {"worst": -0.2, "bound_first": True}},
    "PALSGD": {"method": "palsgd"},
    "pipelines": {
        "method": {"kind": "nesterov_pipeline", "stages": 4, "optimizer": "sgd", "correction_steps": 20},
        "model": {"hidden": [8, 8, 8]},
    },
    "Photon": {"method": {"kind": "photon", "sample": 2}, "cluster": {"faults": FAULTS}},
    "measured": MEASURED,
    "restarts": {"outer": NESTEROV | {"restart_every": 3}},
    "SMALLTALK": {
        "model": TINY["model"],
        "data": {
            "source": "text",
            "files": "simulator/methods/*.py",
            "validation_fraction": 0.2,
            "partition": {"kind": "routed", "assignments": 3, "steps": 2},  # of another source the method's is not kept
        },
        "method": "smalltalk",
        "evaluate": {"per_shard": True},
    },
}

# Without faults and a choice of steps there is less that a process can leave behind.
KILLED = [variant for variant in VARIANTS if variant not in ("sync", "async", "DN")]


def experiment_of(variant: str) -> Experiment:
    """Returns the variant, which writes its state down after every eighth update."""
    often = {"every_updates": 8, "every_host_minutes": None}
    tree = merge(
        merge(TINY, CLASSIFIER), {"checkpoint": often, "variants": {variant: {**VARIANTS, **STOPPED}[variant]}}
    )
    [point] = load(tree)
    return point.experiment


def kills_of(variant: str) -> int:
    """Returns how often the processes of a variant are killed."""
    return MORE_KILLS if "method" in VARIANTS[variant] else KILLS


class _Telling:
    """Tells every update with a letter."""

    def __init__(self, told: int):
        self._told = told

    def pretrained(self, steps: int, of: int, loss: float) -> None:
        os.write(self._told, b"p")

    def advanced(self, progress: Progress) -> None:
        os.write(self._told, b"u")


def _simulate(variant: str, folder: Path, told: int) -> int:
    save = checkpoints.Checkpoints.save

    def telling(self: checkpoints.Checkpoints, checkpoint: checkpoints.Checkpoint) -> None:
        os.write(told, b"(")
        save(self, checkpoint)
        os.write(told, b")")

    checkpoints.Checkpoints.save = telling  # type: ignore[method-assign]
    try:
        record = simulate(
            experiment_of(variant), observer=_Telling(told), cache=Cache(), checkpoints=folder / "checkpoints"
        )
        record.write(folder)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def attempt(variant: str, folder: Path, kill_after: int | None) -> tuple[int, str]:
    """Returns how a process ended and what it told; it is killed after so many letters."""
    events, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        os._exit(_simulate(variant, folder, told))
    os.close(told)
    heard = ""
    while letter := os.read(events, 1).decode():
        heard += letter
        if len(heard) == kill_after:
            os.kill(pid, signal.SIGKILL)
    os.close(events)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), heard


def killed_again_and_again(variant: str, folder: Path) -> list[tuple[int, str]]:
    """Simulates a variant without a break, and with many; returns how its processes ended."""
    random.seed(variant)
    kills = kills_of(variant)
    status, whole = attempt(variant, folder / "whole", None)
    assert status == 0
    killed = [
        attempt(variant, folder / "killed", random.randint(1, len(whole) // kills))  # from where the last one was
        for _ in range(kills)
    ]
    return [*killed, attempt(variant, folder / "killed", None)]


if __name__ == "__main__":
    outcomes = {variant: killed_again_and_again(variant, Path(sys.argv[1], variant)) for variant in KILLED}
    sys.stdout.write(json.dumps(outcomes))
