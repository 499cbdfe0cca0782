"""What is due at the present time and takes none."""

from collections import deque
from collections.abc import Callable

import simpy


class Agenda:
    """What is to be done at this very time, first come, first served.

    An action comes after everything that was due before it, like an event that SimPy schedules without a delay. Where
    nothing else is due, which is nearly always, it need not go through SimPy's queue, which costs more than most
    actions do.

    Attributes:
      due: what comes before everything in SimPy's queue; whoever runs the simulation takes it from the left.
    """

    def __init__(self, env: simpy.Environment):
        self._env = env
        self.due: deque[Callable[[], None]] = deque()

    def put(self, action: Callable[[], None]) -> None:
        """Has an action done after everything that is due by now."""
        if self._env.peek() > self._env.now:
            self.due.append(action)
        else:
            event = self._env.event()
            event.callbacks.append(lambda _: action())
            event.succeed()

    def put_first(self, action: Callable[[], None]) -> None:
        """Has an action done before everything else that is due by now."""
        self.due.appendleft(action)
