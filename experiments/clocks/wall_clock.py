"""Idealised wall-clock times of arXiv 2503.09799 (scaling laws for DiLoCo), Appendix A, as they are written there.

An all-reduce of N bits among R nodes takes at least 2 N / W (1 - 1 / R) + latency at W bits per second. The general
clock says the same, see `as_experiment`: what the chips of a data centre reduce in every step is part of the time of a
step there, since two kinds of meetings one within the other are not in an experiment file.
"""

import dataclasses
from typing import Any

CHIP_FLOPS = 300e12
"""Effective operations per second of a chip."""


@dataclasses.dataclass(frozen=True)
class Network:
    """Bits per second and latency, in seconds."""

    rate: float
    latency_s: float

    def all_reduce_s(self, bits: float, nodes: float) -> float:
        """Returns the least time of an all-reduce."""
        return 2 * bits / self.rate * (1 - 1 / nodes) + self.latency_s


NETWORKS = {"high": Network(400e9, 1e-4), "medium": Network(100e9, 1e-3), "low": Network(10e9, 1e-2)}
"""Between data centres; inside one it is always the high one."""


@dataclasses.dataclass(frozen=True)
class Training:
    """A training run.

    Attributes:
      parameters: of the model, 16 bits each on the wire.
      tokens: D.
      steps: T.
      chips: R.
      between: network between data centres.
      replicas: M, in as many data centres.
      local_steps: H; None of data parallel training.
    """

    parameters: float
    tokens: float
    steps: int
    chips: int
    between: Network
    replicas: int = 1
    local_steps: int | None = None

    @property
    def compute_s(self) -> float:
        """Time of all its operations."""
        return 6 * self.parameters * self.tokens / (self.chips * CHIP_FLOPS)

    @property
    def inside_s(self) -> float:
        """Time of what is reduced in every step, of all steps; 0 of data parallel training, which has one kind."""
        if self.local_steps is None:
            return 0.0
        if self.replicas == 1:
            return self.between.all_reduce_s(16 * self.parameters, self.chips) * self.steps
        return NETWORKS["high"].all_reduce_s(16 * self.parameters, self.chips / self.replicas) * self.steps

    @property
    def across_s(self) -> float:
        """Time of what is reduced among all chips: in every step, or every H."""
        return self.between.all_reduce_s(16 * self.parameters, self.chips) * self.steps / (self.local_steps or 1)

    @property
    def total_s(self) -> float:
        """Wall-clock time."""
        return self.compute_s + self.inside_s + self.across_s

    def as_experiment(self) -> dict[str, Any]:
        """Returns settings with which the general clock takes as long: each chip is a worker."""
        step_s = (self.compute_s + self.inside_s) / self.steps
        return {
            "cluster.devices.seconds_per_step": [step_s] * self.chips,
            "cluster.network.bandwidth": f"{self.between.rate / 1e9:g}Gbit/s",
            "cluster.network.latency": f"{self.between.latency_s}s",
            "model.parameters": f"{self.parameters:.0f}",
            "topology.algorithm": "bound",
            "inner.local_steps": self.local_steps or 1,
            "budget.server_updates": self.steps // (self.local_steps or 1),
        }
