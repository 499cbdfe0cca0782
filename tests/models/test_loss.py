import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import models.loss
from models.loss import cross_entropy, tokens_at_a_time, vocabulary_cross_entropy


def test_strict_settings_are_on():
    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.ones(2) + jnp.ones((2, 2))
    with pytest.raises(ValueError, match="strict"):  # jax 0.10.0 does not give its own kind away
        jnp.ones(2, jnp.bfloat16) + jnp.ones(2, jnp.float32)


def test_uniform_logits_give_the_log_of_the_number_of_classes():
    loss = cross_entropy(jnp.full((2, 3, 11), 5.0), jnp.zeros((2, 3), jnp.int32))
    assert float(loss) == pytest.approx(math.log(11), rel=1e-6)


def test_by_hand():
    # Row 1: -ln(3 / (1 + 3)) = ln(4/3); row 2: -ln(1 / (1 + 1)) = ln 2.
    logits = jnp.array([[0.0, math.log(3.0)], [7.0, 7.0]])
    loss = cross_entropy(logits, jnp.array([1, 0]))
    assert float(loss) == pytest.approx((math.log(4 / 3) + math.log(2)) / 2, rel=1e-6)


def test_equals_optax_in_value_and_gradient():
    logits = 3 * jax.random.normal(jax.random.key(0), (4, 5, 13))
    labels = jax.random.randint(jax.random.key(1), (4, 5), 0, 13)
    loss, gradient = jax.value_and_grad(cross_entropy)(logits, labels)
    expected, expected_gradient = jax.value_and_grad(
        lambda logits: optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    )(logits)
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-7)


def test_large_logits_neither_overflow_nor_lose_the_answer():
    loss, gradient = jax.value_and_grad(cross_entropy)(jnp.array([[1e30, 0.0], [-1e4, 1e4]]), jnp.array([0, 0]))
    assert float(loss) == pytest.approx((0 + 2e4) / 2)
    assert np.isfinite(gradient).all()


def test_bfloat16_logits_are_summed_in_float32():
    # 257 equal classes: exp(0) summed in bfloat16 would stop at 256.
    loss = cross_entropy(jnp.zeros((1, 4096), jnp.bfloat16), jnp.zeros(1, jnp.int32))
    assert loss.dtype == jnp.float32
    assert float(loss) == pytest.approx(math.log(4096), rel=1e-6)


def test_labels_must_fit_the_logits():
    with pytest.raises(ValueError, match=r"labels of shape \(3,\) do not fit logits of shape \(2, 5\)"):
        cross_entropy(jnp.zeros((2, 5)), jnp.zeros(3, jnp.int32))
    with pytest.raises(ValueError, match="labels must be integers, not float32"):
        cross_entropy(jnp.zeros((2, 5)), jnp.zeros(2))


def activations(tokens=7, width=5, vocabulary=11, dtype=jnp.float32):
    x, unembedding, labels = jax.random.split(jax.random.key(0), 3)
    return (
        jax.random.normal(x, (tokens, width)).astype(dtype),
        jax.random.normal(unembedding, (vocabulary, width)),
        jax.random.randint(labels, (tokens,), 0, vocabulary),
    )


def with_all_logits(x, unembedding, labels):
    return cross_entropy(x @ unembedding.astype(x.dtype).T, labels)


@pytest.fixture
def at_a_time(monkeypatch):
    """Changes how many tokens are taken at a time."""

    def take(tokens):
        monkeypatch.setattr(models.loss, "tokens_at_a_time", lambda *_: tokens)

    return take


@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 7])
def test_parts_have_the_value_and_gradients_of_the_whole(at_a_time, tokens):
    at_a_time(tokens)
    x, unembedding, labels = activations()

    def tripled(loss):
        return jax.jit(jax.value_and_grad(lambda *given: 3 * loss(*given, labels), (0, 1)))(x, unembedding)

    expected = tripled(with_all_logits)
    loss, gradients = tripled(vocabulary_cross_entropy)
    assert float(loss) == pytest.approx(float(expected[0]), rel=1e-6)
    assert 3 * float(jax.jit(vocabulary_cross_entropy)(x, unembedding, labels)) == pytest.approx(float(loss), rel=1e-6)
    for ours, jaxs in zip(gradients, expected[1], strict=True):
        assert np.abs(jaxs).max() > 0.1
        np.testing.assert_allclose(ours, jaxs, rtol=1e-5, atol=1e-6)


