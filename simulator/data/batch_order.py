"""The order in which a shard's examples are visited, as a pure function of (seed, shard, step)."""

import numpy as np

from simulator.data.dataset import Addresses, Dataset
from simulator.host.random_streams import data_stream


class DataOrder:
    """Endless epochs over every shard, each in a new random order.

    Step t of a shard takes positions t*B ... (t+1)*B - 1 of the sequence of its epochs, so every example comes once per
    epoch, and a batch may span the end of one epoch and the start of the next. The last two orders of each shard are
    remembered; asking in another sequence costs time and changes nothing.

    Args:
        dataset: whose shards are visited.
        batch_size: B, examples per step.
        seed: non-negative; the experiment's.
    """

    def __init__(self, dataset: Dataset, batch_size: int, seed: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        self.batch_size = batch_size
        self.seed = seed
        self._shard_examples = dataset.shard_examples
        self._orders: dict[tuple[int, int], tuple[int, Addresses]] = {}

    def batch(self, shard: int, step: int) -> Addresses:
        """Returns the addresses int32 [B] of a shard's local step, counted from 0.

        Raises:
            IndexError: no such shard, or a negative step.
        """
        return self.batches(shard, step, 1).reshape(self.batch_size)

    def batches(self, shard: int, first_step: int, steps: int) -> Addresses:
        """Returns int32 [steps, B]: the batches of consecutive steps, stacked.

        Raises:
            IndexError: no such shard, or a negative step.
        """
        if not 0 <= shard < len(self._shard_examples):
            raise IndexError(f"shard {shard} of {len(self._shard_examples)}")
        if first_step < 0 or steps < 0:
            raise IndexError(f"{steps} steps from step {first_step}: both must not be negative")
        examples = len(self._shard_examples[shard])
        position, end = first_step * self.batch_size, (first_step + steps) * self.batch_size
        pieces = [np.empty(0, np.int32)]
        while position < end:
            epoch, start = divmod(position, examples)
            piece = self._epoch(shard, epoch)[start : start + end - position]
            pieces.append(piece)
            position += len(piece)
        return np.concatenate(pieces).reshape(steps, self.batch_size)

    def _epoch(self, shard: int, epoch: int) -> Addresses:
        slot = shard, epoch % 2
        remembered = self._orders.get(slot)
        if remembered is None or remembered[0] != epoch:
            examples = self._shard_examples[shard]
            random = data_stream("data order", self.seed, shard, epoch)
            remembered = epoch, random.permutation(examples)
            self._orders[slot] = remembered
        return remembered[1]
