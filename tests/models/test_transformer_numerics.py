import dataclasses
import functools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from models import TransformerConfig, transformer

SMALL = TransformerConfig(vocabulary=19, layers=2, width=16, heads=2, context=6)


def some_tokens(config, batch_size=3, seed=0):
    return jax.random.randint(jax.random.key(seed), (batch_size, config.context + 1), 0, config.vocabulary)


@functools.cache
def loss_and_gradient(dtype, attention):
    """Of the same parameters and tokens, whatever the dtype and the attention."""
    model = transformer(dataclasses.replace(SMALL, dtype=dtype, attention=attention))
    params = jax.jit(model.init)(jax.random.key(0))
    return jax.jit(jax.value_and_grad(model.loss))(params, some_tokens(SMALL), None)


def test_plain_and_fused_agree_in_loss_and_gradient():
    plain, fused = (loss_and_gradient("float32", attention) for attention in ("plain", "fused"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), plain, fused)


@pytest.mark.parametrize("attention", ["plain", "fused"])
def test_bfloat16_is_near_float32_and_not_it(attention):
    (loss_32, gradient_32), (loss_16, gradient_16) = (
        loss_and_gradient(dtype, attention) for dtype in ("float32", "bfloat16")
    )
    assert loss_16.dtype == jnp.float32
    assert 0 < abs(float(loss_16) - float(loss_32)) < 0.01
    flat_32, flat_16 = (jax.flatten_util.ravel_pytree(g)[0] for g in (gradient_32, gradient_16))
    assert flat_16.dtype == jnp.float32
    assert 0 < jnp.linalg.norm(flat_16 - flat_32) < 0.1 * jnp.linalg.norm(flat_32)


def test_embedding_gradients_add_up_in_float32():
    # One token 4,096 times: its gradient is a sum of as many equal terms, of which a bfloat16 sum would lose most.
    config = dataclasses.replace(SMALL, tied=False, layers=1)
    tokens = jnp.concatenate([jnp.zeros((4096, 1), jnp.int32), jnp.ones((4096, 1), jnp.int32)], axis=1)
    rows = []
    for dtype in ("float32", "bfloat16"):
        model = transformer(dataclasses.replace(config, dtype=dtype))
        params = jax.jit(model.init)(jax.random.key(0))
        rows.append(jax.jit(jax.grad(model.loss))(params, tokens, None)["token_embedding"][0])
    assert 0 < jnp.linalg.norm(rows[1] - rows[0]) < 0.05 * jnp.linalg.norm(rows[0])


def test_lanes_equal_a_loop():
    model = transformer(dataclasses.replace(SMALL, layers=1))
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
