"""The simulated clock: SimPy processes of workers and servers, and the policies that order them.

A round's way: a server (`server`) gives a worker (`worker`) a round, with local steps and a shard that policies chose
(`policies.local_steps`, `policies.shard_choice`). The worker pulls over a link (`links`), computes and pushes its
offer, which meets others at a place (`place`); when the synchronization (`policies.synchronization`) closes the group,
it is answered and restarts. Where a `schedule` says so, a worker goes on meanwhile (`overlapping_worker`,
`exchanges`), offering a fragment at a time. Servers may stand above servers (`regions`), or workers meet without one:
a few at a time (`peers`, `topology`), or all of them by a collective (`collectives`). Everything that happens is an
event (`events`), which the simulation follows; `timeline` holds clock, counts and budget, and `build` makes all this of
an experiment.
"""

from simulator.timeline.build import timeline_of
from simulator.timeline.causal_hash import CausalHash
from simulator.timeline.config import Regions, TimelineConfig
from simulator.timeline.deadlock import NoProgressError
from simulator.timeline.events import (
    Accepted,
    Answered,
    Arrival,
    Dispatched,
    Evaluation,
    Event,
    Fault,
    Finished,
    Lost,
    Offered,
    RegionOffer,
    Round,
    Shortened,
    Update,
    own_arrivals,
)
from simulator.timeline.policies.local_steps import MeasuredSpeed, dynamic_steps, fixed_steps
from simulator.timeline.policies.norm_test import Measurements, NeedsTrainingError, NormTest
from simulator.timeline.policies.registered import register_local_steps, register_shard_choice, register_synchronization
from simulator.timeline.policies.shard_choice import FixedShard, LeastVisited, Proportional, ShardChoice
from simulator.timeline.policies.synchronization import Asynchronous, Barrier, Quorum, ServerView, SynchronizationPolicy
from simulator.timeline.schedule import Schedule
from simulator.timeline.timeline import Timeline

__all__ = [
    "Accepted",
    "Answered",
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
    "Measurements",
    "NeedsTrainingError",
    "NoProgressError",
    "NormTest",
    "Offered",
    "Proportional",
    "Quorum",
    "RegionOffer",
    "Regions",
    "Round",
    "Schedule",
    "ServerView",
    "ShardChoice",
    "Shortened",
    "SynchronizationPolicy",
    "Timeline",
    "TimelineConfig",
    "Update",
    "dynamic_steps",
    "fixed_steps",
    "own_arrivals",
    "register_local_steps",
    "register_shard_choice",
    "register_synchronization",
    "timeline_of",
]
