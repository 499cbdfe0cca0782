"""Training that a simulation shares with others of its sweep: reused from them, or kept for them."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt

from simulator.record import DIAGNOSTICS, Checkpoint, RunRecord, shard_columns
from simulator.simulation.replay import training_log


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """Trained simulation, whose losses another one with the same order of events reuses.

    Attributes:
      source: label of the simulation that was trained.
      record: its.
    """

    source: str
    record: RunRecord

    @property
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Reports of training."""
        rounds, evaluations = self.record.rounds, self.record.evaluations
        shards = len(self.record.summary.get("final_shard_losses") or ())
        losses = evaluations[["loss", *shard_columns(shards)]].to_numpy()
        of_rounds = rounds["train_loss"].to_numpy(), rounds["non_finite"].to_numpy()
        return training_log(*of_rounds, losses, self.record.updates.reindex(columns=DIAGNOSTICS).to_numpy())

    @property
    def parameters_hash(self) -> str:
        """Hash of the final parameters."""
        return str(self.record.summary["parameters_hash"])

    def was_made_with(self, what: Mapping[str, Any]) -> bool:
        """Returns whether versions, devices and data were the same."""
        return {key: self.record.summary.get(key) for key in what} == what


@dataclasses.dataclass(frozen=True)
class Beginning:
    """A state that another simulation has reached in the same way.

    Attributes:
      source: label of that simulation.
      checkpoint: the state; its number of events is that of the simulation that resumes from it.
    """

    source: str
    checkpoint: Checkpoint


@dataclasses.dataclass
class SharedTraining:
    """Training shared with other simulations: what to reuse, and which states to keep for them.

    Attributes:
      trajectory: all of it, None where it has to be trained.
      beginning: the state to resume from, None to start from nothing.
      wanted: numbers of events after which to keep its state.
      room: bytes available for such states.
      kept: the wanted states that it has reached, as far as there was room.
    """

    trajectory: Trajectory | None = None
    beginning: Beginning | None = None
    wanted: frozenset[int] = frozenset()
    room: float = math.inf
    kept: dict[int, Checkpoint] = dataclasses.field(default_factory=dict)

    def takes(self, events: int, size: Callable[[], int]) -> bool:
        """Returns whether the state after `events` events is wanted and there is room for its `size` bytes."""
        return events in self.wanted and size() <= self.room

    def keep(self, state: Checkpoint) -> None:
        """Keeps a state."""
        self.kept[state.events] = state
        self.room -= state_bytes(state)


def state_bytes(state: Checkpoint) -> int:
    """Returns the bytes of a state's arrays."""
    return sum(array.nbytes for array in state.arrays.values())
