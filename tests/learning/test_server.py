from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.experiment.schema.outer import NesterovOuter, SGDOuter
from simulator.learning import Evaluator, OfferInfo, OfferMade, Offers, OuterPrograms, Server, build_outer
from simulator.learning.server import batch_sizes
from tests.learning.quadratic import ARRAYS, START, fetch, loss, offers

NESTEROV = NesterovOuter(optimizer="nesterov", learning_rate=0.5, momentum=0.5)


SGD = SGDOuter(optimizer="sgd", learning_rate=1.0)


def server(outer: Any = NESTEROV, **settings: Any) -> Server:
    return Server(START, OuterPrograms(build_outer(outer)), **settings)


def gradient(*values: float) -> Any:
    return {"x": jnp.array(values, jnp.float32)}


def apply(to: Server, pseudo_gradient: Any, staleness: int = 0, pulled_params: Any = START) -> None:
    to.apply(pseudo_gradient, OfferInfo(0, staleness), pulled_params)


def infos(count: int, steps: tuple[int, ...] = (), staleness: tuple[int, ...] = ()) -> list[OfferInfo]:
    return [
        OfferInfo(worker, staleness[worker] if staleness else 0, steps[worker] if steps else 5)
        for worker in range(count)
    ]


def meet(at: Server, *gradients: Any, starts: Any = None, **facts: Any) -> bool:
    stepped, _ = at.meet(offers(*gradients), infos(len(gradients), **facts), starts)
    return bool(stepped)


def test_arrivals_step_one_after_another_by_hand():
    # START = 1, -2, 0.5; m = g, then 0.5 m + g; the step is 0.5 (g + 0.5 m).
    one = server()
    apply(one, gradient(4, 0, 8))
    np.testing.assert_array_equal(one.params["x"], [1 - 0.5 * 6, -2, 0.5 - 0.5 * 12])
    apply(one, gradient(0, 4, 8))
    np.testing.assert_array_equal(one.params["x"], [-2 - 0.5 * 1, -2 - 0.5 * 6, -5.5 - 0.5 * (8 + 0.5 * 12)])


def test_the_first_step_is_the_program_of_all_others():
    start, *gradients = jax.device_put([START, gradient(4, 0, 8), gradient(0, 4, 2)], jax.devices()[0])
    programs = OuterPrograms(build_outer(NESTEROV))
    one = Server(start, programs)
    for each in gradients:
        apply(one, each, pulled_params=start)
    assert programs.update._cache_size() == 1


def test_a_synchronous_round_is_one_step_on_the_mean():
    together, once, in_turn = server(), server(), server()
    gradients = [gradient(4, 0, 8), gradient(0, 4, 2), gradient(2, -1, 2)]
    for _ in range(2):  # the second with momentum
        assert meet(together, *gradients)
        apply(once, gradient(2, 1, 4))
        for each in gradients:
            apply(in_turn, each)
        np.testing.assert_allclose(together.params["x"], once.params["x"], rtol=1e-6)
        assert not np.allclose(together.params["x"], in_turn.params["x"], atol=0.5)


def test_the_mean_does_not_depend_on_the_order():
    gradients = [gradient(4, 0, 8), gradient(0, 4, 2), gradient(2, -1, 2)]
    forward, backward = server(), server()
    meet(forward, *gradients)
    meet(backward, *gradients[::-1])
    np.testing.assert_allclose(forward.params["x"], backward.params["x"], rtol=1e-6)


def test_the_mean_of_one_is_itself():
    one, other = server(), server()
    meet(one, gradient(4, 0, 8))
    apply(other, gradient(4, 0, 8))
    np.testing.assert_array_equal(one.params["x"], other.params["x"])


def test_a_synchronous_round_is_never_stale_nor_compensated():
    outer = SGDOuter(
        optimizer="sgd",
        learning_rate=1.0,
        delay_compensation=0.5,
        staleness={"kind": "polynomial", "drop_above": 0},
    )
    one = server(outer)
    for _ in range(2):
        meet(one, gradient(4, 0, 8), gradient(0, 4, 0), staleness=(0, 3))
    np.testing.assert_allclose(one.params["x"], [1 - 4, -2 - 4, 0.5 - 8], rtol=1e-6)


# Other aggregations than the mean.


