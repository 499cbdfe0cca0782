"""Data of rounds: the inputs of their programs, gathered on the host while the device computes."""

import dataclasses
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from simulator.learning.optimizers.inner import Rates
from simulator.learning.phases import phase
from simulator.learning.round import Arrays, OptState, Params, RoundInputs, Stretch

_AHEAD = 16  # rounds gathered before they are computed, at most


@dataclasses.dataclass
class RoundData:
    """Data of rounds, and their learning rates.

    Attributes:
      arrays: the data, on every device that runs rounds; empty where they stay on the host.
      order: (shard, first_step, steps) to example addresses, int32 of shape (steps, batch), on the host.
      rates: (shard, first_step, steps) to learning rates, float32 (steps,).
      longest_round: local steps of the longest round; the examples of shorter ones are filled up to it.
      key: root of the rounds' keys.
      gather: addresses to inputs of the data set's `fetch`, with more axes behind those of the addresses.
      has_pulls: whether some local steps are pulls.
    """

    arrays: Arrays
    order: Callable[[int, int, int], np.ndarray]
    rates: Callable[[int, int, int], Rates]
    longest_round: int
    key: jax.Array
    gather: Callable[[np.ndarray], np.ndarray] = lambda addresses: addresses
    has_pulls: bool = False

    def __post_init__(self) -> None:
        self._ahead: dict[int, tuple[tuple[int, int], Future[np.ndarray]]] = {}  # of each worker, for which stretch
        self._pool = ThreadPoolExecutor(1, "gather")

    def announce(self, round: Stretch) -> None:
        """Starts gathering a round's examples, unless the device looks them up itself or enough are waiting."""
        if not self.arrays and len(self._ahead.keys() - {round.worker}) < _AHEAD:
            self._ahead[round.worker] = (round.id, round.before), self._pool.submit(self.gather, self._rows(round))

    def forget(self, round: Stretch) -> None:
        """Drops the examples of a round that will not be run."""
        self._announced(round)

    @phase("gather")
    def inputs(self, round: Stretch, params: Params, opt_state: OptState) -> RoundInputs:
        """Returns the inputs of a round's program."""
        announced = self._announced(round)
        rows = announced.result() if announced else self.gather(self._rows(round))
        return RoundInputs(
            params=params,
            opt_state=opt_state,
            examples=self._filled_up(rows),
            rates=self._filled_up(self.rates(round.shard, round.first_step, round.steps)),
            steps=np.int32(round.steps),
            id=np.int32(round.id),
            before=np.int32(round.before),
            pulls=self._pulls(round) if self.has_pulls else None,
        )

    def _announced(self, round: Stretch) -> Future[np.ndarray] | None:
        """Takes out the examples of a round, None if they are not being gathered."""
        number, examples = self._ahead.get(round.worker, (None, None))
        if number != (round.id, round.before):
            return None
        del self._ahead[round.worker]
        return examples

    def _pulls(self, round: Stretch) -> npt.NDArray[np.bool_]:
        pulls = np.zeros(self.longest_round, bool)
        pulls[list(round.pulls)] = True
        return pulls

    def _filled_up(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        filled = np.zeros((self.longest_round, *rows.shape[1:]), rows.dtype)
        filled[: len(rows)] = rows
        return filled

    def _rows(self, round: Stretch) -> np.ndarray:
        return self.order(round.shard, round.first_step, round.steps)
