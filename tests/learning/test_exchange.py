"""Offers and what becomes of their answers, with numbers worked by hand."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import TypeAdapter

from simulator.experiment import registry
from simulator.experiment.schema.exchanges import Compression, EagerMerge, Merge, NamedOffer, View
from simulator.experiment.schema.outer import DelayedNesterovOuter, HeavyBallOuter, NesterovOuter, SGDOuter
from simulator.learning import Exchange, OfferInfo, OfferMade, OptimizerError, OuterPrograms, Server, build_outer

KEY = jax.random.key(0)
SGD = SGDOuter(optimizer="sgd", learning_rate=1.0)
NESTEROV = NesterovOuter(optimizer="nesterov", learning_rate=0.5, momentum=0.5)


@pytest.fixture(autouse=True)
def own_names() -> Iterator[None]:
    """Names that a test registers are gone after it."""
    with registry.emptied():
        yield


def exchange(
    merge: Any = "overwrite", compression: Any = "none", view: Any = "parameters", outer: Any = SGD, **more: Any
) -> Exchange:
    """Sections by kind, or with settings."""
    sections = [
        TypeAdapter(section).validate_python({"kind": given} if isinstance(given, str) else given)
        for section, given in ((Compression, compression), (Merge, merge), (View, view))
    ]
    return Exchange(*sections, build_outer(outer), **more)


def own_offer(function: Any) -> NamedOffer:
    """An offer of one's own."""
    registry.register("offer", "own", lambda: function)
    return NamedOffer(kind="own")


def tree(*values: float) -> Any:
    return {"x": jnp.array(values, jnp.float32)}


def values(params: Any) -> list[float]:
    return np.asarray(params["x"]).tolist()


def sent(offered: Any, local: Any = ()) -> OfferMade:
    return OfferMade(offered, jnp.bool_(True), (), local)


# Offers.


def test_an_offer_is_what_a_worker_has_come_from_minus_what_it_has_come_to():
    offer = exchange().offer(tree(1, 2), tree(5, 1), (), KEY)
    assert values(offer.tree) == [4, -1]
    assert bool(offer.finite)
    assert (offer.feedback, offer.local) == ((), ())


def test_an_offer_is_coded():
    assert values(exchange(compression="sign").offer(tree(1, 2), tree(5, 1), (), KEY).tree) == [1, -1]


def test_an_offer_has_the_senders_parameters_where_a_merge_needs_them():
    assert values(exchange("keep_progress").offer(tree(1, 2), tree(5, 1), (), KEY).local) == [1, 2]
    assert exchange("lerp").offer(tree(1, 2), tree(5, 1), (), KEY).local == ()


def test_an_offer_of_ones_own_is_of_what_was_last_accepted_and_of_where_the_worker_is():
    squares = own_offer(lambda start, end: jax.tree.map(lambda a, b: a * a - b, start, end))
    assert values(exchange(offer=squares).offer(tree(1, 2), tree(5, 1), (), KEY).tree) == [24, -1]
    assert values(exchange(offer=squares, compression="sign").offer(tree(1, 2), tree(5, 1), (), KEY).tree) == [1, -1]


@pytest.mark.parametrize("compression", ["none", "sign"])
def test_an_offer_of_ones_own_that_hides_what_is_not_finite_says_so_anyway(compression: Any):
    signs = own_offer(lambda start, end: jax.tree.map(lambda a, b: jnp.where(a > b, 1.0, -1.0), start, end))
    one = exchange(offer=signs, compression=compression)
    offer = one.offer(tree(np.nan, 2), tree(5, 1), (), KEY)
    assert not bool(offer.finite)
    assert np.isnan(values(offer.tree)).all()
    assert bool(one.offer(tree(1, 2), tree(5, 1), (), KEY).finite)


def test_what_a_codec_leaves_out_is_added_to_the_next_offer():
    signs = exchange(compression={"kind": "sign", "feedback": 0.5})
    first = signs.offer(tree(1), tree(4), signs.initial_feedback(tree(1)), KEY)
    assert (values(first.tree), values(first.feedback)) == ([1], [2])  # 3
    second = signs.offer(tree(1), tree(-3), first.feedback, KEY)
    assert (values(second.tree), values(second.feedback)) == ([-1], [-2])  # 0.5 * 2 - 4 = -3


