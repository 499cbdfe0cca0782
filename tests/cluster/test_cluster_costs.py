import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.cluster import ClusterModel, Link, build_cluster
from simulator.experiment.schema.cluster import Cluster
from simulator.host.random_streams import numpy_stream

MILLION = 1_000_000


def cluster(
    network: dict[str, Any] | None = None, *, parameters: int = MILLION, seed: int = 0, **settings: Any
) -> ClusterModel:
    devices = {"seconds_per_step": [0.1, 0.2, 0.3]} | settings.pop("devices", {})
    section = Cluster.model_validate({"devices": devices, "network": network or {}} | settings)
    return build_cluster(section, parameters=parameters, flops_per_step=1.0, seed=seed)


def transfers(link: Link) -> list[float]:
    return [link.transfer_s(worker) for worker in range(len(link.latency_s))]


def test_streams_are_children_of_one_seed_addressed_by_purpose_and_device():
    def draws(*address: Any) -> list[float]:
        return numpy_stream(*address).random(4).tolist()

    assert draws(1, "jitter", 2) == draws(1, "jitter", 2)
    others = [(2, "jitter", 2), (1, "faults", 2), (1, "jitter", 3), (1, "jitter")]
    assert all(draws(*other) != draws(1, "jitter", 2) for other in others)


def test_a_stream_does_not_depend_on_which_others_were_made():
    alone = cluster(seed=5).jitter_stream(1).random(3).tolist()
    many = cluster(seed=5, devices={"seconds_per_step": [0.1] * 50})
    for worker in (0, 2, 49):
        many.jitter_stream(worker).random(1000)
    assert many.jitter_stream(1).random(3).tolist() == alone


def test_ten_steps_of_a_tenth_are_exactly_one():
    assert sum([0.1] * 10) != 1.0
    assert cluster().compute_s(0, 10) == 10 * 0.1 == 1.0


@given(st.integers(1, 10**6), st.sampled_from([0, 1, 2]))
def test_compute_time_is_one_product(steps: int, worker: int):
    model = cluster()
    assert model.compute_s(worker, steps) == steps * [0.1, 0.2, 0.3][worker]
    assert model.compute_s(worker, steps, model.jitter_factor(model.jitter_stream(worker))) == model.compute_s(
        worker, steps
    )


def test_jitter_is_lognormal_of_mean_one():
    sigma, draws = 0.5, 20_000
    model = cluster(devices={"jitter": sigma})
    random = model.jitter_stream(0)
    factors = np.array([model.compute_s(0, 10, model.jitter_factor(random)) for _ in range(draws)]) / 1.0
    spread = math.sqrt(math.exp(sigma**2) - 1)
    assert np.mean(factors) == pytest.approx(1, abs=5 * spread / math.sqrt(draws))
    assert np.mean(np.log(factors)) == pytest.approx(-(sigma**2) / 2, abs=5 * sigma / math.sqrt(draws))
    assert np.std(np.log(factors)) == pytest.approx(sigma, rel=0.05)


def test_jitter_takes_one_number_of_the_workers_own_stream_per_round():
    model = cluster(devices={"jitter": 0.3}, seed=7)
    random, reference = model.jitter_stream(2), numpy_stream(7, "jitter", 2)
    for steps in (10, 1, 1000):
        expected = steps * 0.3 * math.exp(0.3 * reference.standard_normal() - 0.045)
        assert model.compute_s(2, steps, model.jitter_factor(random)) == pytest.approx(expected, rel=1e-14)


def test_a_transfer_takes_latency_plus_bytes_over_effective_bandwidth():
    model = cluster({"latency": "50ms", "bandwidth": "1Gbit/s", "efficiency": 0.8})
    # 4e6 bytes over 0.8 * 125e6 bytes/s = 0.04 s
    assert model.down.message_bytes == model.up.message_bytes == 4 * MILLION
    assert transfers(model.down) == transfers(model.up) == pytest.approx([0.09] * 3, rel=1e-14)


def test_links_of_each_worker():
    model = cluster({"latency": [0, "1ms", 1], "bandwidth": ["4MB/s", "8MB/s", "unlimited"]})
    assert transfers(model.up) == pytest.approx([1.0, 0.501, 1.0], rel=1e-14)


def test_one_direction_differs_where_it_says_so_and_nowhere_else():
    network = {
        "latency": "10ms",
        "bandwidth": "4MB/s",
        "up": {"bandwidth": ["1MB/s", "2MB/s", "4MB/s"], "bytes_per_parameter": 2, "efficiency": 0.5},
        "down": {"latency": 0},
    }
    model = cluster(network)
    assert (model.down.message_bytes, model.up.message_bytes) == (4 * MILLION, 2 * MILLION)
    assert transfers(model.down) == pytest.approx([1.0] * 3, rel=1e-14)
    assert transfers(model.up) == pytest.approx([4.01, 2.01, 1.01], rel=1e-14)


def test_a_direction_can_be_unlimited_while_the_other_is_not():
    model = cluster({"bandwidth": "4MB/s", "down": {"bandwidth": "unlimited"}})
    assert (transfers(model.down), transfers(model.up)) == ([0.0] * 3, [1.0] * 3)


@pytest.mark.parametrize(("per_parameter", "expected"), [(4, 12), (2, 6), (0.5, 2), (0.25, 1)])
def test_message_bytes_are_whole(per_parameter: float, expected: int):
    model = cluster({"bytes_per_parameter": per_parameter}, parameters=3)
    assert model.up.message_bytes == expected
    assert isinstance(model.up.message_bytes, int)


def test_no_network_section_means_transfers_that_take_no_time():
    model = cluster()
    assert transfers(model.up) == transfers(model.down) == [0.0] * 3
    assert model.up.shared_s is None
    assert model.server_update_s == 0.0


def test_the_servers_link_is_the_bottleneck_where_it_is_slower():
    network = {"bandwidth": ["1MB/s", "4MB/s", "unlimited"], "latency": "1s"}
    model = cluster(network | {"server_link": {"bandwidth": "4MB/s", "efficiency": 0.5}})
    assert model.up.shared_s == model.down.shared_s == 2.0
    assert transfers(model.up) == [5.0, 3.0, 3.0]
    unlimited = cluster(network | {"server_link": {"bandwidth": "unlimited"}})
    assert unlimited.up.shared_s == 0.0
    assert transfers(unlimited.up) == [5.0, 2.0, 1.0]


def test_the_servers_own_time():
    assert cluster(server_update_time="200ms").server_update_s == 0.2


@given(
    latency=st.floats(0, 10),
    bandwidth=st.floats(1e3, 1e12),
    efficiency=st.floats(0.01, 1),
    parameters=st.integers(0, 10**12),
)
def test_transfers_follow_the_formula(latency: float, bandwidth: float, efficiency: float, parameters: int):
    network = {"latency": latency, "bandwidth": f"{bandwidth!r}B/s", "efficiency": efficiency}
    model = cluster(network, parameters=parameters)
    expected = latency + 4 * parameters / (bandwidth * efficiency)
    assert transfers(model.down) == pytest.approx([expected] * 3, rel=1e-12)


def test_a_message_size_replaces_the_models():
    model = cluster({"bandwidth": "1GB/s", "message_size": "2GiB", "up": {"message_size": "500MB"}}, parameters=10)
    assert (model.down.message_bytes, model.up.message_bytes) == (2 * 1024**3, 500_000_000)
    assert transfers(model.up) == pytest.approx([0.5] * 3)