def test_offers_can_be_weighted_by_their_local_steps():
    one = server(SGD, aggregation="weighted")
    assert meet(one, gradient(4, 0, 8), gradient(0, 4, 0), steps=(1, 3))
    np.testing.assert_array_equal(one.params["x"], [1 - 1, -2 - 3, 0.5 - 2])  # (4 + 0, 0 + 12, 8 + 0) / 4


def test_weights_of_offers_that_are_left_out_do_not_count():
    one = server(SGD, aggregation="weighted")
    assert meet(one, gradient(4, 0, 8), gradient(np.nan, 4, 0), gradient(0, 4, 0), steps=(1, 100, 3))
    np.testing.assert_array_equal(one.params["x"], [1 - 1, -2 - 3, 0.5 - 2])


def test_weights_that_are_all_alike_are_the_mean():
    weighted, mean = server(aggregation="weighted"), server()
    for each in (weighted, mean):
        meet(each, gradient(4, 0, 8), gradient(0, 4, 2), gradient(2, -1, 2), steps=(7, 7, 7))
    np.testing.assert_allclose(weighted.params["x"], mean.params["x"], rtol=1e-6)


def test_offers_can_each_be_a_step_in_order():
    folding, in_turn = server(aggregation="fold"), server()
    gradients = [gradient(4, 0, 8), gradient(0, 4, 2)]
    assert meet(folding, *gradients)
    for each in gradients:
        apply(in_turn, each)
    np.testing.assert_array_equal(folding.params["x"], in_turn.params["x"])
    backwards = server(aggregation="fold")
    meet(backwards, *gradients[::-1])
    assert not np.allclose(backwards.params["x"], folding.params["x"])


def test_a_fold_tells_the_staleness_of_each_offer_and_where_it_began():
    outer = SGDOuter(optimizer="sgd", learning_rate=1.0, staleness={"kind": "polynomial"}, delay_compensation=0.5)
    one = server(outer, aggregation="fold")
    # 4 + 0.5 * 16 * (1 - 0.75) = 6, weighted with (1 + 3)^-0.5; then 2 + 0.5 * 4 * (-2 - (-2.5)) = 3.
    meet(
        one,
        gradient(4, 0, 0),
        gradient(0, 2, 0),
        staleness=(3, 0),
        starts=[gradient(0.75, 0, 0), gradient(0, -2.5, 0)],
    )
    np.testing.assert_allclose(one.params["x"], [1 - 3, -2 - 3, 0.5], rtol=1e-6)


def test_a_fold_leaves_out_what_is_not_finite_and_has_stepped_if_one_is():
    one = server(SGD, aggregation="fold")
    assert meet(one, gradient(np.inf, 0, 0), gradient(0, 4, 0))
    np.testing.assert_array_equal(one.params["x"], [1, -2 - 4, 0.5])
    assert not meet(one, gradient(np.inf, 0, 0), gradient(0, np.nan, 0))


class Largest:
    """Takes the offer of the most steps of those that are finite, and counts what it has seen."""

    def init(self, params: Any) -> Any:
        return jnp.zeros((), jnp.int32)

    def update(self, offers: Offers, state: Any) -> tuple[Any, Any]:
        assert (offers.steps.dtype, offers.tokens.dtype, offers.tokens.shape) == ("int32", "float32", (3,))
        chosen = jnp.argmax(jnp.where(offers.finite, offers.steps, -1))
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *offers.trees)
        scale = 1 + offers.worker[chosen] + offers.staleness[chosen]
        return jax.tree.map(lambda leaf: leaf[chosen] * scale.astype(leaf.dtype), stacked), state + len(offers.trees)


def test_an_aggregation_of_ones_own_is_told_of_each_offer_and_keeps_a_state():
    one = server(SGD, aggregation=Largest())
    gradients = gradient(4, 0, 8), gradient(0, 1, 0), gradient(np.nan, 0, 0)
    for _ in range(2):  # worker 1 with staleness 2: 4 times what it offers
        meet(one, *gradients, steps=(1, 3, 9), staleness=(0, 2, 0))
    np.testing.assert_array_equal(one.params["x"], [1, -2 - 2 * 4, 0.5])
    assert int(one.aggregation) == 6


