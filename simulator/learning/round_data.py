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
      order: (shard, first batch, batches) to example addresses, int32 of shape (batches, batch), on the host.
      rates: (shard, first_step, steps) to learning rates, float32 (steps,).
      longest_round: local steps of the longest round; the examples of shorter ones are filled up to it.
      key: root of the rounds' keys.
      gather: addresses to inputs of the data set's `fetch`, with more axes behind those of the addresses.
      has_pulls: whether some local steps are pulls.
      micro_batches: most of a local step; None where it has one batch.
    """

    arrays: Arrays
    order: Callable[[int, int, int], np.ndarray]
    rates: Callable[[int, int, int], Rates]
    longest_round: int
    key: jax.Array
    gather: Callable[[np.ndarray], np.ndarray] = lambda addresses: addresses
    has_pulls: bool = False
    micro_batches: int | None = None

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
            examples=self._filled_up(rows, *([] if self.micro_batches is None else [self.micro_batches])),
            rates=self._filled_up(self.rates(round.shard, round.first_step, round.steps)),
            steps=np.int32(round.steps),
            id=np.int32(round.id),
            before=np.int32(round.before),
            pulls=self._pulls(round) if self.has_pulls else None,
            micro_batches=None if self.micro_batches is None else np.int32(round.micro_batches),
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

    def _filled_up(self, rows: npt.NDArray[Any], *room: int) -> npt.NDArray[Any]:
        """Returns rows with zeros behind them, and, where there is room for more than they have, behind each."""
        room = self.longest_round, *room
        filled = np.zeros((*room, *rows.shape[len(room) :]), rows.dtype)
        filled[tuple(slice(size) for size in rows.shape[: len(room)])] = rows
        return filled

    def _rows(self, round: Stretch) -> np.ndarray:
        """Returns the addresses of a round's examples: each local step takes the shard's next micro-batches."""
        if self.micro_batches is None:
            return self.order(round.shard, round.first_step, round.steps)
        rows = self.order(round.shard, round.first_batch, round.steps * round.micro_batches)
        return rows.reshape(round.steps, round.micro_batches, *rows.shape[1:])
