"""Local steps: how many a worker's round has, the same for all or by its speed (Dynamic Local Updates, DyLU)."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np


def fixed_steps(workers: int, local_steps: int) -> list[int]:
    """Returns H for every worker."""
    return [local_steps] * workers


def dynamic_steps(step_s: Sequence[float] | np.ndarray, local_steps: int) -> list[int]:
    """Dynamic Local Updates (Eq. 6): floor(v(w) / max v * H), at least 1, with v = 1 / step_s.

    Args:
      step_s: seconds per local step of each worker.
      local_steps: H, the steps of the fastest.
    """
    fastest = min(step_s)
    return [_steps_at(fastest, own, local_steps) for own in step_s]


def _steps_at(fastest_s: float, own_s: float, local_steps: int) -> int:
    # A ratio that is a whole number but for rounding counts as that number.
    return max(1, math.floor(fastest_s / own_s * local_steps + 1e-9))


class StepsChoice(Protocol):
    """Decides the number of local steps of a worker's next round."""

    def new_choices(self) -> "Steps":
        """Returns the choices of a new simulation."""


class Steps(Protocol):
    """The choices of one simulation."""

    def observe(self, worker: int, step_s: float) -> None:
        """Takes into account the seconds of each local step of a worker's last round."""

    def steps(self, worker: int) -> int:
        """Returns the local steps of a worker's next round."""


@dataclasses.dataclass(frozen=True)
class MeasuredSpeed:
    """Dynamic Local Updates by the speed that each worker has shown.

    Attributes:
      step_s: seconds per local step, assumed of workers from which nothing has arrived.
      local_steps: H, the steps of the fastest.
    """

    step_s: Sequence[float] | np.ndarray
    local_steps: int

    def new_choices(self) -> "Speeds":
        """Returns the speeds of a new simulation."""
        return Speeds(np.array(self.step_s, float), self.local_steps)


class Speeds:
    """Known speeds of the workers."""

    def __init__(self, step_s: np.ndarray, local_steps: int):
        self._step_s, self._local_steps = step_s, local_steps

    def observe(self, worker: int, step_s: float) -> None:
        """Takes into account the seconds of each local step of a worker's last round; 0 is ignored."""
        if step_s > 0:
            self._step_s[worker] = step_s

    def steps(self, worker: int) -> int:
        """Returns the local steps of a worker's next round."""
        return _steps_at(float(self._step_s.min()), float(self._step_s[worker]), self._local_steps)
