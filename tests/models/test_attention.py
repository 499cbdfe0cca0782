import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import default_attention
from models.attention import fused_attention, fused_implementation, plain_attention, query_blocks


def qkv(dtype=jnp.float32, B=2, T=7, H=3, K=8):
    return [jax.random.normal(key, (B, T, H, K)).astype(dtype) for key in jax.random.split(jax.random.key(0), 3)]


def attention_by_loops(q, k, v):
    out = np.zeros(v.shape)
    B, T, H, K = q.shape
    for b, t, h in np.ndindex(B, T, H):
        weights = np.exp([q[b, t, h] @ k[b, s, h] / np.sqrt(K) for s in range(t + 1)])
        out[b, t, h] = weights / weights.sum() @ v[b, : t + 1, h]
    return out


def attention_by_autodiff(q, k, v):
    """The formula with all T x T weights, whose gradients are JAX's."""
    T, K = q.shape[1], q.shape[3]
    scores = jnp.einsum("bthk,bshk->bhts", q, k) / K**0.5
    weights = jax.nn.softmax(jnp.where(np.tril(np.ones((T, T), bool)), scores, -jnp.inf), axis=-1)
    return jnp.einsum("bhts,bshk->bthk", weights, v)


def weighted(attend):
    """A scalar whose gradient is not the same everywhere."""
    return lambda q, k, v: jnp.sum(attend(q, k, v) * np.sin(np.arange(v.size)).reshape(v.shape).astype(v.dtype))


@pytest.mark.parametrize("attend", [plain_attention, fused_attention])
def test_equals_the_definition_written_as_loops(attend):
    q, k, v = qkv()
    expected = attention_by_loops(*(np.asarray(x, np.float64) for x in (q, k, v)))
    np.testing.assert_allclose(attend(q, k, v), expected, rtol=1e-5, atol=1e-6)


def test_plain_and_fused_have_the_same_gradients():
    plain = jax.grad(weighted(plain_attention), (0, 1, 2))(*qkv())
    fused = jax.grad(weighted(fused_attention), (0, 1, 2))(*qkv())
    for a, b in zip(plain, fused, strict=True):
        assert np.abs(a).max() > 0.1
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("T", [1, 128, 300])
def test_blocks_of_queries_give_the_values_and_gradients_of_the_formula(T):
    given = qkv(T=T)
    both = (plain_attention, attention_by_autodiff)
    values = [jax.jit(attend)(*given) for attend in both]
    np.testing.assert_allclose(*values, rtol=1e-4, atol=1e-5)
    ours, jaxs = (jax.jit(jax.grad(weighted(attend), (0, 1, 2)))(*given) for attend in both)
    for a, b in zip(ours, jaxs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)
    assert np.abs(ours[2]).max() > 0.1


@pytest.mark.parametrize(
    ("length", "blocks"),
    [
        (1, [(0, 1)]),
        (128, [(0, 128)]),
        (300, [(0, 128), (128, 256), (256, 300)]),
        (4096, [(512 * i, 512 * (i + 1)) for i in range(8)]),
    ],
)
def test_blocks_have_at_least_128_queries_and_are_at_most_8(length, blocks):
    assert query_blocks(length) == blocks


def test_lanes_have_the_gradients_of_each_alone():
    lanes = [[x + lane for x in qkv(T=130)] for lane in range(2)]
    gradient = jax.jit(jax.grad(weighted(plain_attention), (0, 1, 2)))
    together = jax.jit(jax.vmap(gradient))(*(jnp.stack(both) for both in zip(*lanes, strict=True)))
    for lane, given in enumerate(lanes):
        for a, b in zip(together, gradient(*given), strict=True):
            np.testing.assert_allclose(a[lane], b, rtol=1e-4, atol=1e-5)


def test_16_bit_gradients_are_near_those_of_32_bit():
    def loss(*given):
        return weighted(plain_attention)(*given).astype(jnp.float32)

    gradient, given = jax.jit(jax.grad(loss, (0, 1, 2))), qkv(jnp.bfloat16, T=130)
    exact, rounded = gradient(*(x.astype(jnp.float32) for x in given)), gradient(*given)
    for a, b in zip(rounded, exact, strict=True):
        assert a.dtype == jnp.bfloat16
        assert 0 < jnp.linalg.norm(a.astype(jnp.float32) - b) < 0.03 * jnp.linalg.norm(b)


@pytest.mark.parametrize("attend", [plain_attention, fused_attention])
def test_16_bit_inputs_give_16_bit_outputs_with_little_error(attend):
    out = attend(*qkv(jnp.bfloat16))
    assert out.dtype == jnp.bfloat16
    exact = attention_by_loops(*(np.asarray(x, np.float64) for x in qkv(jnp.bfloat16)))
    np.testing.assert_allclose(out.astype(jnp.float32), exact, atol=0.02)  # one bfloat16 step at 2 is 1/64


@pytest.mark.parametrize("attend", [plain_attention, fused_attention])
def test_large_scores_do_not_overflow(attend):
    q, k, v = qkv()
    out = attend(1e4 * q, 1e4 * k, v)
    assert np.isfinite(out).all()


@pytest.mark.parametrize(
    ("backend", "dtype", "head_width", "implementation"),
    [
        ("gpu", "bfloat16", 64, "cudnn"),
        ("gpu", "float16", 128, "cudnn"),
        ("gpu", "float32", 64, "xla"),
        ("gpu", "bfloat16", 12, "xla"),
        ("gpu", "bfloat16", 136, "xla"),
        ("cpu", "bfloat16", 64, "xla"),
        ("tpu", "bfloat16", 64, "xla"),
    ],
)
def test_cudnn_is_used_where_it_applies_only(backend, dtype, head_width, implementation):
    assert fused_implementation(backend, jnp.dtype(dtype), head_width) == implementation


@pytest.mark.parametrize(("backend", "attention"), [("cpu", "plain"), ("gpu", "fused"), ("tpu", "fused")])
def test_default_attention(backend, attention):
    assert default_attention(backend) == attention
