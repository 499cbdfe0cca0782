"""Checkpoint schedule of a simulation, and the check that a checkpoint or record is this simulation's."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from simulator.experiment import Experiment
from simulator.record import Checkpoint, Checkpoints, RecordError, differences, to_json

_SHOWN = 5  # differences in a message


class Checkpointer:
    """Keeps the checkpoints of one simulation.

    Args:
      folder: theirs.
      experiment: whose `checkpoint` section says how often.
      made_with: versions, devices and data, which decide results besides the experiment.
      warn: called for each damaged checkpoint.

    Attributes:
      saved: the checkpoint to resume from, None at the start.

    Raises:
      RecordError: the folder's checkpoints are those of another experiment, or were made with something else.
    """

    def __init__(
        self,
        folder: Path,
        experiment: Experiment,
        made_with: Mapping[str, Any],
        warn: Callable[[str], None],
    ):
        self._settings = experiment.checkpoint
        self._checkpoints = Checkpoints(folder, keep=self._settings.keep, warn=warn)
        known = {"experiment": result_settings(experiment.model_dump(mode="json")), "made with": dict(made_with)}
        self._identity = json.loads(to_json(known, "experiment"))  # as a checkpoint has it, without infinities
        self._saved_s, self._saved_updates = time.monotonic(), 0
        self.saved: Checkpoint | None = self._checkpoints.latest()
        if self.saved is not None:
            check_same_simulation(str(folder), self.saved.facts["identity"], self._identity)
            self._saved_updates = self.saved.facts["updates"]

    def due(self, updates: int) -> bool:
        """Returns whether a checkpoint is due, with the server at this number of updates."""
        every_updates, every_minutes = self._settings.every_updates, self._settings.every_host_minutes
        by_updates = every_updates is not None and updates >= self._saved_updates + every_updates
        by_time = every_minutes is not None and time.monotonic() >= self._saved_s + 60 * every_minutes
        return by_updates or by_time

    def save(self, events: int, updates: int, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Writes the checkpoint of the state after a number of events.

        Raises:
          OSError: it cannot be written; the checkpoint before it is kept.
        """
        facts = {**facts, "identity": self._identity, "updates": updates}
        self._checkpoints.save(Checkpoint(events, arrays, facts))
        self._saved_s, self._saved_updates = time.monotonic(), updates


def result_settings(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a resolved experiment that decide its results."""
    return {key: value for key, value in experiment.items() if key not in ("checkpoint", "description")}


def check_same_simulation(where: str, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Compares a saved experiment with the one to be simulated.

    Raises:
      RecordError: they differ; names the differences.
    """
    found = [f"{key or 'it'} is {there!r} there and {here!r} here" for key, there, here in differences(theirs, ours)]
    if not found:
        return
    more = f", and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    shown = "; ".join(found[:_SHOWN])
    raise RecordError(
        f"{where}: is of another simulation ({shown}{more}): make that as it was, or choose another --out"
    )
