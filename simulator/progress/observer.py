"""Observers of a simulation, and the progress that they are given."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol


@dataclasses.dataclass(frozen=True)
class Progress:
    """Progress of a simulation.

    Attributes:
      simulated_s: the clock.
      local_steps: over all workers, as processed.
      tokens: trained on in those.
      server_updates: the server's version.
      staleness: mean over the last update's arrivals.
      train_loss: of the last round whose loss is known, in nats; NaN before.
      perplexity: of the last evaluation that is known; NaN before.
      fraction: of the budget, from 0 to 1.
      evaluation: the last one that is known, as the record has it; None before.
    """

    simulated_s: float
    local_steps: int
    tokens: int
    server_updates: int
    staleness: float
    train_loss: float
    perplexity: float
    fraction: float
    evaluation: Mapping[str, Any] | None = None


class Observer(Protocol):
    """Watches a simulation, without any influence on it."""

    def pretrained(self, steps: int, of: int, loss: float) -> None:
        """Receives the progress of pretraining."""

    def advanced(self, progress: Progress) -> None:
        """Receives the progress after a server update."""
