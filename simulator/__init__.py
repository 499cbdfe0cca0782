"""tardigrad: simulates heterogeneous clusters on one host and trains a real model as they would."""

# ruff: noqa: F401 (imported for editors and type checkers, which then know the names that are loaded late)

import importlib
from typing import TYPE_CHECKING, Any

from simulator.host.jax_setup import avoid_cuda_without_driver

if TYPE_CHECKING:
    from simulator.api import build_experiment, simulate_all, vary
    from simulator.experiment import Experiment, ExperimentError, Point, expand, load
    from simulator.experiment.methods import register_method
    from simulator.experiment.plugins import import_plugins
    from simulator.experiment.registry import register
    from simulator.host.jax_setup import use_cpu_cores
    from simulator.learning import Cache, Setup, register_outer
    from simulator.progress.observer import Observer, Progress
    from simulator.progress.trackers import TensorBoard, WeightsAndBiases, track
    from simulator.record import RunRecord
    from simulator.report.runs import Runs, read_runs
    from simulator.simulation.checks import check
    from simulator.simulation.simulate import Simulation, simulate
    from simulator.sweep.engines import Local, OnRay
    from simulator.sweep.outcomes import PointsFailedError
    from simulator.sweep.sweep import run_points
    from simulator.timeline import (
        ServerView,
        SynchronizationPolicy,
        register_local_steps,
        register_shard_choice,
        register_synchronization,
    )

_HOME = {
    "Cache": "simulator.learning",
    "Experiment": "simulator.experiment",
    "ExperimentError": "simulator.experiment",
    "Local": "simulator.sweep.engines",
    "Observer": "simulator.progress.observer",
    "OnRay": "simulator.sweep.engines",
    "Point": "simulator.experiment",
    "PointsFailedError": "simulator.sweep.outcomes",
    "Progress": "simulator.progress.observer",
    "RunRecord": "simulator.record",
    "Runs": "simulator.report.runs",
    "ServerView": "simulator.timeline",
    "Setup": "simulator.learning",
    "Simulation": "simulator.simulation.simulate",
    "SynchronizationPolicy": "simulator.timeline",
    "TensorBoard": "simulator.progress.trackers",
    "WeightsAndBiases": "simulator.progress.trackers",
    "build_experiment": "simulator.api",
    "check": "simulator.simulation.checks",
    "expand": "simulator.experiment",
    "import_plugins": "simulator.experiment.plugins",
    "load": "simulator.experiment",
    "read_runs": "simulator.report.runs",
    "register": "simulator.experiment.registry",
    "register_local_steps": "simulator.timeline",
    "register_method": "simulator.experiment.methods",
    "register_outer": "simulator.learning",
    "register_shard_choice": "simulator.timeline",
    "register_synchronization": "simulator.timeline",
    "run_points": "simulator.sweep.sweep",
    "simulate": "simulator.simulation.simulate",
    "simulate_all": "simulator.api",
    "track": "simulator.progress.trackers",
    "use_cpu_cores": "simulator.host.jax_setup",
    "vary": "simulator.api",
}

__all__ = list(_HOME)

avoid_cuda_without_driver()  # before anything loads JAX


def __getattr__(name: str) -> Any:
    """Imports public names when they are first used, so that the timeline works without loading JAX."""
    if name not in _HOME:
        raise AttributeError(f"module 'simulator' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
