import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from simulator.experiment.schema.exchanges import Compression
from simulator.learning.compression import _tiled, codec_of, send

KEY = jax.random.key(3)


def section(kind: str, **settings: Any) -> Any:
    return TypeAdapter(Compression).validate_python({"kind": kind} | settings)


def decoded(values: Any, kind: str, key: jax.Array = KEY, **settings: Any) -> np.ndarray:
    """An array, as its receiver has it."""
    return np.asarray(codec_of(section(kind, **settings))(jnp.asarray(values, jnp.float32), key))


# Codecs by hand.


def test_nothing_is_lost_without_a_compression():
    values = [1 / 3, -1e-30, 7e20]
    np.testing.assert_array_equal(decoded(values, "none"), np.float32(values))


def test_bf16_keeps_eight_bits_and_rounds_ties_to_even():
    values = [1 + 2**-7, 1 + 2**-8, 1 + 3 * 2**-8, -3.14159, 2.0**100 * (1 + 2**-9), 0.0]
    expected = [1.0078125, 1.0, 1.015625, -3.140625, 2.0**100, 0.0]
    np.testing.assert_array_equal(decoded(values, "bf16"), np.float32(expected))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # Powers of two from the largest, 8, down to 1/8; below half of that zero. Halfway is a factor of sqrt(2).
        ([8, -5, 6, 1.4, 1.5, 0.3, 0.09], [8, -4, 8, 1, 2, 0.25, 0.125]),
        ([8, 0.0625, -0.0624, 0], [8, 0.125, 0, 0]),
        # 3, 1.5, 0.75 ...: 1.2 is 3.2 eighths of 3, nearest to 4; 0.01 is less than a 128th of 3.
        ([-3, 1.2, 0.75, 0.01], [-3, 1.5, 0.75, 0]),
        ([0, 0], [0, 0]),
    ],
)
def test_fp4_has_seven_powers_of_two_below_the_largest_and_zero(values: list[float], expected: list[float]):
    np.testing.assert_allclose(decoded(values, "fp4"), np.float32(expected), rtol=1e-6)


def test_fp4_takes_no_more_values_than_four_bits_have():
    found = decoded(np.random.default_rng(0).normal(size=(50, 40)), "fp4")
    magnitudes = np.unique(np.abs(found))
    assert len(magnitudes) == 8
    np.testing.assert_allclose(magnitudes[2:] / magnitudes[1:-1], 2, rtol=1e-6)
    assert len(np.unique(found)) == 15  # there is one zero


def test_bins_by_statistics_are_decoded_as_their_means():
    """Of -3, -1, 1, 3: mean 0, deviation sqrt(20 / 3) = 2.58, and four bins of 6 * 2.58 / 4 = 3.87 around 0.

    -3 / 3.87 = -0.77 and rounds to bin 1, -0.26 and 0.26 to bin 2, 0.77 to bin 3. With 3 deviations the bins are 1.94
    wide: -1.55 to bin 0, -0.52 to bin 1, 0.52 and 1.55 to bin 3, the last.
    """
    values = [-3, -1, 1, 3]
    np.testing.assert_allclose(decoded(values, "statistical", width=2), [-3, 0, 0, 3], atol=1e-6)
    np.testing.assert_allclose(decoded(values, "statistical", width=2, sigmas=3), [-3, -1, 2, 2], atol=1e-6)
    np.testing.assert_allclose(decoded([5, 5, 5], "statistical", width=1), [5, 5, 5], rtol=1e-6)


def test_rows_have_statistics_of_their_own():
    values = [[-3, -1, 1, 3], [7, 9, 11, 13]]
    found = decoded(values, "statistical", width=2, rows=True)
    np.testing.assert_allclose(found, [[-3, 0, 0, 3], [7, 10, 10, 13]], rtol=1e-6, atol=1e-6)
    assert np.abs(decoded(values, "statistical", width=2) - found).max() > 0.1
    vector = np.random.default_rng(0).normal(size=60)
    by_rows = decoded(vector, "statistical", width=3, rows=True)
    np.testing.assert_array_equal(by_rows, decoded(vector, "statistical", width=3))
    assert len(np.unique(by_rows)) <= 8
    np.testing.assert_allclose(by_rows.mean(), vector.mean(), atol=1e-6)  # means of members keep the sum


