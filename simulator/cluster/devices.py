"""Seconds per local step on each worker's device."""

import math

import numpy as np

from simulator.experiment.problems import nearest
from simulator.experiment.schema.devices import (
    Accelerator,
    Devices,
    DistributedDevices,
    FlopsDevices,
    LognormalSpeed,
    ParetoSpeed,
    ProfileDevices,
    RelativeDevices,
    TimedDevices,
    TracedDevices,
    UniformSpeed,
    ZipfSpeed,
)
from simulator.host.errors import SettingError
from simulator.host.random_streams import numpy_stream

AUTHORS_STEP_S = (0.58, 0.75, 1.51, 3.33)
"""Seconds per step of the four workers in the authors' toy notebook."""

PROFILES = {"none": 0.0, "slight": 0.25, "moderate": 0.5, "very": 1.0}
"""Heterogeneity levels as exponents on the authors' ratios to their fastest device.

The speeds behind the paper's levels are only in a figure; these are ours, except that `very` with 4 workers is the
authors' own four. The fastest worker takes 0.58 s per step at every level, the slowest 1, 1.5, 2.4 and 5.7 times
that.
"""

PEAK_FLOPS = {
    "A100": 312e12,
    "H100": 989e12,
    "H200": 989e12,
    "L4": 121e12,
    "L40S": 362e12,
    "RTX 3090": 71e12,
    "RTX 4090": 165e12,
    "T4": 65e12,
    "TPU v4": 275e12,
    "TPU v5e": 197e12,
    "TPU v5p": 459e12,
    "TPU v6e": 918e12,
    "V100": 125e12,
}
"""Dense 16-bit peak of common accelerators in FLOP/s, from their makers' data sheets."""

MEMORY = {
    "A100": 80e9,
    "H100": 80e9,
    "H200": 141e9,
    "L4": 24e9,
    "L40S": 48e9,
    "RTX 3090": 24e9,
    "RTX 4090": 24e9,
    "T4": 16e9,
    "TPU v4": 32e9,
    "TPU v5e": 16e9,
    "TPU v5p": 95e9,
    "TPU v6e": 32e9,
    "V100": 32e9,
}
"""Memory of the same in bytes; of the A100 and the V100, of which there are two sizes, the larger."""


def memory_of(accelerator: Accelerator) -> float | None:
    """Returns the bytes of an accelerator's memory, None where they are not known."""
    return accelerator.memory or MEMORY.get(accelerator.name)


def profile_step_s(profile: str, workers: int) -> np.ndarray:
    """Returns the step times of a heterogeneity level, float64 of shape (workers,), in seconds, fastest first.

    Workers sit at equal distances along the authors' four step times, interpolated in the logarithm, so that a level
    spans the same range for any number of workers and is theirs exactly for four.
    """
    ratios = np.log(np.array(AUTHORS_STEP_S) / AUTHORS_STEP_S[0])
    if workers == len(AUTHORS_STEP_S) and PROFILES[profile] == 1.0:
        return np.array(AUTHORS_STEP_S)
    position = np.linspace(0, len(ratios) - 1, workers)
    return AUTHORS_STEP_S[0] * np.exp(PROFILES[profile] * np.interp(position, np.arange(len(ratios)), ratios))


def step_seconds(
    devices: Devices, *, flops_per_step: float | np.ndarray, seed: int, relative_to_s: float | None = None
) -> np.ndarray:
    """Returns seconds per local step, float64 of shape (workers,).

    Args:
      devices: the `cluster.devices` section.
      flops_per_step: floating-point operations of a local step (forward and backward), of all workers or of each.
      seed: the experiment's seed, for speeds that are drawn.
      relative_to_s: seconds of a local step on a device of relative speed 1; None where the section says it.

    Raises:
      SettingError: an accelerator without a peak is not in the built-in table.
    """
    match devices:
        case TimedDevices():
            return np.broadcast_to(np.asarray(devices.seconds_per_step, float), (devices.count,)).copy()
        case TracedDevices(trace=trace):
            first = {row.worker: row.seconds_per_step for row in reversed(trace)}
            return np.array([first[worker] for worker in range(devices.count)])
        case RelativeDevices():
            return (relative_to_s or devices.seconds_per_step) / np.array(devices.relative_speed)
        case ProfileDevices():
            return devices.scale * profile_step_s(devices.profile, devices.workers)
        case FlopsDevices():
            return flops_per_step / np.array(
                [
                    _peak(accelerator, index) * accelerator.utilization * accelerator.parallel
                    for index, accelerator in enumerate(devices.accelerators)
                    for _ in range(accelerator.count)
                ]
            )
        case DistributedDevices():
            return np.array(
                [_draw(devices, numpy_stream(seed, "device speed", worker)) for worker in range(devices.workers)]
            )


def _peak(accelerator: Accelerator, index: int) -> float:
    if accelerator.peak is not None:
        return accelerator.peak
    if accelerator.name not in PEAK_FLOPS:
        message = f"no built-in peak for this accelerator; {nearest(accelerator.name, PEAK_FLOPS)}"
        remedy = "otherwise give its peak, such as peak: 312TFLOP/s"
        raise SettingError(f"cluster.devices.accelerators.{index}.name", accelerator.name, f"{message}; {remedy}")
    return PEAK_FLOPS[accelerator.name]


def _draw(devices: DistributedDevices, random: np.random.Generator) -> float:
    match devices.distribution:
        case LognormalSpeed(median=median, sigma=sigma):
            return float(median * np.exp(sigma * random.standard_normal()))
        case UniformSpeed(low=low, high=high):
            return float(random.uniform(low, high))
        case ParetoSpeed(shortest=shortest, shape=shape, longest=longest):
            return min(shortest * (1 + float(random.pareto(shape))), longest or math.inf)
        case ZipfSpeed(shortest=shortest, exponent=exponent, longest=longest):
            return min(shortest * int(random.zipf(exponent)), longest or math.inf)
        case mixture:
            weights = None if mixture.weights is None else np.array(mixture.weights) / sum(mixture.weights)
            return float(random.choice(np.array(mixture.seconds_per_step), p=weights))
