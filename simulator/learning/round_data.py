"""Inputs of rounds: the order of the data, and examples gathered on the host while the device computes."""

import dataclasses
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from simulator.learning.optimizers.inner import Rates
from simulator.learning.phases import phase
from simulator.learning.round import Arrays, Assignment, OptState, Params, RoundInputs

_AHEAD = 16  # rounds gathered before they are computed, at most


def _unchanged(addresses: np.ndarray) -> np.ndarray:
    return addresses


@dataclasses.dataclass(frozen=True)
class Feed:
    """Inputs of rounds.

    Attributes:
      arrays: the data, on every device that runs rounds; empty where they stay on the host.
      order: (shard, first_step, steps) to example addresses, int32 of shape (steps, batch), on the host.
      rates: (shard, first_step, steps) to learning rates, float32 (steps,).
      longest_round: local steps of the longest round; the examples of shorter ones are filled up to it.
      key: root of the rounds' keys.
      gather: addresses to inputs of the data set's `fetch`, with more axes behind those of the addresses.
    """

    arrays: Arrays
    order: Callable[[int, int, int], np.ndarray]
    rates: Callable[[int, int, int], Rates]
    longest_round: int
    key: jax.Array
    gather: Callable[[np.ndarray], np.ndarray] = _unchanged
    _ahead: "dict[int, tuple[int, Future[np.ndarray]]]" = dataclasses.field(default_factory=dict)
    _pool: ThreadPoolExecutor = dataclasses.field(default_factory=lambda: ThreadPoolExecutor(1, "gather"))

    def announce(self, assignment: Assignment) -> None:
        """Starts gathering a round's examples, unless the device looks them up itself or enough are waiting."""
        if not self.arrays and len(self._ahead.keys() - {assignment.worker}) < _AHEAD:
            rows = self._rows(assignment)
            self._ahead[assignment.worker] = assignment.id, self._pool.submit(self.gather, rows)

    def forget(self, assignment: Assignment) -> None:
        """Drops the examples of a round that will not be run."""
        if assignment.worker in self._ahead and self._ahead[assignment.worker][0] == assignment.id:
            del self._ahead[assignment.worker]

    @phase("gather")
    def inputs(self, assignment: Assignment, params: Params, opt_state: OptState) -> RoundInputs:
        """Returns the inputs of a round's program."""
        number, waiting = self._ahead.get(assignment.worker, (None, None))
        if waiting is not None and number == assignment.id:
            del self._ahead[assignment.worker]
            rows = waiting.result()
        else:
            rows = self.gather(self._rows(assignment))
        rates = self.rates(assignment.shard, assignment.first_step, assignment.steps)
        return RoundInputs(
            params=params,
            opt_state=opt_state,
            examples=self._filled_up(rows),
            rates=self._filled_up(rates),
            steps=np.int32(assignment.steps),
            id=np.int32(assignment.id),
        )

    def _filled_up(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        filled = np.zeros((self.longest_round, *rows.shape[1:]), rows.dtype)
        filled[: len(rows)] = rows
        return filled

    def _rows(self, assignment: Assignment) -> np.ndarray:
        return self.order(assignment.shard, assignment.first_step, assignment.steps)
