from pathlib import Path
from typing import Any

import pytest
from experiment_files import experiment, mistakes, tree

from simulator.experiment import registry
from simulator.experiment.settings_without_effect import notes

SITES = {"east": {}, "west": {}}


def _cluster(devices: dict[str, Any] | None = None, **network: Any) -> dict[str, Any]:
    return {"devices": {"seconds_per_step": [1, 2], "sites": ["east", "west"]} | (devices or {}), "network": network}


@pytest.mark.parametrize(
    ("devices", "sites"),
    [
        ({"seconds_per_step": [1, 2], "sites": ["east", "west"]}, ["east", "west"]),
        ({"seconds_per_step": [1, 2], "sites": "east", "names": "H100"}, ["east", "east"]),
        ({"profile": "very", "workers": 3, "sites": {"east": 1, "west": 2}}, ["east", "west", "west"]),
        ({"relative_speed": [1, 2], "names": {"H100": 1, "T4": 1}}, None),
        (
            {"accelerators": [{"name": "T4", "count": 2, "site": "west"}, {"name": "H100", "site": "east"}]},
            ["west"] * 2 + ["east"],
        ),
        ({"accelerators": [{"name": "T4", "count": 2}], "sites": ["west", "east"]}, ["west", "east"]),
    ],
)
def test_every_form_of_devices_may_have_names_and_sites(devices: dict[str, Any], sites: list[str] | None):
    read = experiment(cluster={"devices": devices})
    assert read.cluster.devices.worker_sites == sites
    assert type(read).model_validate(read.model_dump(mode="json")) == read


def test_a_file_of_workers_may_have_names_and_sites(tmp_path: Path):
    path = tmp_path / "workers.csv"
    path.write_text("worker,seconds_per_step,names,sites\n0,1s,H100,east\n1,2s,T4,west\n", encoding="utf-8")
    devices = experiment(cluster={"devices": {"file": str(path)}}).cluster.devices
    assert (devices.names, devices.worker_sites) == (("H100", "T4"), ["east", "west"])


@pytest.mark.parametrize(
    ("cluster", "found"),
    [
        (
            _cluster({"sites": ["east"]}),
            ("cluster.devices.sites", "is of 1 workers, and there are 2: give one for each"),
        ),
        (
            _cluster({"names": {"H100": 3}}),
            ("cluster.devices.names", "is of 3 workers, and there are 2: give one for each"),
        ),
        (
            _cluster({"sites": ["east", "wset"]}, sites=SITES),
            ("cluster.devices", "no site of the network is called 'wset'; did you mean 'west'?"),
        ),
        (
            _cluster({"sites": None}, sites=SITES),
            ("cluster.network.sites", "is there, and devices have no sites: give devices.sites, or leave it out"),
        ),
        (
            _cluster(sites=SITES, server_site="eats"),
            ("cluster.network.server_site", "no such site; did you mean 'east'?"),
        ),
        (
            _cluster(sites=SITES, up={"bandwidth": ["1MB/s", "2MB/s"]}),
            (
                "cluster.network.up.bandwidth",
                "has a value for each worker, and sites say how it is linked: leave one out",
            ),
        ),
        (
            _cluster(between={"latency": 1}),
            ("cluster.network.between", "is of sites, and there are none: give sites, or leave it out"),
        ),
        (
            _cluster(sites=SITES, between={"latency": [[0, 1], [1, 0], [1, 1]]}),
            (
                "cluster.network.between.latency",
                "has 3 rows of 2 values, and there are 2 sites: give a row and a column for each",
            ),
        ),
        (
            _cluster(sites={"east": {"latency": 0}, "west": {}}, between={"latency": [[0, 1], [1, 0]]}),
            (
                "cluster.network.sites.east.latency",
                "is in the matrix between.latency too: leave one of them out",
            ),
        ),
        (
            _cluster(sites=SITES, between={"pairs": [{"sites": ["east", "north"]}]}),
            ("cluster.network.between.pairs.0.sites", "no site is called 'north'; valid: east, west"),
        ),
        (
            _cluster(sites=SITES, between={"pairs": [{"sites": ["east", "east"]}]}),
            (
                "cluster.network.between.pairs.0.sites",
                "is no way between two sites: give sites.east what is inside of it",
            ),
        ),
        (
            _cluster(efficiency=[["1GB/s", 0.9], ["1MB/s", 0.5]]),
            (
                "cluster.network.efficiency",
                "expected pairs of a rate and a share, such as [[50Mbit/s, 0.78], [1Gbit/s, 0.99]], rising",
            ),
        ),
        (
            {"devices": {"accelerators": [{"name": "T4", "site": "a"}, {"name": "T4"}]}},
            ("cluster.devices.accelerators.1.site", "is missing, and other accelerators have one: give all"),
        ),
    ],
)
def test_sites_that_do_not_fit_are_refused(cluster: dict[str, Any], found: tuple[str, str]):
    content = tree()
    assert mistakes(content | {"cluster": cluster}) == [found]


REGIONS = {"kind": "regions", "regions": "sites", "outer": {"optimizer": "sgd", "learning_rate": 1.0}}
GOSSIP = {"topology": {"kind": "groups"}, "synchronization": {"kind": "barrier"}}


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        (
            {"topology": REGIONS},
            ("topology.regions", "is `sites`, and devices have none: give cluster.devices.sites"),
        ),
        (
            {"cluster": _cluster(sites=SITES), "topology": REGIONS | {"regions": 2}},
            ("topology.regions", "must be `sites` where cluster.network has sites: these have links between them"),
        ),
        (
            {"cluster": _cluster(sites=SITES), "topology": REGIONS | {"latency": 1}},
            ("topology.latency", "follows from cluster.network.sites: leave it out"),
        ),
        (
            {"cluster": _cluster(sites=SITES, server_link={"bandwidth": "1MB/s"}), "topology": REGIONS},
            ("cluster.network.server_link", "of regions at sites is not built: give the sites an uplink"),
        ),
        (
            {"cluster": _cluster(sites=SITES, server_site="east"), **GOSSIP},
            ("cluster.network.server_site", "is of a server, and there is none (groups): leave it out"),
        ),
        (
            {"cluster": _cluster(sites=SITES, down={"latency": 1}), **GOSSIP},
            (
                "cluster.network.down.latency",
                "is of links with a server, and there is none (groups): sites say what the way between two is",
            ),
        ),
    ],
)
def test_topologies_that_do_not_fit_sites_are_refused(settings: dict[str, Any], found: tuple[str, str]):
    with registry.any_name():
        assert mistakes(tree() | settings) == [found]


def test_regions_of_sites_are_in_the_order_of_the_network():
    settings = {"cluster": _cluster(sites={"north": {}, "west": {}, "east": {}}), "topology": REGIONS}
    read = experiment(**settings)
    assert read.topology.members(read.cluster) == ((1,), (0,))  # type: ignore[union-attr]


def test_settings_of_sites_without_effect_are_told():
    read = experiment(cluster=_cluster(sites={"east": {}, "west": {}, "north": {}}, sharing="fair"))
    assert list(notes(read)) == [
        "cluster.network.sharing = 'fair': has no effect: no link is shared",
        "cluster.network.sites.north = '': has no effect: no device and no server is there",
    ]
