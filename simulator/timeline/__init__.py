"""The simulated clock: SimPy processes of workers and server, and the policies that order them.

A round's way: the server (`timeline`) gives a worker (`worker`) a round, with local steps and a shard that policies
chose (`policies.local_steps`, `policies.shard_choice`). The worker pulls over a link (`links`), computes and pushes.
The server processes the arrival; when the synchronization (`policies.synchronization`) closes the group, it restarts.
Everything that happens is an event (`events`), which the simulation follows; `build` makes all this of an experiment.
"""

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
from simulator.timeline.policies.local_steps import MeasuredSpeed, dynamic_steps, fixed_steps
from simulator.timeline.policies.registered import register_local_steps, register_shard_choice, register_synchronization
from simulator.timeline.policies.shard_choice import FixedShard, LeastVisited, Proportional, ShardChoice
from simulator.timeline.policies.synchronization import Asynchronous, Barrier, ServerView, SynchronizationPolicy
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