def test_an_outer_optimizer_is_told_the_mean_of_where_the_offers_began_if_it_is_known():
    # lambda 0.5: g = (4 + 0) / 2 = 2; 2 + 0.5 * 4 * (1 - mean of 0.5 and 0) = 3.5
    one = server(SGDOuter(optimizer="sgd", learning_rate=1.0, delay_compensation=0.5))
    meet(one, gradient(4, 0, 0), gradient(0, 0, 0), starts=[gradient(0.5, 0, 0), gradient(0, 0, 0)])
    np.testing.assert_allclose(one.params["x"], [1 - 3.5, -2, 0.5], rtol=1e-6)


def test_where_an_offer_began_that_is_left_out_does_not_count():
    one = server(SGDOuter(optimizer="sgd", learning_rate=1.0, delay_compensation=0.5))
    meet(one, gradient(2, 0, 0), gradient(np.nan, 0, 0), starts=[gradient(0.25, 0, 0), gradient(9, 9, 9)])
    np.testing.assert_allclose(one.params["x"], [1 - 3.5, -2, 0.5], rtol=1e-6)  # 2 + 0.5 * 4 * 0.75


def test_without_outer_steps_the_aggregate_takes_the_parameters_place():
    one = server(steps=False)
    assert meet(one, gradient(4, 0, 8), gradient(0, 4, 2))
    np.testing.assert_array_equal(one.params["x"], [2, 2, 5])
    assert one.state == ()
    assert not meet(one, gradient(np.nan, 0, 0))


# What an optimizer is told.


def test_the_optimizer_is_told_the_staleness_and_what_was_pulled():
    outer = SGDOuter(optimizer="sgd", learning_rate=1.0, staleness={"kind": "polynomial"}, delay_compensation=0.5)
    one = server(outer)
    # 4 + 0.5 * 16 * (1 - 0.75) = 6, weighted with (1 + 3)^-0.5
    apply(one, gradient(4, 0, 0), staleness=3, pulled_params=gradient(0.75, 0, 0))
    np.testing.assert_allclose(one.params["x"], [1 - 3, -2, 0.5], rtol=1e-6)


def test_versions_that_were_pulled_stay_as_they_were():
    one = server()
    versions, copies = [], []
    for _ in range(3):
        versions.append(one.params)
        copies.append(np.array(one.params["x"]))
        apply(one, gradient(1, 2, 3), pulled_params=versions[0])
    assert len({id(version) for version in (*versions, one.params)}) == 4
    for version, copied in zip(versions, copies, strict=True):
        np.testing.assert_array_equal(version["x"], copied)
    np.testing.assert_array_equal(versions[0]["x"], START["x"])
    assert not np.allclose(versions[0]["x"], versions[1]["x"])


def test_an_outer_optimizer_is_told_the_steps_and_tokens_of_an_offer_and_of_a_whole_meeting():
    def update(updates: Any, state: Any, params: Any = None, *, steps: Any, tokens: Any, **extra: Any) -> Any:
        return updates, jnp.stack([steps.astype(jnp.float32), tokens])

    told = optax.GradientTransformationExtraArgs(lambda params: jnp.zeros(2), update)
    one = Server(START, OuterPrograms(told))
    one.apply(gradient(1, 1, 1), OfferInfo(2, 0, 5, 40.0), one.params)
    assert one.state.tolist() == [5, 40]
    offers = [OfferMade(gradient(1, 1, 1), jnp.bool_(True), (), ()) for _ in range(2)]
    one.meet(offers, [OfferInfo(0, 0, 5, 40.0), OfferInfo(1, 0, 3, 24.0)], None)
    assert one.state.tolist() == [8, 64]


def test_servers_share_programs_and_not_momentum():
    traces = 0

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        nonlocal traces
        traces += 1
        return sgd.update(updates, state, params)

    sgd = optax.sgd(0.5, momentum=0.5)
    programs = OuterPrograms(optax.GradientTransformationExtraArgs(sgd.init, update))
    one, other = Server(START, programs), Server(START, programs)
    for staleness in range(3):
        apply(one, gradient(1, 1, 1), staleness)
    apply(other, gradient(1, 1, 1))
    meet(other, gradient(2, 2, 2), gradient(0, 0, 0))
    # m = 1, 1.5, 1.75 for the one; 1, 1.5 for the other
    np.testing.assert_array_equal(one.params["x"], START["x"] - 0.5 * 4.25)
    np.testing.assert_array_equal(other.params["x"], START["x"] - 0.5 * 2.5)
    assert traces == 1


