"""Messages of a process that simulates points to the one that waits for them."""

import dataclasses
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from simulator.sweep.outcomes import Failure
from simulator.sweep.plan import PlannedRun

if TYPE_CHECKING:
    from simulator.progress.observer import Progress

_TOLD_EVERY_S = 0.2


@dataclasses.dataclass(frozen=True)
class Ready:
    """The process can simulate."""


@dataclasses.dataclass(frozen=True)
class Begun:
    """The point of this place is being simulated, or its record read."""

    index: int


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """Progress of pretraining, as `Observer.pretrained` receives it."""

    index: int
    steps: int
    of: int
    loss: float


@dataclasses.dataclass(frozen=True)
class Advanced:
    """Progress of a simulation."""

    index: int
    progress: "Progress"


@dataclasses.dataclass(frozen=True)
class Over:
    """A point is finished; its record is in its folder."""

    index: int


@dataclasses.dataclass(frozen=True)
class Stood:
    """A point was stopped, with its state saved."""

    index: int
    updates: int


@dataclasses.dataclass(frozen=True)
class TaskDone:
    """End of a task: none of its points is left."""


@dataclasses.dataclass(frozen=True)
class Piece:
    """A piece of a file that was made elsewhere.

    Attributes:
      index: of the point.
      what: name of the checkpoint that the file belongs to; "" where it belongs to the record.
      path: of the file, from the folder of the checkpoint or the record.
      content: the bytes that follow those of the piece before.
      last: whether everything of this checkpoint, or this record, is here now.
    """

    index: int
    what: str
    path: str
    content: bytes
    last: bool


Message: TypeAlias = Ready | Begun | Pretrained | Advanced | Over | Stood | TaskDone | Piece | Failure


class Teller:
    """Observer of a point that sends its progress to another process now and then.

    Args:
      run: the point.
      tell: sends a message.
      moreover: called whenever something is sent.
    """

    def __init__(self, run: PlannedRun, tell: Callable[[Any], None], moreover: Callable[[], None] = lambda: None):
        self._index, self._tell, self._moreover = run.index, tell, moreover
        self._told_s = 0.0
        tell(Begun(run.index))

    def pretrained(self, steps: int, of: int, loss: float) -> None:
        """Sends the progress of pretraining."""
        self._tell(Pretrained(self._index, steps, of, loss))

    def advanced(self, progress: "Progress") -> None:
        """Sends the progress of the simulation."""
        now_s = time.monotonic()
        if now_s >= self._told_s + _TOLD_EVERY_S:
            self._told_s = now_s
            self._tell(Advanced(self._index, progress))
            self._moreover()