@pytest.mark.parametrize(
    ("values", "width", "expected"),
    [
        ([7, -3.4, 3.5, 0.4], 4, [7, -3, 4, 0]),  # 7 = 2^3 - 1 steps of 1
        ([-14, 5, 0.9], 4, [-14, 4, 0]),  # of 2, and 2.5 to even
        ([3, 1.4, -1.6], 2, [3, 0, -3]),  # one step
        ([127, 0.4, 63.5], 8, [127, 0, 64]),
        ([0, 0], 8, [0, 0]),
    ],
)
def test_integers_are_whole_steps_of_the_largest(values: list[float], width: int, expected: list[float]):
    np.testing.assert_allclose(decoded(values, "int", width=width), np.float32(expected), rtol=1e-6)


def test_the_largest_of_each_64_of_a_vector_are_sent():
    values = np.zeros(128)
    values[[3, 10, 20]], values[[64, 65, 127]] = [1, -5, 2], [0.1, 0.3, -0.2]
    expected = values.copy()
    expected[[3, 64]] = 0
    np.testing.assert_array_equal(decoded(values, "top_k", density=2 / 64), np.float32(expected))


def test_the_largest_of_each_tile_of_a_matrix_are_sent():
    # Tiles of 64 by 64: 2 by 3 of them, of which each sends its largest two.
    values_RxC = np.random.default_rng(1).uniform(-1, 1, (128, 192))
    found_RxC = decoded(values_RxC, "top_k", density=2 / 4096)
    for row in range(0, 128, 64):
        for column in range(0, 192, 64):
            tile, own = (each[row : row + 64, column : column + 64].ravel() for each in (found_RxC, values_RxC))
            largest = np.sort(np.argsort(-np.abs(own))[:2])
            np.testing.assert_array_equal(np.flatnonzero(tile), largest)
            np.testing.assert_array_equal(tile[largest], np.float32(own[largest]))


@pytest.mark.parametrize(
    ("shape", "density", "tiles", "kept"),
    [
        ((64, 64), 64 / 4096, 1, 64),
        ((100, 64), 1 / 100, 2, 32),  # 50 by 64: the largest divisor of 100 that is no more than 64
        ((4, 6), 0.25, 1, 6),
        ((3,), 0.01, 1, 1),  # one at least
        ((), 0.5, 1, 1),
        ((2, 3, 4), 0.5, 1, 12),
        ((130,), 0.2, 5, 5),  # 65 is more than 64, and 26 the next divisor
        ((67, 71), 0.03, 1, 143),  # tiles of 1 by 1 would send all
        ((134,), 0.1, 1, 13),
    ],
)
def test_of_each_tile_as_many_are_sent(shape: tuple[int, ...], density: float, tiles: int, kept: int):
    values = np.random.default_rng(2).normal(size=shape)
    assert np.count_nonzero(decoded(values, "top_k", density=density)) == tiles * kept


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        # Mean 4, deviation sqrt(12.5) = 3.54. Four bins of 6 * 3.54 / 4 = 5.30: 1 in the first, 2 and 3 in the next.
        (2, [1, 2.5, 2.5, -0.0, 10, 0]),
        (1, [4, 4, 4, 0, 4, 0]),  # bins of 10.6, of which all are in the second
        (8, [1, 2, 3, 0, 10, 0]),
    ],
)
def test_what_is_sent_of_the_largest_can_be_rounded_to_means_of_bins(width: int, expected: list[float]):
    values = [1, 2, 3, 0.5, 10, -0.5]
    np.testing.assert_allclose(decoded(values, "top_k", density=4 / 6, width=width), expected, rtol=1e-6)


def test_signs():
    np.testing.assert_array_equal(decoded([-2, 0, 3e-9], "sign"), np.float32([-1, 0, 1]))


def test_a_random_subset_is_that_of_the_key():
    values = np.arange(1.0, 2001)
    found = decoded(values, "random", share=0.25)
    chosen = np.asarray(jax.random.uniform(KEY, (2000,))) < 0.25
    np.testing.assert_array_equal(found, np.where(chosen, np.float32(values), 0))
    assert chosen.mean() == pytest.approx(0.25, abs=0.04)
    assert not np.array_equal(found, decoded(values, "random", jax.random.key(4), share=0.25))


# Sending trees.

ALL = [
    section("none"),
    section("bf16"),
    section("fp4"),
    section("int", width=4),
    section("statistical", width=3, rows=True),
    section("top_k", density=0.1),
    section("top_k", density=0.1, width=2),
    section("sign"),
    section("random", share=0.3),
]


def tree(seed: int) -> Any:
    random = np.random.default_rng(seed)
    leaf = lambda *shape: jnp.asarray(random.normal(size=shape), jnp.float32)  # noqa: E731
    return {"matrix": leaf(70, 6), "block": {"vector": leaf(9), "scalar": leaf()}}


