"""A text whose best possible loss is known: a first-order Markov source."""

import hashlib
from array import array
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulator.data.dataset import TextDataset
from simulator.data.token_streams import Tokens
from simulator.data.tokenizers import token_dtype
from simulator.data.windows import Text, check_addressable, cut_windows
from simulator.experiment.schema.data import SyntheticData
from simulator.host.errors import SettingError
from simulator.host.random_streams import data_stream

_BLOCK = 2**16  # uniform numbers drawn at a time
_FEWER = "use fewer data.tokens"
_SINGULAR = 1e12  # settling steps from which rounding decides the stationary probabilities


@dataclass(frozen=True)
class MarkovSource:
    """A stationary first-order Markov source over V token ids.

    Attributes:
        transitions: float64 [V, V], probability of the next token (column) after a token (row).
        stationary: float64 [V], pi, the probability of each token: pi P = pi.
        settling_steps: how long the start is felt, the largest row sum of |(I - P + 1 u)^-1|, u uniform; infinite where
            the source falls apart into parts that it never leaves, and the stationary probabilities are then NaN.
    """

    transitions: npt.NDArray[np.float64]
    stationary: npt.NDArray[np.float64]
    settling_steps: float

    @classmethod
    def of(cls, transitions: npt.NDArray[np.float64]) -> "MarkovSource":
        """Finds the stationary probabilities pi = u (I - P + 1 u)^-1, u being uniform."""
        states = len(transitions)
        uniform = np.full(states, 1 / states)
        try:
            inverse = np.linalg.inv(np.eye(states) - transitions + uniform)
            settling_steps = float(np.abs(inverse).sum(axis=1).max())
        except np.linalg.LinAlgError:
            settling_steps = np.inf
        if settling_steps > _SINGULAR:
            return cls(transitions, np.full(states, np.nan), np.inf)
        stationary = np.maximum(uniform @ inverse, 0.0)
        return cls(transitions, stationary / stationary.sum(), settling_steps)

    @property
    def entropy_rate(self) -> float:
        """Nats per token: - sum_i pi_i sum_j P_ij log P_ij, the lowest mean loss that any predictor reaches."""
        p = self.transitions
        log_p = np.log(p, out=np.zeros_like(p), where=p > 0)
        return float(self.stationary @ -(p * log_p).sum(axis=1))

    def sample(self, generator: np.random.Generator, tokens: int) -> Tokens:
        """Returns [tokens] consecutive tokens, the first from the stationary probabilities."""
        states = len(self.stationary)
        rows = [_cumulative(row) for row in self.transitions]
        row = _cumulative(self.stationary)
        sampled = np.empty(tokens, token_dtype(states))
        for first in range(0, tokens, _BLOCK):
            block = []
            for uniform in generator.random(min(_BLOCK, tokens - first)).tolist():
                token = bisect_right(row, uniform)
                row = rows[token]
                block.append(token)
            sampled[first : first + len(block)] = block
        return sampled


def _cumulative(probabilities: npt.NDArray[np.float64]) -> "array[float]":
    """Returns the cumulative probabilities; the last is exactly 1, so that an impossible token is never drawn."""
    cumulative = np.cumsum(probabilities)
    return array("d", (cumulative / cumulative[-1]).tobytes())


def markov_source(data: SyntheticData) -> MarkovSource:
    """Returns the source: every row of transition probabilities is drawn from a symmetric Dirichlet distribution.

    Raises:
        SettingError: the concentration is so low (or so extreme) that the source does not visit all its parts in the
            training text, so that its entropy rate says nothing about the text.
    """
    alpha = np.full(data.vocabulary, data.concentration)
    transitions = data_stream("synthetic transitions").dirichlet(alpha, size=data.vocabulary)
    if not np.allclose(transitions.sum(axis=1), 1):  # also where they are not numbers
        raise SettingError(
            "data.concentration",
            data.concentration,
            "no probabilities can be drawn with a value so extreme: use one such as 0.1",
        )
    source = MarkovSource.of(transitions)
    if not source.settling_steps < data.tokens:
        raise SettingError(
            "data.concentration",
            data.concentration,
            "transitions so nearly certain trap the source in a part of its tokens: where it starts matters for about "
            f"{source.settling_steps:.3g} tokens and the text has {data.tokens}, so no best loss is known; "
            "use a higher concentration, or a larger data.vocabulary",
        )
    return source


def load_synthetic(data: SyntheticData, *, shards: int, context: int) -> TextDataset:
    """Returns windows of a sampled text; shards are its consecutive chunks, and validation is a text of its own.

    Neither the source nor the texts depend on the experiment's seed.
    """
    check_addressable(data.tokens + data.validation_tokens, _FEWER)
    source = markov_source(data)
    training = source.sample(data_stream("synthetic training text"), data.tokens)
    validation = source.sample(data_stream("synthetic validation text"), data.validation_tokens)
    digest = hashlib.sha256(training.astype(np.int32).data)
    digest.update(validation.astype(np.int32).data)
    chunk = len(training) // shards
    text = Text(
        shards=[training[shard * chunk : (shard + 1) * chunk] for shard in range(shards)],
        validation=validation,
        vocabulary=data.vocabulary,
        content_hash=digest.hexdigest(),
        best_loss=source.entropy_rate,
        facts={"drawn_training_tokens": data.tokens, "drawn_validation_tokens": data.validation_tokens},
        longer_training=f"fewer data.shards, or more data.tokens (now {data.tokens})",
        longer_validation=f"more data.validation_tokens (now {data.validation_tokens})",
        shorter=_FEWER,
    )
    return cut_windows(text, context=context)