# Evaluation.


def mean_loss(examples: np.ndarray) -> float:
    """Of each example by itself."""
    differences = np.asarray(START["x"])[None, :] - np.asarray(ARRAYS["targets"])[examples]
    return float(np.mean(0.5 * np.sum(differences**2, axis=1)))


@pytest.mark.parametrize(
    ("examples", "batch_size", "sizes"),
    [
        (12, 4, {4: 3}),
        (12, 12, {12: 1}),
        (12, 1, {1: 12}),
        (5, 64, {5: 1}),  # fewer than a batch
        (14, 4, {4: 3, 2: 1}),
        (7, 4, {4: 1, 3: 1}),
        (64, 60, {32: 2}),
        (31, 15, {11: 2, 9: 1}),
    ],
)
def test_an_evaluation_is_the_plain_mean_of_all_examples(examples: int, batch_size: int, sizes: dict[int, int]):
    addresses = np.random.default_rng(3).permutation(64)[:examples].astype(np.int32)
    evaluator = Evaluator(loss, fetch, ARRAYS, [addresses], batch_size)
    assert {size: len(batches) for size, batches in evaluator.batches.items()} == sizes
    seen = np.concatenate([batches.ravel() for batches in evaluator.batches.values()])
    np.testing.assert_array_equal(seen, addresses)
    value = evaluator(START)
    assert (value.shape, value.dtype) == ((1,), jnp.float32)
    assert float(value[0]) == pytest.approx(mean_loss(addresses), rel=1e-5)
    if len(sizes) > 1:
        batch = next(iter(sizes))
        assert mean_loss(addresses) != pytest.approx(mean_loss(addresses[: batch * sizes[batch]]), rel=1e-3)


@given(lengths=st.lists(st.integers(0, 700), min_size=1, max_size=12), most=st.integers(1, 80))
def test_batches_hold_every_example_once_in_few_sizes(lengths: list[int], most: int):
    sizes = batch_sizes(lengths, most)
    assert [sum(own) for own in sizes] == lengths
    different = {size for own in sizes for size in own}
    assert all(0 < size <= most for size in different)
    assert len(different) <= 1 + most.bit_length()
    for own, length in zip(sizes, lengths, strict=True):
        assert len(own) <= -(-length // max(different, default=1)) + most.bit_length()
    if len(lengths) == 1:
        assert len(different) <= 2


def test_evaluating_again_does_not_compile_again():
    traces = 0

    def counted(params: Any, targets: Any, key: Any) -> jax.Array:
        nonlocal traces
        traces += 1
        assert key is None
        return loss(params, targets, key)

    evaluator = Evaluator(counted, fetch, ARRAYS, [np.arange(11, dtype=np.int32)], 4)
    [first] = evaluator(START).tolist()
    traces_once = traces
    assert traces_once >= 2
    assert evaluator(jax.tree.map(lambda leaf: leaf + 1, START)).tolist() != [first]
    assert traces == traces_once


@pytest.mark.parametrize("lengths", [(10, 10, 10), (12, 7, 0, 1), (0,), (13, 2, 3, 5, 6, 7, 8)])
def test_sets_of_examples_have_means_of_their_own(lengths: tuple[int, ...]):
    sets = [np.random.default_rng(n).permutation(64)[:length].astype(np.int32) for n, length in enumerate(lengths)]
    values = Evaluator(loss, fetch, ARRAYS, sets, 4)(START)
    assert (values.shape, values.dtype) == ((len(lengths),), jnp.float32)
    expected = [mean_loss(own) if len(own) else np.nan for own in sets]
    assert len({*expected}) == len(lengths)
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_a_loss_that_is_not_finite_stays_in_its_set():
    arrays = {"targets": ARRAYS["targets"].at[5].set(jnp.nan)}
    sets = [np.array(own, np.int32) for own in ([1, 5, 2, 3, 4], [6, 7, 8, 9, 10])]
    bad, good = Evaluator(loss, fetch, arrays, sets, 4)(START).tolist()
    assert np.isnan(bad)
    assert good == pytest.approx(mean_loss(sets[1]), rel=1e-5)
