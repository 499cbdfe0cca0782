"""Policies of one's own, for all who use the package: their base, what they see, and giving them names."""

from simulator.timeline import (
    ServerView,
    SynchronizationPolicy,
    register_local_steps,
    register_shard_choice,
    register_synchronization,
)

__all__ = [
    "ServerView",
    "SynchronizationPolicy",
    "register_local_steps",
    "register_shard_choice",
    "register_synchronization",
]
