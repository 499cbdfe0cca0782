"""Aggregations of whole meetings, against numbers worked by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simulator.experiment.schema.aggregation import EDiTAggregation
from simulator.learning import Offers
from simulator.learning.aggregation import DirectionAndNorm, EDiT, Senders, Vote


def offers(*trees: Any, tokens: Any = None, steps: Any = None, finite: Any = None, worker: Any = None) -> Offers:
    count = len(trees)
    made = [{name: jnp.asarray(leaf, jnp.float32) for name, leaf in tree.items()} for tree in trees]
    return Offers(
        made,
        jnp.asarray(range(count) if worker is None else worker, jnp.int32),
        jnp.zeros(count, jnp.int32),
        jnp.asarray([1] * count if steps is None else steps, jnp.int32),
        jnp.asarray([1.0] * count if tokens is None else tokens, jnp.float32),
        jnp.asarray([True] * count if finite is None else finite),
    )


def aggregated(aggregation: Any, of: Offers) -> dict[str, list[float]]:
    found, _ = jax.jit(aggregation.update)(of, aggregation.init(of.trees[0]))
    return {name: np.asarray(leaf).tolist() for name, leaf in found.items()}


def test_senders_alone_are_in_the_mean_of_an_element():
    """Of four elements, sent by two, one, none and both with opposite signs."""
    of = offers({"x": [2, 5, 0, 1]}, {"x": [4, 0, 0, -1]})
    assert aggregated(Senders(), of) == {"x": [3, 5, 0, 0]}
    of = offers({"x": [2, 5]}, {"x": [np.nan, 4]}, finite=[True, False])
    assert aggregated(Senders(), of) == {"x": [2, 5]}


def test_a_vote_is_of_signs_and_nobody_wins_where_they_are_even():
    of = offers({"x": [9, -1, 2, 0]}, {"x": [-1, -2, -2, 0]}, {"x": [1, 3, 0, 1]})
    assert aggregated(Vote(), of) == {"x": [1, -1, 0, 1]}


class TestDirection:
    def test_one_or_equal_offers_stay_what_they_are(self):
        one = {"x": [3.0, -4.0], "y": [[1.0], [2.0]]}
        for of in (offers(one), offers(one, one)):
            found = aggregated(DirectionAndNorm(), of)
            np.testing.assert_allclose(found["x"], one["x"], rtol=1e-6)
            np.testing.assert_allclose(found["y"], one["y"], rtol=1e-6)

    def test_the_norm_is_the_weighted_mean_of_norms(self):
        """Weights 100 tokens in 10 steps, 1000, and 10 tokens in 1 step, 100: norms 5 and 16 make 6."""
        of = offers({"x": [3, 4]}, {"x": [0, 16]}, tokens=[100, 10], steps=[10, 1])
        found = np.array(aggregated(DirectionAndNorm(), of)["x"])
        assert np.linalg.norm(found) == pytest.approx(6, rel=1e-6)
        direction = (10 * np.array([0.6, 0.8]) + np.array([0, 1])) / 11
        np.testing.assert_allclose(found, 6 * direction / np.linalg.norm(direction), rtol=1e-6)

    def test_directions_that_cancel_out_and_embeddings_have_the_mean(self):
        of = offers({"x": [3, 0], "embedding": [2, 0]}, {"x": [-1, 0], "embedding": [0, 4]})
        found = aggregated(DirectionAndNorm(), of)
        np.testing.assert_allclose(found["x"], [1, 0], atol=1e-6)
        np.testing.assert_allclose(found["embedding"], [1, 2], rtol=1e-6)

    def test_what_is_not_finite_counts_nothing(self):
        of = offers({"x": [3, 4]}, {"x": [np.nan, 1]}, finite=[True, False])
        np.testing.assert_allclose(aggregated(DirectionAndNorm(), of)["x"], [3, 4], rtol=1e-6)


def edit(workers: int = 2, **settings: Any) -> EDiT:
    return EDiT(workers, EDiTAggregation(kind="edit", **settings))


class TestEDiT:
    def test_weights_are_the_softmax_of_negative_norms_array_by_array(self):
        of = offers({"x": [1, 0], "y": [1]}, {"x": [0, 2], "y": [1]})
        found = aggregated(edit(clip_norm=1e9), of)
        share = np.exp(-1) / (np.exp(-1) + np.exp(-2))
        np.testing.assert_allclose(found["x"], [share, 2 * (1 - share)], rtol=1e-6)
        np.testing.assert_allclose(found["y"], [1], rtol=1e-6)

    def test_a_high_temperature_makes_it_the_mean(self):
        of = offers({"x": [1, 0]}, {"x": [0, 2]})
        np.testing.assert_allclose(aggregated(edit(temperature=1e9, clip_norm=1e9), of)["x"], [0.5, 1], rtol=1e-6)

    def test_all_arrays_are_clipped_together(self):
        of = offers({"x": [3, 0], "y": [4]})
        found = aggregated(edit(1, clip_norm=1.0), of)
        np.testing.assert_allclose([*found["x"], *found["y"]], [0.6, 0, 0.8], rtol=1e-5)

    def test_the_detector_keeps_moments_of_each_worker_and_array(self):
        """Two norms, 2 and 6, of worker 1, with decay 0.5: mean 1 then 3.5; the variance beside them."""
        aggregation = edit(2, decay=0.5)
        state = aggregation.init({"x": jnp.zeros(1)})
        for norm in (2, 6):
            _, state = aggregation.update(offers({"x": [norm]}, worker=[1]), state)
        assert state.seen.tolist() == [[0], [2]]
        assert state.mean.tolist() == [[0], [3.5]]
        first = 0.5 * (0 + 0.5 * 2 * (2 - 1))
        assert state.variance.tolist() == [[0], [0.5 * (first + 0.5 * (6 - 1) * (6 - 3.5))]]

    def test_a_norm_far_above_its_workers_is_left_out_and_unseen(self):
        aggregation = edit(2, window=4, decay=0.5, clip_norm=1e9)
        state = aggregation.init({"x": jnp.zeros(1)})
        for number in range(8):
            _, state = aggregation.update(offers({"x": [1 + 0.1 * (number % 2)]}, {"x": [1]}), state)
        found, after = aggregation.update(offers({"x": [50]}, {"x": [1]}), state)
        np.testing.assert_allclose(found["x"], [1], rtol=1e-6)
        assert (after.seen - state.seen).ravel().tolist() == [0, 1]
        found, _ = aggregation.update(offers({"x": [50]}, {"x": [70]}), state)
        assert found["x"].tolist() == [0]  # all are outliers
        found, _ = aggregation.update(offers({"x": [0.1]}, {"x": [1]}), state)
        assert float(found["x"][0]) < 0.6  # far below is none

    def test_nobody_is_an_outlier_before_the_window_is_full(self):
        aggregation = edit(2, window=4, clip_norm=1e9)
        state = aggregation.init({"x": jnp.zeros(1)})
        for _ in range(3):
            _, state = aggregation.update(offers({"x": [1]}, {"x": [1]}), state)
        found, _ = aggregation.update(offers({"x": [3]}, {"x": [3]}), state)
        np.testing.assert_allclose(found["x"], [3], rtol=1e-6)
