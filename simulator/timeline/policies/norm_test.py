"""Micro-batches of a local step: as many as given, or more and more by the norm test of the gradient."""

import dataclasses
import math
from typing import Protocol

from simulator.experiment import SimulationError
from simulator.timeline.events import Round


class NeedsTrainingError(SimulationError):
    """A timeline that depends on what is trained, where nothing is."""


class Measurements(Protocol):
    """Numbers that training has found in rounds, of which a timeline may read those whose offers have arrived."""

    def noise_scale(self, round: Round) -> float:
        """Returns the gradient noise scale at the end of a round, in micro-batches; NaN where there is none."""


@dataclasses.dataclass(frozen=True)
class NormTest:
    """Norm test: a local step has so many micro-batches that the variance of its gradient is small beside its norm.

    Attributes:
      start: micro-batches of a local step at the start.
      threshold: eta, the most that the gradient's deviation may be of its norm; None for always the same number.
      most: micro-batches that a local step can have.
    """

    start: int = 1
    threshold: float | None = None
    most: int = 1

    def enough(self, micro_batches: int, noise_scale: float) -> int:
        """Returns how many micro-batches a local step has after an offer: never fewer than before.

        Args:
          micro_batches: before it.
          noise_scale: of the offer's round; NaN is ignored.
        """
        if self.threshold is None or math.isnan(noise_scale):
            return micro_batches
        needed = noise_scale / self.threshold / self.threshold
        # A whole number but for rounding, of float32, counts as that number.
        return max(micro_batches, self.most if needed >= self.most else math.ceil(needed * (1 - 1e-6)))
