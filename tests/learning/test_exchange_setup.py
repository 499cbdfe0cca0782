"""Exchanges of an experiment: sizes of messages, places and what is shared."""

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simulator import Cache, Setup
from simulator.experiment import registry
from simulator.experiment.file import merge
from simulator.host.errors import SettingError
from simulator.learning import OfferInfo
from tests.experiments import tiny

BARRIER = {"synchronization": {"kind": "barrier"}, "outer": {"weight": 1.0}}
REGIONS = {
    "topology": {"kind": "regions", "regions": 2, "outer": {"optimizer": "sgd", "learning_rate": 1.0}, "mix": 0.25}
}


@pytest.fixture(scope="module")
def shared() -> Cache:
    return Cache()


NOLOCO = {"optimizer": "noloco", "learning_rate": 0.5, "momentum": 0.5}


def setup_of(shared: Cache, *changes: Any) -> Setup:
    return Setup(tiny(**functools.reduce(merge, changes, BARRIER)), shared)


# Sizes.


@pytest.mark.parametrize(
    ("changes", "offers", "answers"),
    [
        ({}, [1.0], [1.0]),
        ({"compression": {"kind": "bf16"}}, [0.5], [1.0]),
        ({"compression": {"kind": "fp4"}}, [4 / 32], [1.0]),
        ({"compression": {"kind": "top_k", "width": 2}}, [0.21875 / 32], [1.0]),
        ({"compression": {"kind": "random", "share": 0.25}}, [0.25], [1.0]),
        # Of parameters that are sent with 2 bytes anyway.
        ({"compression": {"kind": "fp4"}, "cluster": {"network": {"bytes_per_parameter": 2}}}, [4 / 16], [1.0]),
        ({"offer": {"weights": True}, "outer": NOLOCO}, [2.0], [1.0]),
        ({"offer": {"weights": True}, "outer": NOLOCO, "compression": {"kind": "fp4"}}, [4 / 32 + 1], [1.0]),
    ],
)
def test_sizes_of_offers_and_answers(shared: Cache, changes: Any, offers: list[float], answers: list[float]):
    found = setup_of(shared, changes).exchanges.shares
    assert found == (pytest.approx(offers), pytest.approx(answers))


@pytest.mark.parametrize("rows", [False, True])
def test_means_of_bins_are_sent_beside_each_array_or_each_of_its_rows(shared: Cache, rows: bool):
    """Arrays of the block and of what is outside, each with 16 means of 32 bits, or as many for each row."""
    compression = {"compression": {"kind": "statistical", "width": 4, "rows": rows}}
    setup = setup_of(shared, compression)
    shapes = [leaf.shape for leaf in jax.tree.leaves(setup.params_like)]
    size = sum(map(np.prod, shapes))
    tables = sum(shape[0] if rows and len(shape) > 1 else 1 for shape in shapes)
    assert setup.exchanges.shares == ([pytest.approx((4 * size + 16 * 32 * tables) / (32 * size))], [1.0])
    parts = {"schedule": {"fragments": 2, "composition": "by_size"}}
    offers, _ = setup_of(shared, compression, parts).exchanges.shares
    assert sum(offers) == pytest.approx(setup.exchanges.shares[0][0])


def test_sizes_of_fragments_are_those_of_their_parameters(shared: Cache):
    # One block of width 16: 2 * 16 + 16 * 48 + 16 * 16 + 16 * 64 + 64 * 16; outside 16 * 16 + 8 * 16 + 16.
    first, outside = 32 + 768 + 256 + 1024 + 1024, 256 + 128 + 16
    changes = {"model": {"layers": 2}, "schedule": {"fragments": 2}, "compression": {"kind": "bf16"}}
    offers, answers = setup_of(shared, changes).exchanges.shares
    assert answers == pytest.approx([(first + outside) / (2 * first + outside), first / (2 * first + outside)])
    assert offers == pytest.approx([answers[0] / 2, answers[1] / 2])


def test_more_fragments_than_blocks_are_refused_with_what_to_do(shared: Cache):
    exchanges = setup_of(shared, {"schedule": {"fragments": 2}}).exchanges
    with pytest.raises(SettingError, match=r"the model has 1 blocks, .*: choose fewer, or composition: by_size"):
        _ = exchanges.fragments
    assert setup_of(shared, {"schedule": {"fragments": 2, "composition": "by_size"}}).exchanges.fragments.count == 2


# Places.


@pytest.mark.parametrize(
    ("changes", "nodes", "evaluates_workers", "mix"),
    [
        ({}, [-1], False, 1.0),
        (REGIONS, [-1, -2, -3], False, 0.25),
        ({"topology": {"kind": "groups"}}, [0, 1, 2, 3], True, 1.0),
        ({"topology": {"kind": "nobody"}}, [0, 1, 2, 3], True, 1.0),
        ({"merge": {"kind": "outer"}}, [-1], True, 1.0),
    ],
)
def test_nodes_with_places(shared: Cache, changes: Any, nodes: list[int], evaluates_workers: bool, mix: float):
    exchanges = setup_of(shared, changes).exchanges
    assert (exchanges.nodes, exchanges.evaluates_workers, exchanges.mix) == (nodes, evaluates_workers, mix)


