"""Costs of sites, worked by hand: a message has 4 MB."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator.cluster import ClusterModel, Crossing, build_cluster
from simulator.experiment import load
from simulator.experiment.schema.cluster import Cluster
from simulator.experiment.schema.efficiency import reached
from simulator.experiment.schema.exchanges import RegionsTopology

ROOT = Path(__file__).parents[2]
SITES = {"east": {"latency": "1ms", "bandwidth": "400MB/s"}, "west": {"latency": "2ms", "bandwidth": "40MB/s"}}
BETWEEN = {"latency": "50ms", "bandwidth": "8MB/s"}
THREE = {"seconds_per_step": [0.1, 0.2, 0.3], "sites": ["east", "west", "west"]}


def cluster(topology: RegionsTopology | None = None, devices: Any = THREE, **network: Any) -> ClusterModel:
    network = {"sites": SITES, "between": BETWEEN} | network
    section = Cluster.model_validate({"devices": devices, "network": network})
    return build_cluster(section, parameters=1_000_000, flops_per_step=1.0, seed=0, topology=topology)


def taking(model: ClusterModel, which: str = "up") -> list[float]:
    link = getattr(model, which)
    return [pytest.approx(link.transfer_s(worker), rel=1e-12) for worker in range(len(link.latency_s))]


def test_a_worker_is_linked_as_its_site_and_the_servers_are():
    # Inside of east 1 ms + 4/400 s; between 50 ms + 4/8 s; inside of west 2 ms + 4/40 s.
    assert taking(cluster()) == taking(cluster(), "down") == [0.011, 0.55, 0.55]
    assert taking(cluster(server_site="west")) == [0.55, 0.102, 0.102]


def test_what_sites_do_not_say_the_network_says():
    model = cluster(sites={"east": {}, "west": {}}, between=None, latency="10ms", bandwidth="4MB/s", efficiency=0.5)
    assert taking(model) == [2.01] * 3
    assert taking(cluster(up={"latency": 1}, down={"bandwidth": "1MB/s"})) == [1.01, 1.5, 1.5]
    assert taking(cluster(down={"bandwidth": "1MB/s"}), "down") == [4.001, 4.05, 4.05]


def test_pairs_go_both_ways_unless_one_of_them_is_a_pair_itself():
    there, back = {"sites": ["west", "east"], "bandwidth": "2MB/s"}, {"sites": ["east", "west"], "latency": "1s"}
    one = cluster(between=BETWEEN | {"pairs": [there]})
    assert (taking(one), taking(one, "down")) == ([0.011, 2.05, 2.05], [0.011, 2.05, 2.05])
    both = cluster(between=BETWEEN | {"pairs": [there, back]})
    assert (taking(both), taking(both, "down")) == ([0.011, 2.05, 2.05], [0.011, 1.5, 1.5])


def test_a_matrix_has_a_row_for_each_sender_and_the_inside_on_its_diagonal():
    matrix = {"bandwidth": [["400MB/s", "2MB/s"], ["1MB/s", "40MB/s"]]}
    sites = {"east": {"latency": "1ms"}, "west": {"latency": "2ms"}}
    model = cluster(sites=sites, between=matrix | {"latency": "50ms"})
    assert taking(model) == [0.011, 4.05, 4.05]  # from west to east
    assert taking(model, "down") == [0.011, 2.05, 2.05]


def test_uplinks_are_crossed_by_what_leaves_a_site_or_comes_to_it():
    sites = {
        "east": SITES["east"] | {"uplink": {"bandwidth": "4MB/s"}},
        "west": SITES["west"] | {"uplink": {"bandwidth": "4MB/s", "efficiency": 0.5}},
    }
    model = cluster(sites=sites, server_link={"bandwidth": "40MB/s"})
    assert model.up.crossings(0) == (Crossing("server", 0.1),)
    assert model.up.crossings(1) == (Crossing("west out", 2.0), Crossing("east in", 1.0), Crossing("server", 0.1))
    assert model.down.crossings(1) == (Crossing("server", 0.1), Crossing("east out", 1.0), Crossing("west in", 2.0))
    assert taking(model) == [0.101, 2.05, 2.05]  # the slowest of all on the way
    assert not model.foresees_ends
    assert cluster().foresees_ends
    assert cluster(server_link={"bandwidth": "40MB/s"}).foresees_ends
    assert not cluster(server_link={"bandwidth": "40MB/s"}, sharing="fair").foresees_ends


def test_peers_use_the_way_between_their_sites():
    ways = cluster().ways
    assert ways is not None
    took_s = [[ways.link.transfer_s(ways.number(one, other)) for other in range(3)] for one in range(3)]
    np.testing.assert_allclose(took_s, [[0.011, 0.55, 0.55], [0.55, 0.102, 0.102], [0.55, 0.102, 0.102]])
    plain = build_cluster(
        Cluster.model_validate({"devices": THREE}), parameters=1, flops_per_step=1.0, seed=0
    )  # whose sites are for tables alone
    assert plain.ways is None


def test_the_regions_of_halos_are_a_file():
    [one, _] = load(ROOT / "experiments/clusters/halos.yaml")
    experiment = one.experiment
    assert isinstance(experiment.topology, RegionsTopology)
    assert experiment.topology.members(experiment.cluster) == tuple(tuple(range(at, at + 4)) for at in (0, 4, 8, 12))
    model = build_cluster(experiment.cluster, parameters=1, flops_per_step=1.0, seed=0, topology=experiment.topology)
    gigabits = 281.7e6 * 8 / 1e9
    np.testing.assert_allclose(model.up.transmission_s, gigabits / 100)  # inside, where each region's server is
    assert model.regional is not None
    np.testing.assert_allclose(model.regional.transmission_s, gigabits / np.array([100, 0.537, 0.935, 0.202]))
    np.testing.assert_allclose(model.step_s[[0, 11]], [0.238391 / 0.232, 0.238391 / 0.107])


def test_efficiency_at_a_rate_is_interpolated_over_its_logarithm():
    points = ((1e6, 0.5), (1e8, 0.9))
    found = [reached(points, rate) / rate for rate in (1e3, 1e6, 1e7, 10**7.5, 1e8, 1e12)]
    np.testing.assert_allclose(found, [0.5, 0.5, 0.7, 0.8, 0.9, 0.9])
    assert reached(points, float("inf")) == float("inf")
    network = {"bandwidth": ["1MB/s", "10MB/s", "200MB/s"], "efficiency": [["1MB/s", 0.5], ["100MB/s", 0.9]]}
    section = Cluster.model_validate({"devices": {"seconds_per_step": [1, 1, 1]}, "network": network})
    model = build_cluster(section, parameters=1_000_000, flops_per_step=1.0, seed=0)
    assert taking(model) == [8.0, 4 / 7, 4 / 180]
