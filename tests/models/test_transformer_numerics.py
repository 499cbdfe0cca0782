import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import TransformerConfig, transformer

SMALL = TransformerConfig(vocabulary=19, layers=2, width=16, heads=2, context=6)


@functools.cache
def small(**changes):
    """A small model and its parameters, which are the same whatever the dtype and the attention."""
    model = transformer(dataclasses.replace(SMALL, **changes))
    return model, jax.jit(model.init)(jax.random.key(0))


def loss_and_gradient(model, params, tokens):
    return jax.jit(jax.value_and_grad(model.loss))(params, tokens, None)


def some_tokens(config, batch_size=3, seed=0):
    return jax.random.randint(jax.random.key(seed), (batch_size, config.context + 1), 0, config.vocabulary)


@pytest.mark.parametrize("tied", [True, False])
def test_plain_and_fused_agree_in_loss_and_gradient(tied):
    results = [
        loss_and_gradient(*small(tied=tied, attention=attention), some_tokens(SMALL))
        for attention in ("plain", "fused")
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *results)


@pytest.mark.parametrize("attention", ["plain", "fused"])
def test_bfloat16_is_near_float32_and_not_it(attention):
    (loss_32, gradient_32), (loss_16, gradient_16) = (
        loss_and_gradient(*small(dtype=dtype, attention=attention), some_tokens(SMALL))
        for dtype in ("float32", "bfloat16")
    )
    assert loss_16.dtype == jnp.float32
    assert 0 < abs(float(loss_16) - float(loss_32)) < 0.01
    flat_32, flat_16 = (jax.flatten_util.ravel_pytree(g)[0] for g in (gradient_32, gradient_16))
    assert flat_16.dtype == jnp.float32
    assert 0 < jnp.linalg.norm(flat_16 - flat_32) < 0.1 * jnp.linalg.norm(flat_32)


def test_embedding_gradients_add_up_in_float32():
    # One token 4,096 times: its gradient is a sum of as many equal terms, of which a bfloat16 sum would lose most.
    tokens = jnp.concatenate([jnp.zeros((4096, 1), jnp.int32), jnp.ones((4096, 1), jnp.int32)], axis=1)
    exact, rounded = (
        loss_and_gradient(*small(dtype=dtype, tied=False, layers=1), tokens)[1]["token_embedding"][0]
        for dtype in ("float32", "bfloat16")
    )
    assert 0 < jnp.linalg.norm(rounded - exact) < 0.05 * jnp.linalg.norm(exact)


def test_lanes_equal_a_loop():
    model, _ = small()
    init = jax.jit(model.init)
    lanes = [(init(jax.random.key(i)), some_tokens(SMALL, seed=i)) for i in range(3)]
    step = jax.value_and_grad(model.loss)
    compiled = jax.jit(step)
    one = [compiled(params, data, None) for params, data in lanes]
    params, data = jax.tree.map(lambda *leaves: jnp.stack(leaves), *lanes)
    together = jax.jit(jax.vmap(step, (0, 0, None)))(params, data, None)
    assert len({float(loss) for loss, _ in one}) == 3
    apart = jax.tree.map(lambda *leaves: jnp.stack(leaves), *one)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), together, apart)
