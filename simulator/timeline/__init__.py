"""The simulated clock: SimPy processes of workers and server, and the policies that order them."""

from simulator.timeline.build import timeline_of
from simulator.timeline.causal_hash import CausalHash
from simulator.timeline.config import TimelineConfig
from simulator.timeline.deadlock import NoProgressError
from simulator.timeline.events import (
    Arrival,
    Dispatched,
    Evaluation,
    Event,
    Fault,
    Finished,
    Lost,
    Round,
    Shortened,
    Update,
)
from simulator.timeline.policies.registered import register_local_steps, register_shard_choice, register_synchronization
from simulator.timeline.policies.shard_choice import FixedShard, LeastVisited, Proportional, ShardChoice
from simulator.timeline.policies.synchronization import (
    Asynchronous,
    Barrier,
    MeasuredSpeed,
    ServerView,
    SynchronizationPolicy,
    dynamic_steps,
    fixed_steps,
)
from simulator.timeline.timeline import Timeline

__all__ = [
    "Arrival",
    "Asynchronous",
    "Barrier",
    "CausalHash",
    "Dispatched",
    "Evaluation",
    "Event",
    "Fault",
    "Finished",
    "FixedShard",
    "LeastVisited",
    "Lost",
    "MeasuredSpeed",
    "NoProgressError",
    "Proportional",
    "Round",
    "ServerView",
    "ShardChoice",
    "Shortened",
    "SynchronizationPolicy",
    "Timeline",
    "TimelineConfig",
    "Update",
    "dynamic_steps",
    "fixed_steps",
    "register_local_steps",
    "register_shard_choice",
    "register_synchronization",
    "timeline_of",
]
