"""Calibration: a `cluster` section that is fitted to what was measured, by runs of ours or logs of a real training."""

from simulator.calibration.fit import Calibration, LinkFit, StepFit, calibrate
from simulator.calibration.fragment import fragment, step_trace
from simulator.calibration.observations import Observations, observe
from simulator.calibration.slowdowns import Slowdown

__all__ = [
    "Calibration",
    "LinkFit",
    "Observations",
    "Slowdown",
    "StepFit",
    "calibrate",
    "fragment",
    "observe",
    "step_trace",
]
