"""What a run that goes on has from the processes before it: what training had reported, and how long it took."""

import itertools
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.simulation.recorder import Trained
from simulator.timeline import Fault, Lost, Round, Shortened, Update


def to_recall(
    rounds: npt.ArrayLike, non_finite: npt.ArrayLike, evaluations: npt.ArrayLike
) -> dict[str, npt.NDArray[Any]]:
    """Returns what training has reported in the form in which `Recalled` takes it.

    Args:
      rounds: losses, in the order in which rounds were processed.
      non_finite: 1 for each round that was not, else 0.
      evaluations: for each its loss and those of the shards.
    """
    return {
        "losses.rounds": np.asarray(rounds),
        "non_finite.rounds": np.asarray(non_finite, np.int8),
        "losses.evaluations": np.asarray(evaluations),
    }


class Recalled:
    """Follows the events with what training had reported of them.

    Args:
      arrays: with those of `to_recall` among them.

    Attributes:
      under_way: rounds that were dispatched and not yet processed, by id.
    """

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]]):
        self.under_way: dict[int, Round] = {}
        self._rounds = iter(arrays.get("losses.rounds", np.empty(0)).tolist())
        self._non_finite = iter(arrays.get("non_finite.rounds", np.empty(0)).tolist())
        self._evaluations = iter(arrays.get("losses.evaluations", np.empty((0, 1))).tolist())

    def dispatch(self, assignment: Round) -> None:
        """Notes that a round is under way."""
        self.under_way[assignment.id] = assignment

    def fault(self, event: Shortened | Lost | Fault) -> None:
        """Notes that a round is under way with fewer steps, or not any more."""
        match event:
            case Shortened(round=task):
                self.under_way[task.id] = task
            case Lost(round=task):
                del self.under_way[task.id]

    def update(self, event: Update) -> Trained:
        """Returns what training had told of the rounds."""
        for arrival in event.arrivals:
            del self.under_way[arrival.round.id]
        count = len(event.arrivals)
        finite = [not flag for flag in itertools.islice(self._non_finite, count)]
        return Trained(list(itertools.islice(self._rounds, count)), finite, True)

    def evaluate(self) -> tuple[float, list[float] | None]:
        """Returns the loss, and those of the shards where they were asked for."""
        loss, *of_shards = next(self._evaluations)
        return loss, of_shards or None


class Taken:
    """How long a simulation has taken on the host, over all the processes that it took."""

    def __init__(self) -> None:
        self._started = self._prepared = time.perf_counter()
        self._before = {"seconds": 0.0, "loop_seconds": 0.0}

    def prepared(self) -> None:
        """Notes that the events begin."""
        self._prepared = time.perf_counter()

    def add(self, before: Mapping[str, float]) -> None:
        """Adds what an earlier process took."""
        self._before = dict(before)

    def so_far(self) -> dict[str, float]:
        """Returns all seconds, and those without preparation."""
        now, before = time.perf_counter(), self._before
        return {
            "seconds": before["seconds"] + now - self._started,
            "loop_seconds": before["loop_seconds"] + now - self._prepared,
        }