def zeros() -> Any:
    return jax.tree.map(jnp.zeros_like, tree(0))


@pytest.mark.parametrize("chosen", ALL, ids=str)
def test_what_is_sent_is_like_what_is_given(chosen: Any):
    sent = send(codec_of(chosen), None, tree(0), (), KEY)
    assert sent.feedback == ()
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), sent.tree) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), tree(0)
    )
    with_feedback = send(codec_of(chosen), 1.0, tree(0), zeros(), KEY)
    jax.tree.map(np.testing.assert_array_equal, with_feedback.tree, sent.tree)


@pytest.mark.parametrize("chosen", ALL, ids=str)
def test_compiled_and_plain_agree(chosen: Any):
    plain = functools.partial(send, codec_of(chosen), 0.5)
    given, before = tree(0), tree(1)
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6),
        jax.jit(plain)(given, before, KEY),
        plain(given, before, KEY),
    )


def test_every_leaf_has_a_key_of_its_own():
    same = {name: jnp.ones(64) for name in "ab"}
    sent = send(codec_of(section("random", share=0.5)), None, same, (), KEY).tree
    assert not np.array_equal(sent["a"], sent["b"])


def test_error_feedback_by_hand():
    # Signs: 3 is sent as 1 and 2 stays; half of 2, and 1, is sent as 1 and 1 stays; half of 1, and -4, as -1.
    codec = codec_of(section("sign"))
    feedback, sent, errors = {"x": jnp.zeros(())}, [], []
    for given_ in (3.0, 1.0, -4.0):
        one = send(codec, 0.5, {"x": jnp.float32(given_)}, feedback, KEY)
        feedback = one.feedback
        sent.append(float(one.tree["x"]))
        errors.append(float(feedback["x"]))
    assert sent == [1, 1, -1]
    assert errors == [2, 1, -2.5]


@pytest.mark.parametrize("chosen", ALL[1:], ids=str)
def test_with_a_decay_of_one_all_that_is_given_is_sent_but_for_the_last_error(chosen: Any):
    codec, feedback = codec_of(chosen), zeros()
    given_, sent = zeros(), zeros()
    for turn in range(20):
        one = send(codec, 1.0, tree(turn), feedback, jax.random.fold_in(KEY, turn))
        feedback = one.feedback
        given_ = jax.tree.map(jnp.add, given_, tree(turn))
        sent = jax.tree.map(jnp.add, sent, one.tree)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(feedback)) > 1e-3
    left = jax.tree.map(jnp.subtract, given_, feedback)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4), sent, left)


def test_without_a_compression_there_is_no_error():
    one = send(codec_of(section("none")), 1.0, tree(0), zeros(), KEY)
    jax.tree.map(np.testing.assert_array_equal, one.feedback, zeros())
    jax.tree.map(np.testing.assert_array_equal, one.tree, tree(0))


@given(st.integers(1, 300), st.integers(1, 300))
def test_tiles_hold_every_element_once(rows: int, columns: int):
    values_RxC: Any = np.arange(rows * columns).reshape(rows, columns)
    tiles_NxE, undo = _tiled(values_RxC)
    assert tiles_NxE.shape[1] <= 64 * 64
    np.testing.assert_array_equal(np.sort(tiles_NxE.ravel()), np.arange(rows * columns))
    np.testing.assert_array_equal(undo(tiles_NxE), values_RxC)


# Bits on the wire.


@pytest.mark.parametrize(
    ("kind", "settings", "bits"),
    [
        ("none", {}, 32),
        ("bf16", {}, 16),
        ("fp4", {}, 4),
        ("int", {}, 8),
        ("int", {"width": 3}, 3),
        ("statistical", {"width": 4}, 4),
        ("top_k", {"width": 2}, 0.21875),  # 64 / 4096 * (12 + 2)
        ("top_k", {}, 64 / 4096 * (12 + 32)),
        ("top_k", {"density": 0.25, "width": 4}, 0.25 * 16),
        ("sign", {}, 1),
        ("random", {"share": 0.05}, 1.6),
    ],
)
def test_bits_of_a_parameter(kind: str, settings: dict[str, Any], bits: float):
    assert section(kind, **settings).bits(32.0) == pytest.approx(bits)


def test_bits_of_what_is_sent_as_it_is_go_by_the_size_of_a_parameter():
    kinds = {"none": {}, "random": {"share": 0.5}, "top_k": {"density": 0.5}, "bf16": {}, "sign": {}}
    assert [section(kind, **settings).bits(16.0) for kind, settings in kinds.items()] == [16, 8, 14, 16, 1]