@pytest.mark.parametrize("compression", ["none", "bf16", {"kind": "int", "width": 4, "feedback": 1.0}])
def test_an_offer_that_is_not_finite_says_so(compression: Any):
    one = exchange(compression=compression)
    offer = functools.partial(one.offer, feedback=one.initial_feedback(tree(0, 0)), key=KEY)
    assert not bool(offer(tree(np.nan, 0), tree(1, 1)).finite)
    assert not bool(offer(tree(-3e38, 0), tree(3e38, 1)).finite)
    assert bool(offer(tree(0, 0), tree(1, 1)).finite)


def test_an_offer_that_is_not_finite_once_coded_says_so_too():
    largest = float(np.finfo(np.float32).max)
    offered = [exchange(compression=kind).offer(tree(0), tree(largest), (), KEY) for kind in ("none", "bf16")]
    assert [bool(offer.finite) for offer in offered] == [True, False]  # rounded up to infinity
    assert np.isnan(values(offered[1].tree))
    subset = exchange(compression={"kind": "random", "share": 0.01})
    lost = subset.offer(tree(*([1.0] * 99), np.nan), tree(*([2.0] * 100)), (), KEY)
    assert not bool(lost.finite)
    assert np.isnan(values(lost.tree)).all()  # though it sends none of what is not finite


def test_an_offer_that_is_not_finite_leaves_the_error_as_it_was():
    signs = exchange(compression={"kind": "sign", "feedback": 1.0})
    first = signs.offer(tree(1), tree(4), signs.initial_feedback(tree(1)), KEY)
    lost = signs.offer(tree(np.nan), tree(4), first.feedback, KEY)
    assert not bool(lost.finite)
    assert values(lost.feedback) == values(first.feedback) == [2]
    assert values(signs.offer(tree(1), tree(2), lost.feedback, KEY).feedback) == [2]  # 2 + 1 - 1


def test_a_sender_without_feedback_keeps_nothing():
    assert exchange(compression="sign").initial_feedback(tree(1)) == ()
    assert not exchange(compression="sign").has_feedback
    signs = exchange(compression={"kind": "sign", "feedback": 0.0})
    assert signs.has_feedback
    assert values(signs.initial_feedback(tree(1, 2))) == [0, 0]


def test_offers_of_a_random_subset_depend_on_their_key():
    one = exchange(compression={"kind": "random", "share": 0.5})
    offers = [values(one.offer(tree(*range(64)), tree(*[100.0] * 64), (), jax.random.key(n)).tree) for n in (0, 0, 1)]
    assert offers[0] == offers[1] != offers[2]
    assert one.draws
    assert not exchange(compression="sign").draws


# Merges: from own parameters, those last accepted, the offer, the answer and a state.


def test_overwrite_takes_the_answer():
    one = exchange()
    assert one.is_overwriting
    merged, anchor, state = one.merge(tree(7), tree(5), sent(tree(2)), tree(3), ())
    assert (values(merged), values(anchor), state) == ([3], [3], ())


@pytest.mark.parametrize(("mix", "expected"), [(0.25, 4.0), (0.0, 3.0), (1.0, 7.0)])
def test_lerp_mixes_its_own_and_the_answer(mix: float, expected: float):
    one = exchange({"kind": "lerp", "mix": mix})
    merged, anchor, state = one.merge(tree(7), tree(5), sent(tree(2)), tree(3), one.initial_merge(tree(5)))
    assert (values(merged), values(anchor), state) == ([expected], [3], ())
    assert not one.is_overwriting


def test_keep_progress_adds_what_was_done_since_the_offer():
    one = exchange("keep_progress")
    merged, anchor, _ = one.merge(tree(7), tree(5), sent(tree(2), local=tree(6.5)), tree(3), ())
    assert (values(merged), values(anchor)) == ([3 + 0.5], [3])


