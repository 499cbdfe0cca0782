"""The simulated clock: SimPy processes of workers and server, and the policies that order them."""

from simulator.timeline.build import timeline_of
from simulator.timeline.events import Arrival, Dispatched, Evaluation, Event, Finished, Outcome, Round, Update
from simulator.timeline.policies import (
    Asynchronous,
    Barrier,
    LeastVisited,
    OwnShard,
    Proportional,
    ServerView,
    ShardChoice,
    Synchronization,
    dynamic_steps,
    fixed_steps,
)
from simulator.timeline.timeline import Timeline, TimelineConfig

__all__ = [
    "Arrival",
    "Asynchronous",
    "Barrier",
    "Dispatched",
    "Evaluation",
    "Event",
    "Finished",
    "LeastVisited",
    "Outcome",
    "OwnShard",
    "Proportional",
    "Round",
    "ServerView",
    "ShardChoice",
    "Synchronization",
    "Timeline",
    "TimelineConfig",
    "Update",
    "dynamic_steps",
    "fixed_steps",
    "timeline_of",
]
