"""Stopping a simulation on request, with its state checkpointed."""

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


HANG_UP: signal.Signals | None = getattr(signal, "SIGHUP", None)  # Windows has none
_STOPPING = tuple(filter(None, (signal.SIGINT, signal.SIGTERM, HANG_UP)))


class StopSignals:
    """Catches the signals that stop a process: the first requests a stop, the second ends at once. Use it as a context.

    A terminal that goes away sends several hang-ups, and a session that ends other signals besides: none of these
    counts as a second one. Where hang-ups are ignored, as under nohup, they stay so. Python gives signals to the main
    thread alone: in another nothing is caught.

    Args:
      numbers: of the signals.

    Attributes:
      received: the signal's number, None before.
    """

    def __init__(self, numbers: Sequence[int] = _STOPPING) -> None:
        self.received: int | None = None
        self._numbers = numbers
        self._former: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        """Installs the handlers."""
        for number in self._numbers if threading.current_thread() is threading.main_thread() else ():
            if number != HANG_UP or signal.getsignal(number) != signal.SIG_IGN:
                self._former[number] = signal.signal(number, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        """Restores the previous handlers."""
        for number, former in self._former.items():
            signal.signal(number, former)

    def __call__(self) -> bool:
        """Returns whether to stop."""
        return self.received is not None

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.received in (None, HANG_UP):
            self.received = number
        elif number != HANG_UP:
            raise KeyboardInterrupt