def test_an_outer_step_at_the_worker_is_taken_from_what_it_last_accepted():
    # m = 4, then 0.5 * 4 + 2 = 4; the steps are 0.5 (4 + 0.5 * 4) = 3 and 0.5 (2 + 0.5 * 4) = 2.
    one = exchange("outer", outer=NESTEROV)
    merged, anchor, state = one.merge(tree(70), tree(5), sent(tree(9)), tree(4), one.initial_merge(tree(5)))
    assert values(merged) == values(anchor) == [5 - 3]
    merged, anchor, _ = one.merge(tree(80), anchor, sent(tree(9)), tree(2), state)
    assert values(merged) == values(anchor) == [2 - 2]


def test_an_outer_step_at_the_worker_is_that_of_a_server():
    one, server = exchange("outer", outer=NESTEROV), Server(tree(1, -2), OuterPrograms(build_outer(NESTEROV)))
    anchor, state = server.params, one.initial_merge(server.params)
    for gradient in (tree(4, 0), tree(-1, 2), tree(0.5, 0.5)):
        server.apply(gradient, OfferInfo(-1, 0), server.params)
        _, anchor, state = one.merge(tree(9, 9), anchor, sent(tree(0, 0)), gradient, state)
        np.testing.assert_allclose(anchor["x"], server.params["x"], rtol=1e-6)


def test_an_answer_that_is_not_finite_is_no_outer_step():
    one = exchange("outer", outer=NESTEROV)
    _, anchor, state = one.merge(tree(7), tree(5), sent(tree(9)), tree(4), one.initial_merge(tree(5)))
    merged, kept, after = one.merge(tree(7), anchor, sent(tree(9)), tree(np.nan), state)
    assert values(merged) == values(kept) == values(anchor) == [2]
    jax.tree.map(np.testing.assert_array_equal, after.inner, state.inner)


def test_eager_renews_its_own_share_in_the_aggregate():
    # It offered 4 and would now offer 5 - 3 = 2; of a mean of 3 that makes 3 + 0.25 * (2 - 4) = 2.5.
    one = exchange({"kind": "eager", "share": 0.25})
    merged, anchor, _ = one.merge(tree(3), tree(5), sent(tree(4)), tree(3), one.initial_merge(tree(5)))
    assert values(merged) == values(anchor) == [5 - 2.5]


def test_eager_has_its_own_share_alone_before_anything_is_answered():
    one = exchange({"kind": "eager", "share": 0.25})
    merged, *_ = one.merge(tree(3), tree(5), sent(tree(0)), tree(0), one.initial_merge(tree(5)))
    assert values(merged) == [5 - 0.25 * 2]


def test_eager_of_a_worker_by_itself_is_an_outer_step_on_what_it_would_offer_now():
    alone, outer = exchange(EagerMerge(kind="eager", share=1.0).model_dump(), outer=NESTEROV), exchange("outer")
    merged, *_ = alone.merge(tree(3), tree(5), sent(tree(4)), tree(4), alone.initial_merge(tree(5)))
    assert values(merged) == [5 - 0.5 * (2 + 0.5 * 2)]
    assert values(outer.merge(tree(3), tree(5), sent(tree(4)), tree(4), outer.initial_merge(tree(5)))[0]) == [5 - 4]


# Views of a place.


def test_a_place_hands_out_its_parameters():
    one = exchange()
    assert one.hands_out_parameters
    assert values(one.view(tree(5), ())) == [5]


def stepped(outer: Any, *gradients: float) -> Server:
    server = Server(tree(5), OuterPrograms(build_outer(outer)))
    for gradient in gradients:
        server.apply(tree(gradient), OfferInfo(0, 0), server.params)
    return server


