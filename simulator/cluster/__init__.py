"""Devices, links and named heterogeneity profiles: pure cost functions and random streams."""

from simulator.cluster.clock import Nanoseconds, nanoseconds, seconds
from simulator.cluster.cluster import ClusterModel, MessageShares, build_cluster
from simulator.cluster.collectives import Collective, LinkCost
from simulator.cluster.devices import (
    AUTHORS_STEP_S,
    MEMORY,
    PEAK_FLOPS,
    PROFILES,
    memory_of,
    profile_step_s,
    step_seconds,
)
from simulator.cluster.episodes import Episodes
from simulator.cluster.faults import Absence, FaultModel
from simulator.cluster.layers import Layers, OfferedFragments, offered_fragments
from simulator.cluster.links import SERVER_LINK, Crossing, Link, SiteWays
from simulator.cluster.pulls import Pulls
from simulator.cluster.run_length import Length, length_at_most

__all__ = [
    "AUTHORS_STEP_S",
    "MEMORY",
    "PEAK_FLOPS",
    "PROFILES",
    "SERVER_LINK",
    "Absence",
    "ClusterModel",
    "Collective",
    "Crossing",
    "Episodes",
    "FaultModel",
    "Layers",
    "Length",
    "Link",
    "LinkCost",
    "MessageShares",
    "Nanoseconds",
    "OfferedFragments",
    "Pulls",
    "SiteWays",
    "build_cluster",
    "length_at_most",
    "memory_of",
    "nanoseconds",
    "offered_fragments",
    "profile_step_s",
    "seconds",
    "step_seconds",
]
