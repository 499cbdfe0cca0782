"""Cache through which experiments share what they learn with."""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from simulator.data import PrepareProgress
from simulator.learning.memory import part_of_host

Made = TypeVar("Made")


class Cache:
    """Data, models, compiled programs and pretrained parameters, each made once for all experiments that share it.

    Args:
      progress: called with the progress of preparing data.
      memory: the host's available memory, where a CPU computes and states are kept: bytes, or a share up to 1, as for
        one of several processes.
    """

    def __init__(self, progress: PrepareProgress | None = None, *, memory: float = 1.0) -> None:
        self.progress, self.memory = progress, memory
        self._made: dict[str, Any] = {}

    def once(self, what: str, make: Callable[[], Made], *settings: Any) -> Made:
        """Returns what was made under this name and these settings, which has to depend on nothing else."""
        key = f"{what} {as_json(*settings)}"
        if key not in self._made:
            self._made[key] = make()
        made: Made = self._made[key]
        return made

    @property
    def host_bytes(self) -> float:
        """Available memory of the host, bytes."""
        return part_of_host(self.memory)


def as_json(*settings: Any) -> str:
    """Returns settings, sections of an experiment among them, as JSON."""
    return json.dumps([_plain(setting) for setting in settings])


def _plain(setting: Any) -> Any:
    if hasattr(setting, "model_dump"):
        return setting.model_dump(mode="json", warnings=False)
    return dict(setting) if isinstance(setting, Mapping) else setting
