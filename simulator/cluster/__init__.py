"""Devices, links and named heterogeneity profiles: pure cost functions and random streams."""

from simulator.cluster.clock import Nanoseconds, nanoseconds, seconds
from simulator.cluster.cluster import ClusterModel, Link, MessageShares, build_cluster
from simulator.cluster.devices import AUTHORS_STEP_S, PEAK_FLOPS, PROFILES, profile_step_s, step_seconds
from simulator.cluster.episodes import Episodes
from simulator.cluster.faults import Absence, FaultModel
from simulator.cluster.pulls import Pulls
from simulator.cluster.run_length import Length, length_at_most

__all__ = [
    "AUTHORS_STEP_S",
    "PEAK_FLOPS",
    "PROFILES",
    "Absence",
    "ClusterModel",
    "Episodes",
    "FaultModel",
    "Length",
    "Link",
    "MessageShares",
    "Nanoseconds",
    "Pulls",
    "build_cluster",
    "length_at_most",
    "nanoseconds",
    "profile_step_s",
    "seconds",
    "step_seconds",
]
