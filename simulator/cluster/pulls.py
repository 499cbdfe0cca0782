"""Pulls: local steps that go towards what the worker last accepted, and cost it no time (PALSGD)."""

import functools

import numpy as np

from simulator.experiment import Experiment
from simulator.host.random_streams import numpy_stream

_BLOCK = 1024  # steps whose coins are drawn at once


class Pulls:
    """Choice of the local steps that are pulls: a coin for each, the same for all shards, so that all pull together.

    The first step of a round is none.

    Args:
      probability: of a pull.
      seed: the experiment's.
    """

    def __init__(self, probability: float, seed: int):
        self._probability = probability
        self._block = functools.lru_cache(maxsize=8)(lambda block: numpy_stream(seed, "pulls", block).random(_BLOCK))

    @classmethod
    def of(cls, experiment: Experiment) -> "Pulls | None":
        """Returns those of an experiment, None without."""
        pull = experiment.inner.pull
        return None if pull is None else cls(pull.probability, experiment.seed)

    def of_round(self, first_step: int, steps: int) -> tuple[int, ...]:
        """Returns the numbers, from 0, of a round's local steps that are pulls.

        Args:
          first_step: the shard's count of local steps before the round.
          steps: of the round.
        """
        blocks = range(first_step // _BLOCK, (first_step + steps) // _BLOCK + 1)
        coins = np.concatenate([self._block(block) for block in blocks])[first_step % _BLOCK :][:steps]
        return tuple((np.flatnonzero(coins[1:] < self._probability) + 1).tolist())
