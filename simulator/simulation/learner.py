"""Learners follow the events of a simulation: by training, by replaying earlier training, or by nothing.

The one that trains is `training_learner.TrainingLearner`.
"""

from collections.abc import Iterable
from typing import SupportsFloat

from simulator.simulation.trained import Trained
from simulator.timeline import Accepted, Answered, Dispatched, Fault, Lost, Offered, Shortened, Update

Losses = tuple[SupportsFloat | None, Iterable[SupportsFloat] | None]
"""Losses of an evaluation in nats, over all windows and of every shard's own; None if not known or not asked for."""


class Learner:
    """Follows the events of a simulation; this one trains nothing, so that the timeline is left alone.

    Reports of others may still be on their way: a learner waits for nothing.
    """

    def dispatch(self, event: Dispatched) -> None:
        """Begins a round."""

    def fault(self, event: Shortened | Lost | Fault) -> None:
        """Follows a fault."""

    def exchange(self, event: Answered | Offered | Accepted) -> None:
        """Follows an exchange beside the workers' rounds."""

    def update(self, event: Update) -> Trained | None:
        """Applies an update and returns the report on its rounds, None if nothing is trained."""
        return None

    def evaluate(self) -> Losses:
        """Returns the losses of the server's parameters."""
        return None, None