@pytest.mark.parametrize(
    ("outer", "expected"),
    [
        # m = 4, and theta = 5 - 0.5 (4 + 0.5 * 4) = 2; a step of momentum is 0.5 * 0.5 * 4 = 1.
        (NESTEROV, 2 - 1),
        # m = 4, and theta = 5 - 0.5 * 4 = 3.
        (HeavyBallOuter(optimizer="heavy_ball", learning_rate=0.5, momentum=0.5), 3 - 1),
        # With a buffer of one it is Nesterov.
        (DelayedNesterovOuter(optimizer="delayed_nesterov", learning_rate=0.5, momentum=0.5, buffer=1), 2 - 1),
        # Behind a buffer that the first arrival fills the same; weighted with a half m is 2, theta 3.5.
        (NESTEROV.model_copy(update={"weight": 0.5}), 3.5 - 0.5),
    ],
    ids=["nesterov", "heavy ball", "delayed Nesterov", "weight"],
)
def test_a_place_can_hand_out_its_parameters_a_step_of_momentum_ahead(outer: Any, expected: float):
    one, server = exchange(view="look_ahead", outer=outer, ahead=0.5 * 0.5), stepped(outer, 4.0)
    assert not one.hands_out_parameters
    assert values(one.view(server.params, server.state)) == [expected]


def test_a_look_ahead_of_a_heavy_ball_is_where_it_goes_without_a_gradient():
    outer = HeavyBallOuter(optimizer="heavy_ball", learning_rate=0.5, momentum=0.5)
    server = stepped(outer, 4.0, 1.0)
    ahead = exchange(view="look_ahead", outer=outer, ahead=0.25).view(server.params, server.state)
    server.apply(tree(0), OfferInfo(0, 0), server.params)
    assert values(ahead) == values(server.params)


def test_without_momentum_nothing_can_look_ahead():
    with pytest.raises(OptimizerError, match="needs an outer optimizer with momentum, such as nesterov") as caught:
        exchange(view="look_ahead", ahead=None)
    assert (caught.value.key, caught.value.value) == ("view.kind", "look_ahead")


# One's own.


class Halves:
    """A codec that sends halves, and a merge that counts how often it was answered."""

    def decoded(self, array: jax.Array, key: jax.Array) -> jax.Array:
        return array / 2

    def bits(self, full: float) -> float:
        return full / 2

    def init(self, params: Any) -> Any:
        return jnp.zeros((), jnp.int32)

    def update(self, local: Any, anchor: Any, sent: OfferMade, answer: Any, state: Any) -> tuple[Any, Any, Any]:
        return jax.tree.map(lambda own, at, new: own + at + new, local, sent.local, answer), anchor, state + 1


def test_compressions_merges_and_views_of_ones_own():
    for slot in ("compression", "merge"):
        registry.register(slot, "own", Halves)  # type: ignore[arg-type]
    registry.register("view", "own", lambda: lambda params, state: jax.tree.map(jnp.negative, params))
    one = exchange("own", compression={"kind": "own", "feedback": 1.0}, view="own")
    offer = one.offer(tree(1), tree(5), one.initial_feedback(tree(5)), KEY)
    assert (values(offer.tree), values(offer.feedback), values(offer.local)) == ([2], [2], [1])
    merged, anchor, state = one.merge(tree(7), tree(5), offer, tree(3), one.initial_merge(tree(5)))
    assert (values(merged), values(anchor), int(state)) == ([7 + 1 + 3], [5], 1)
    assert values(one.view(tree(4), ())) == [-4]
    assert (one.draws, one.needs_local, one.is_overwriting, one.hands_out_parameters) == (True, True, False, False)


def test_an_exchange_compiles_once_for_each_kind_of_tree():
    one = exchange("outer", compression={"kind": "sign", "feedback": 1.0}, outer=NESTEROV)
    for size in (1, 2, 1, 2):
        feedback, state = one.initial_feedback(tree(*[0] * size)), one.initial_merge(tree(*[0] * size))
        for turn in range(3):
            params = tree(*[turn] * size)
            offer = one.offer(params, tree(*[5] * size), feedback, jax.random.fold_in(KEY, turn))
            _, _, state = one.merge(params, params, offer, offer.tree, state)
            feedback = offer.feedback
    assert (one.offer._cache_size(), one.merge._cache_size()) == (2, 2)
