"""World of the servers: clock, counts and workers as they meet them."""

from collections.abc import Sequence
from typing import Protocol

from simulator.timeline.config import TimelineConfig
from simulator.timeline.deadlock import DeadlockDetector
from simulator.timeline.events import Round
from simulator.timeline.place import MeetingPlace
from simulator.timeline.policies.local_steps import Steps
from simulator.timeline.round_under_way import SimulatedCluster
from simulator.timeline.worker import Worker


class World(SimulatedCluster, Protocol):
    """Clock, counts and workers as a server meets them, see `Timeline`."""

    config: TimelineConfig
    measured: Steps | None
    updates: int
    local_steps: int
    waiting: set[int]

    @property
    def workers(self) -> Sequence[Worker]:
        """Workers, by number."""

    @property
    def places(self) -> Sequence[MeetingPlace]:
        """Places of all servers."""

    @property
    def deadlock(self) -> DeadlockDetector:
        """Detector of deadlocks."""

    @property
    def is_over(self) -> bool:
        """Use of the budget: whether it is over."""

    def count(self, rounds: Sequence[Round]) -> bool:
        """Counts rounds that have arrived, and returns whether an evaluation is due after them."""

    def mark_evaluation(self) -> bool:
        """Returns whether there is anything to evaluate."""

    def end_if_spent(self) -> None:
        """Ends the simulation if a budget is used up."""

    def copied(self, worker: int, node: int) -> int:
        """Returns the node whose parameters a worker takes that begins anew at a server."""

    def is_still(self) -> bool:
        """Returns whether nothing is on its way to any server, and all of them are idle."""

    def relent(self) -> bool:
        """Closes groups that wait for others in vain; returns whether there was any."""