def test_parts_of_lanes(at_a_time):
    at_a_time(3)
    x, unembedding, labels = activations()
    lanes = jnp.stack([x, 2 * x]), jnp.stack([unembedding, unembedding + 1]), jnp.stack([labels, labels[::-1]])
    together = jax.jit(jax.vmap(jax.value_and_grad(vocabulary_cross_entropy, (0, 1))))(*lanes)
    whole = jax.jit(jax.value_and_grad(with_all_logits, (0, 1)))
    for lane in range(2):
        alone = whole(*(leaf[lane] for leaf in lanes[:2]), lanes[2][lane])
        ours = jax.tree.map(lambda leaf, lane=lane: leaf[lane], together)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), ours, alone)


def test_16_bit_activations_have_32_bit_losses_and_unembedding_gradients(at_a_time):
    at_a_time(50)
    x, unembedding, labels = activations(tokens=200, dtype=jnp.bfloat16)
    loss, (d_x, d_unembedding) = jax.jit(jax.value_and_grad(vocabulary_cross_entropy, (0, 1)))(x, unembedding, labels)
    exact = jax.jit(jax.value_and_grad(with_all_logits, (0, 1)))(x.astype(jnp.float32), unembedding, labels)
    assert (loss.dtype, d_x.dtype, d_unembedding.dtype) == (jnp.float32, jnp.bfloat16, jnp.float32)
    assert 0 < abs(float(loss) - float(exact[0])) < 0.02
    for ours, theirs in zip((d_x.astype(jnp.float32), d_unembedding), exact[1], strict=True):
        assert 0 < jnp.linalg.norm(ours - theirs) < 0.03 * jnp.linalg.norm(theirs)


def test_large_logits_of_a_vocabulary_neither_overflow_nor_lose_the_answer():
    x, unembedding = jnp.array([[1e15], [-1e4]]), jnp.array([[1e15], [-1.0]])
    loss, gradients = jax.value_and_grad(vocabulary_cross_entropy, (0, 1))(x, unembedding, jnp.array([0, 1]))
    assert float(loss) == 0.0
    assert all(np.isfinite(each).all() for each in gradients)


def test_no_array_has_the_logits_of_all_tokens():
    tokens, vocabulary = 2048, 1024
    x, unembedding, labels = (
        jax.ShapeDtypeStruct(like.shape, like.dtype) for like in activations(tokens, 8, vocabulary)
    )
    step = jax.jit(jax.value_and_grad(vocabulary_cross_entropy, (0, 1)))
    whole = jax.jit(jax.value_and_grad(with_all_logits, (0, 1)))
    ours, all_at_once = (
        each.lower(x, unembedding, labels).compile().memory_analysis().temp_size_in_bytes for each in (step, whole)
    )
    assert ours < 0.6 * all_at_once
    assert all_at_once >= 4 * tokens * vocabulary


@pytest.mark.parametrize(
    ("tokens", "vocabulary", "backend", "expected"),
    [
        (2048, 256, "cpu", 2048),
        (2048, 1024, "cpu", 512),
        (2048, 32_000, "cpu", 512),
        (100, 32_000, "cpu", 100),
        (131_072, 32_000, "gpu", 4194),
        (2048, 32_000, "gpu", 2048),
        (5, 2**28, "tpu", 1),
    ],
)
def test_tokens_at_a_time(tokens, vocabulary, backend, expected):
    assert tokens_at_a_time(tokens, vocabulary, backend) == expected


def test_activations_unembedding_and_labels_must_fit():
    x, unembedding, labels = activations()
    for wrong in ((x[:3], unembedding, labels), (x, unembedding[:, :2], labels), (x[None], unembedding, labels)):
        with pytest.raises(ValueError, match="do not fit together"):
            vocabulary_cross_entropy(*wrong)
    with pytest.raises(ValueError, match="labels must be integers, not float32"):
        vocabulary_cross_entropy(x, unembedding, labels.astype(jnp.float32))
