"""Devices, links and named heterogeneity profiles: pure cost functions and random streams."""

from simulator.cluster.clock import Nanoseconds, nanoseconds, seconds
from simulator.cluster.cluster import ClusterModel, Link, MessageShares, build_cluster
from simulator.cluster.collectives import Collective, LinkCost
from simulator.cluster.devices import AUTHORS_STEP_S, PEAK_FLOPS, PROFILES, profile_step_s, step_seconds
from simulator.cluster.faults import Absence, Episodes, FaultModel
from simulator.cluster.layers import Layers, OfferedFragments, offered_fragments
from simulator.cluster.pulls import Pulls
from simulator.cluster.run_length import Length, length_at_most

__all__ = [
    "AUTHORS_STEP_S",
    "PEAK_FLOPS",
    "PROFILES",
    "Absence",
    "ClusterModel",
    "Collective",
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
    "build_cluster",
    "length_at_most",
    "nanoseconds",
    "offered_fragments",
    "profile_step_s",
    "seconds",
    "step_seconds",
]
