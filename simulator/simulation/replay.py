"""Replaying the reports of training: of a run before its checkpoint, or of another run with the same events."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.record import DIAGNOSTICS
from simulator.simulation.learner import Learner
from simulator.simulation.trained import Trained
from simulator.timeline import Update, own_arrivals


def training_log(
    rounds: npt.ArrayLike, non_finite: npt.ArrayLike, evaluations: npt.ArrayLike, diagnostics: npt.ArrayLike
) -> dict[str, npt.NDArray[Any]]:
    """Returns the reports of training as arrays, from which a `ReplayLearner` replays them.

    Args:
      rounds: losses, in the order in which rounds were processed.
      non_finite: 1 for each round that was not, else 0.
      evaluations: for each its loss and those of the shards.
      diagnostics: of each offer, in the order in which they were processed.
    """
    return {
        "losses.rounds": np.asarray(rounds),
        "non_finite.rounds": np.asarray(non_finite, np.int8),
        "losses.evaluations": np.asarray(evaluations),
        "diagnostics.offers": np.asarray(diagnostics).reshape(-1, len(DIAGNOSTICS)),
    }


class ReplayLearner(Learner):
    """Replays the reports of training.

    Args:
      arrays: with those of `training_log` among them.
    """

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]]):
        self._rounds = iter(arrays.get("losses.rounds", np.empty(0)).tolist())
        self._non_finite = iter(arrays.get("non_finite.rounds", np.empty(0)).tolist())
        self._diagnostics = iter(arrays.get("diagnostics.offers", np.empty((0, len(DIAGNOSTICS)))))
        self._evaluations = iter(arrays.get("losses.evaluations", np.empty((0, 1))).tolist())

    def update(self, event: Update) -> Trained:
        """Returns the report on the rounds."""
        losses, finite = [math.nan] * len(event.arrivals), [True] * len(event.arrivals)
        for place, _ in own_arrivals(event):
            losses[place], finite[place] = next(self._rounds), not next(self._non_finite)
        diagnostics = [next(self._diagnostics) for _ in event.arrivals]
        return Trained(losses, finite, True, diagnostics)

    def evaluate(self) -> tuple[float, list[float] | None]:
        """Returns the next losses."""
        loss, *of_shards = next(self._evaluations)
        return loss, of_shards or None
