"""tardigrad: simulates heterogeneous clusters on one host and trains a real model as they would."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.cores import use_cpu_cores
    from simulator.engine import Observer, Progress, Simulation, check, simulate
    from simulator.experiment import Experiment, ExperimentError, Point, expand, load
    from simulator.learning import Workshop, register_outer
    from simulator.record import RunRecord, read_runs
    from simulator.sweeping.outcomes import PointsFailedError
    from simulator.sweeping.sweep import Local, OnRay, run_points

_HOME = {
    "Experiment": "simulator.experiment",
    "ExperimentError": "simulator.experiment",
    "Local": "simulator.sweeping.sweep",
    "Observer": "simulator.engine",
    "OnRay": "simulator.sweeping.sweep",
    "Point": "simulator.experiment",
    "PointsFailedError": "simulator.sweeping.outcomes",
    "Progress": "simulator.engine",
    "RunRecord": "simulator.record",
    "Simulation": "simulator.engine",
    "Workshop": "simulator.learning",
    "check": "simulator.engine",
    "expand": "simulator.experiment",
    "load": "simulator.experiment",
    "read_runs": "simulator.record",
    "register_outer": "simulator.learning",
    "run_points": "simulator.sweeping.sweep",
    "simulate": "simulator.engine",
    "use_cpu_cores": "simulator.cores",
}

__all__ = [
    "Experiment",
    "ExperimentError",
    "Local",
    "Observer",
    "OnRay",
    "Point",
    "PointsFailedError",
    "Progress",
    "RunRecord",
    "Simulation",
    "Workshop",
    "check",
    "expand",
    "load",
    "read_runs",
    "register_outer",
    "run_points",
    "simulate",
    "use_cpu_cores",
]


def __getattr__(name: str) -> Any:
    """Imports public names when they are first used, so that the timeline works without loading JAX."""
    if name not in _HOME:
        raise AttributeError(f"module 'simulator' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)
