"""Numbers of training that a timeline reads, kept so that a simulation that goes on reads the same ones again."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.simulation.training_learner import TrainingLearner
from simulator.timeline import Round

_ROUNDS, _NOISE_SCALES = "measured.rounds", "measured.noise_scales"


class Measured:
    """Measurements of training, see `Measurements`; each is read once, and then kept.

    Args:
      training: whose rounds are measured.
      arrays: of a checkpoint from which it goes on, if any.

    Attributes:
      noise_scales: that were read, by number of the round.
    """

    def __init__(self, training: TrainingLearner, arrays: Mapping[str, npt.NDArray[Any]]):
        self._training = training
        rounds, found = (arrays.get(name, np.empty(0)).tolist() for name in (_ROUNDS, _NOISE_SCALES))
        self.noise_scales: dict[int, float] = dict(zip(rounds, found, strict=True))

    def noise_scale(self, round: Round) -> float:
        """Returns the gradient noise scale at the end of a round, in micro-batches."""
        if round.id not in self.noise_scales:
            self.noise_scales[round.id] = self._training.noise_scale(round)
        return self.noise_scales[round.id]

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Returns what was read, for a checkpoint."""
        rounds, found = list(self.noise_scales), list(self.noise_scales.values())
        return {_ROUNDS: np.array(rounds, np.int64), _NOISE_SCALES: np.array(found, np.float64)} if rounds else {}
