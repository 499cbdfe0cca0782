"""Meeting place: the offers of one fragment that a server has, and the workers that wait for its answer."""

import math

from simulator.cluster import Nanoseconds
from simulator.timeline.events import Arrival


class MeetingPlace:
    """State of a meeting place.

    Attributes:
      node: that has it.
      fragment: of the model.
      version: number of its updates.
      turn: number of the meeting that is open; 0 for good where every offer is a meeting of its own.
      awaited: workers whose offers it waits for, and the steps of their rounds where they are given them.
      group: workers that wait to be answered, in order, and the rounds whose offers they have made.
      arrived: offers that wait to be averaged.
      early: offers of later meetings.
      opened_ns: when the first of the group came; infinite while there is none.
      started_ns: when the open meeting began.
      buffered: offers since the last update, where several make one.
      rung_ns: time for which the last alarm was set that has rung.
      alarm_ns: that for which the next one is set; infinite without.
      window_ns: length of the policy's window, of this group; None where that is the same for all.
      relents: whether its group is closed whatever its policy says, since nobody else can come.
    """

    def __init__(self, node: int, fragment: int):
        self.node, self.fragment = node, fragment
        self.version = self.turn = self.buffered = 0
        self.awaited: dict[int, int | None] = {}
        self.group: dict[int, list[int]] = {}
        self.arrived: list[Arrival] = []
        self.early: list[Arrival] = []
        self.opened_ns: Nanoseconds = math.inf
        self.started_ns: Nanoseconds = 0
        self.rung_ns: Nanoseconds = -1
        self.alarm_ns: Nanoseconds = math.inf
        self.window_ns: Nanoseconds | None = None
        self.relents = False

    def join(self, worker: int, arrival_ns: Nanoseconds, round: int | None = None) -> None:
        """Adds a worker to the group, with the number of the round whose offer it has made, if any."""
        self.opened_ns = min(self.opened_ns, arrival_ns)
        offered = self.group.setdefault(worker, [])
        if round is not None:
            offered.append(round)

    def take(self) -> tuple[dict[int, list[int]], list[Arrival]]:
        """Returns the group and the offers to average, and begins with none."""
        group, arrived = self.group, self.arrived
        self.group, self.arrived, self.opened_ns, self.relents, self.window_ns = {}, [], math.inf, False, None
        return group, arrived
