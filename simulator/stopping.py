"""Stopping a simulation on request, with its state written down."""

import signal
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any


class Stopped(Exception):  # noqa: N818  # not an error: it was asked for
    """A simulation was asked to stop.

    Attributes:
      updates: of the server so far.
    """

    def __init__(self, updates: int):
        super().__init__(f"stopped after {updates} server updates")
        self.updates = updates


class Interrupted(Exception):  # noqa: N818  # likewise
    """A signal has ended a command.

    Attributes:
      number: the signal's.
    """

    def __init__(self, number: int, message: str):
        super().__init__(f"stopped by {signal.Signals(number).name}; {message}")
        self.number = number


class StopSignals:
    """Hears that the process is to stop: at the first signal politely, at the second at once. Use it as a context.

    Python gives signals to the main thread alone: in another it hears nothing.

    Args:
      numbers: of the signals.

    Attributes:
      received: the signal's number, None before.
    """

    def __init__(self, numbers: Sequence[int] = (signal.SIGINT, signal.SIGTERM)) -> None:
        self.received: int | None = None
        self._numbers = numbers
        self._former: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        """Begins to listen."""
        for number in self._numbers if threading.current_thread() is threading.main_thread() else ():
            self._former[number] = signal.signal(number, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        """Gives the signals back."""
        for number, former in self._former.items():
            signal.signal(number, former)

    def __call__(self) -> bool:
        """Returns whether to stop."""
        return self.received is not None

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number
