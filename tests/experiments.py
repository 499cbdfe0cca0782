"""Small experiments that tests run."""

import os
from pathlib import Path
from typing import Any

from simulator.experiment import Experiment
from simulator.experiment.file import merge

TINY: dict[str, Any] = {
    "name": "tiny",
    "model": {"kind": "transformer", "layers": 1, "width": 16, "heads": 2, "context": 8},
    "data": {"source": "synthetic", "vocabulary": 16, "tokens": 20_000, "validation_tokens": 2_000},
    "cluster": {"devices": {"seconds_per_step": [0.58, 0.75, 1.51, 3.33]}},
    "inner": {"learning_rate": 1e-2, "batch_size": 4, "local_steps": 5},
    "synchronization": {"kind": "asynchronous", "grace": "0.5s"},
    "outer": {"optimizer": "nesterov", "learning_rate": 0.5, "momentum": 0.9, "weight": 0.25},
    "budget": {"local_steps": 200},
    "evaluate": {"every_local_steps": 50, "windows": 32, "batch_size": 16},
}


def tiny(**changes: Any) -> Experiment:
    """Returns a simulation of a few seconds: four unequal workers, a very small transformer, a Markov source."""
    return Experiment.model_validate(merge(TINY, changes))


def outside() -> dict[str, str]:
    """Returns the environment of a process that runs the simulator as a user does, from any folder."""
    environment = {key: value for key, value in os.environ.items() if key != "JAX_NUMPY_DTYPE_PROMOTION"}
    return environment | {"PYTHONPATH": str(Path(__file__).parents[1])}
