"""Reports of training on updates, and what is said of one that is not finite."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, SupportsFloat

import numpy as np

from simulator.cluster import seconds
from simulator.experiment import SimulationError
from simulator.record import DIAGNOSTICS
from simulator.timeline import Arrival, Update


class Trained(NamedTuple):
    """Report of training on an update, whose arrays may still be on their way.

    Attributes:
      losses: of its rounds, in nats.
      finite: whether the rounds' pseudo-gradients were.
      together: whether their combined pseudo-gradient was.
      diagnostics: of every offer, its `OfferDiagnostics` in a row; empty where they are not known.
    """

    losses: Sequence[SupportsFloat]
    finite: Sequence[Any]
    together: Any
    diagnostics: Sequence[Any] = ()


class NonFiniteError(SimulationError):
    """A pseudo-gradient is not finite, and the experiment says that this is fatal."""


def diagnostics_of(event: Update, trained: Trained | None) -> list[list[float]]:
    """Returns the diagnostics of each offer of an update."""
    if trained is None or not trained.diagnostics:
        return [[math.nan] * len(DIAGNOSTICS)] * len(event.arrivals)
    return [np.asarray(each).tolist() for each in trained.diagnostics]


def non_finite(trained: Trained) -> list[int]:
    """Returns 1 for each round that was not finite, or for all if their combined pseudo-gradient was not."""
    flags = [int(not finite) for finite in trained.finite]
    return flags if trained.together else [1] * len(flags)


def non_finite_message(event: Update, arrival: Arrival) -> str:
    """Returns the message on an offer of an update that is not finite where that is fatal."""
    round = arrival.round
    return (
        f"round {round.id} of worker {round.worker} (shard {round.shard}, {round.steps} local steps from version "
        f"{round.version}) brought a pseudo-gradient that is not finite at {seconds(event.time_ns):g} s, and "
        "outer.non_finite is fatal: choose a lower inner.learning_rate, inner.clip_norm, or outer.non_finite: reject"
    )