def ended(setup: Setup, node: int, gradient: float = 1.0) -> float:
    """Distance that a parameter of a place goes against a pseudo-gradient."""
    start = setup.start()
    server = setup.exchanges.server(node, start)
    moved = jax.tree.map(lambda leaf: np.full(leaf.shape, gradient, leaf.dtype), start)
    server.apply(moved, OfferInfo(0, 0), start)
    before, after = (jax.tree.leaves(each)[0].ravel()[0] for each in (start, server.params))
    return float(before - after)


def test_the_upper_server_has_an_outer_optimizer_of_its_own(shared: Cache):
    setup = setup_of(shared, REGIONS)  # those of regions: Nesterov of rate 0.5 and momentum 0.9
    assert ended(setup, -1) == pytest.approx(1.0, rel=1e-5)
    assert ended(setup, -2) == ended(setup, -3) == pytest.approx(0.5 * 1.9, rel=1e-5)


def test_a_place_has_no_outer_step_where_it_is_at_the_workers(shared: Cache):
    setup = setup_of(shared, {"merge": {"kind": "outer"}})
    server = setup.exchanges.server(-1, setup.start())
    assert server.state == ()


def test_exchanges_and_outer_programs_are_shared_by_experiments_that_have_the_same(shared: Cache):
    one, other = (
        setup_of(shared, {"seed": seed, "inner": {"learning_rate": rate}}) for seed, rate in ((0, 0.1), (1, 0.2))
    )
    assert one.exchanges.exchange is other.exchanges.exchange
    assert one.exchanges.server(-1, one.start())._programs is other.exchanges.server(-1, one.start())._programs
    for changes in ({"merge": {"kind": "lerp"}}, {"compression": {"kind": "sign"}}, {"outer": {"learning_rate": 0.1}}):
        assert setup_of(shared, changes).exchanges.exchange is not one.exchanges.exchange


@pytest.mark.parametrize("optimizer", ["nesterov", "heavy_ball", "noloco"])
def test_a_look_ahead_goes_where_the_momentum_does(shared: Cache, optimizer: str):
    outer = {"optimizer": optimizer, "learning_rate": 0.5, "momentum": 0.5}
    weights = {"offer": {"weights": True}} if optimizer == "noloco" else {}
    setup = setup_of(shared, {"view": {"kind": "look_ahead"}, "outer": outer} | weights)
    start, server = setup.start(), setup.exchanges.server(-1, setup.start())
    ones = jax.tree.map(jnp.ones_like, start)
    server.apply(ones, OfferInfo(0, 0), start)
    ahead = setup.exchanges.exchange.view(server.params, server.state)
    found = jax.tree.leaves(jax.tree.map(lambda at, to: float((at - to).mean()), server.params, ahead))
    assert found == pytest.approx([0.25] * len(found), rel=1e-4)  # half of a step of 0.5


class Mistaken:
    """A merge, an aggregation and a compression with a mistake."""

    def init(self, params: Any) -> Any:
        return ()

    def update(self, *given: Any) -> Any:
        return (1.0, *given[1:]) if len(given) == 5 else given[0].trees[0]["nothing"]

    def bits(self, full: float) -> float:
        return full

    def decoded(self, array: Any, key: Any) -> Any:
        return array[:1]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("view", r"view.kind = 'mistaken': cannot be computed of parameters of this model: .*KeyError.*'nothing'"),
        ("merge", r"merge.kind = 'mistaken': returns what is not like the parameters|cannot be computed"),
        ("aggregation", r"aggregation.kind = 'mistaken': cannot be computed of .*KeyError.*'nothing'"),
        ("offer", r"offer.kind = 'mistaken': cannot be computed of parameters of this model: .*KeyError.*'nothing'"),
        ("compression", r"compression.kind = 'mistaken': returns what is not like the parameters"),
    ],
)
def test_what_is_registered_is_tried_on_shapes(shared: Cache, section: Any, message: str):
    with registry.emptied():
        view = lambda params, state: {}["nothing"]  # noqa: E731
        registry.register(section, "mistaken", (lambda: view) if section in ("view", "offer") else Mistaken)
        exchanges = setup_of(shared, {section: {"kind": "mistaken"}}).exchanges
        with pytest.raises(SettingError) as found:
            exchanges.check()
        assert re.search(message, str(found.value))


# Learning settings, by which simulations share training.


def test_what_takes_time_alone_is_no_learning_setting(shared: Cache):
    settings = setup_of(shared, REGIONS).learning_settings
    slower = {"topology": {"latency": "3s", "bandwidth": "1kB/s"}, "cluster": {"network": {"latency": "1s"}}}
    assert setup_of(shared, REGIONS, slower).learning_settings == settings


@pytest.mark.parametrize(
    "changes",
    [
        {"compression": {"kind": "sign"}},
        {"compression": {"kind": "sign", "feedback": 0.5}},
        {"aggregation": {"kind": "fold"}},
        {"merge": {"kind": "lerp"}},
        {"view": {"kind": "look_ahead"}},
        {"outer": NOLOCO, "offer": {"weights": True}},
        {"schedule": {"overlap": 1}},
        {"topology": {"kind": "groups"}},
        {"topology": {"kind": "groups", "size": 3}},
        {"outer": {"learning_rate": 0.25}},
    ],
    ids=str,
)
def test_every_slot_is_a_learning_setting(shared: Cache, changes: Any):
    assert setup_of(shared, changes).learning_settings != setup_of(shared).learning_settings
