"""Causal self-attention, in the form that suits the machine at hand."""

import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Attention = Literal["plain", "fused"]

# cuDNN's flash kernel takes head widths that are multiples of 8, up to 128 on every architecture that has the kernel.
_CUDNN_MULTIPLE, _CUDNN_WIDEST = 8, 128
_BLOCK, _MOST_BLOCKS = 128, 8  # smaller products are less efficient, and every block is compiled


def default_attention(backend: str) -> Attention:
    """The form to use on a JAX backend ("cpu", "gpu", "tpu"): "plain" on a CPU, "fused" elsewhere."""
    return "plain" if backend == "cpu" else "fused"


def fused_implementation(backend: str, dtype: jnp.dtype, head_width: int) -> Literal["cudnn", "xla"]:
    """Returns the kernel behind "fused": "cudnn", cuDNN's flash kernel, where it applies, else "xla", XLA's own code.

    The kernel applies on a GPU, to 16-bit inputs whose head width is a multiple of 8 and at most 128. The choice is
    made from these alone: on a GPU that has no such kernel JAX raises, it does not fall back.
    """
    sixteen_bit = dtype in (jnp.bfloat16, jnp.float16)
    fits = head_width % _CUDNN_MULTIPLE == 0 and head_width <= _CUDNN_WIDEST
    return "cudnn" if backend == "gpu" and sixteen_bit and fits else "xla"


def plain_attention(q_BxTxHxK: jax.Array, k_BxTxHxK: jax.Array, v_BxTxHxK: jax.Array) -> jax.Array:
    """Causal attention as batched matrix products around a float32 softmax.

    softmax(q k' / sqrt(K)) v with position t seeing positions 0 to t (Vaswani et al., 2017, arXiv 1706.03762, eq. 1).
    Queries are taken in blocks, and each block meets the keys up to its own end alone, which spares most of what the
    causal mask would discard. The backward pass is explicit: it takes the exponentials of the forward pass, and the
    softmax's denominators are applied to arrays of head width, not to T x T weights. Only reverse-mode derivatives of
    first order exist.

    Args:
      q_BxTxHxK: queries; B sequences, T positions, H heads of width K.
      k_BxTxHxK: keys.
      v_BxTxHxK: values.

    Returns:
      The mixed values, of the inputs' shape and dtype.
    """
    mixed_BxHxTxK = _causal(*(x.transpose(0, 2, 1, 3) for x in (q_BxTxHxK, k_BxTxHxK, v_BxTxHxK)))
    return mixed_BxHxTxK.transpose(0, 2, 1, 3)


class _Block(NamedTuple):
    """Values of the forward pass of a block of R queries, which sees S keys, for its backward pass.

    Attributes:
      powers: exp(scores - largest score of the row), (B, H, R, S) in the inputs' dtype.
      inverse: one over the sum of such a row, (B, H, R, 1) in float32.
    """

    powers: jax.Array
    inverse: jax.Array


def query_blocks(length: int) -> list[tuple[int, int]]:
    """Returns first and end of the blocks that queries are taken in: of one size, at least 128, and 8 at most."""
    size = max(_BLOCK, -(-length // _MOST_BLOCKS))
    return [(first, min(first + size, length)) for first in range(0, length, size)]


@jax.custom_vjp
def _causal(q_BxHxTxK: jax.Array, k_BxHxTxK: jax.Array, v_BxHxTxK: jax.Array) -> jax.Array:
    return _causal_forward(q_BxHxTxK, k_BxHxTxK, v_BxHxTxK)[0]


_Saved = tuple[jax.Array, jax.Array, jax.Array, jax.Array, list[_Block]]


def _causal_forward(q_BxHxTxK: jax.Array, k_BxHxTxK: jax.Array, v_BxHxTxK: jax.Array) -> tuple[jax.Array, _Saved]:
    mixed, blocks = [], []
    scaled_BxHxTxK = q_BxHxTxK * q_BxHxTxK.shape[-1] ** -0.5
    for first, end in query_blocks(q_BxHxTxK.shape[2]):
        scores_BxHxRxS = _product("brk,bsk->brs", scaled_BxHxTxK[:, :, first:end], k_BxHxTxK[:, :, :end])
        seen_RxS = np.arange(first, end)[:, None] >= np.arange(end)
        scores_BxHxRxS = jnp.where(seen_RxS, scores_BxHxRxS, -jnp.inf)
        powers_BxHxRxS = jnp.exp(scores_BxHxRxS - scores_BxHxRxS.max(axis=-1, keepdims=True))
        inverse_BxHxRx1 = 1 / powers_BxHxRxS.sum(axis=-1, keepdims=True)
        block = _Block(powers_BxHxRxS.astype(q_BxHxTxK.dtype), inverse_BxHxRx1)
        mixed_BxHxRxK = _product("brs,bsk->brk", block.powers, v_BxHxTxK[:, :, :end]) * inverse_BxHxRx1
        mixed.append(mixed_BxHxRxK.astype(q_BxHxTxK.dtype))
        blocks.append(block)
    mixed_BxHxTxK = jnp.concatenate(mixed, axis=2)
    return mixed_BxHxTxK, (scaled_BxHxTxK, k_BxHxTxK, v_BxHxTxK, mixed_BxHxTxK, blocks)


def _causal_backward(saved: _Saved, gradient_BxHxTxK: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Gradients of the queries, keys and values.

    With weights w = powers * inverse, mixed values o and their gradient g: dv = w' g; of the scores
    ds = w * (g v' - sum(g * o)); dq = ds k / sqrt(K); dk = ds' q / sqrt(K). The factor `inverse` goes to g.
    """
    scaled_BxHxTxK, k_BxHxTxK, v_BxHxTxK, mixed_BxHxTxK, blocks = saved
    dtype, T = k_BxHxTxK.dtype, k_BxHxTxK.shape[2]
    dq, dk, dv = [], [], []
    for (first, end), (powers_BxHxRxS, inverse_BxHxRx1) in zip(query_blocks(T), blocks, strict=True):
        g_BxHxRxK = gradient_BxHxTxK[:, :, first:end].astype(jnp.float32) * inverse_BxHxRx1
        along_BxHxRx1 = (g_BxHxRxK * mixed_BxHxTxK[:, :, first:end].astype(jnp.float32)).sum(axis=-1, keepdims=True)
        g_BxHxRxK = g_BxHxRxK.astype(dtype)
        dw_BxHxRxS = _product("brk,bsk->brs", g_BxHxRxK, v_BxHxTxK[:, :, :end])
        ds_BxHxRxS = (powers_BxHxRxS.astype(jnp.float32) * (dw_BxHxRxS - along_BxHxRx1)).astype(dtype)
        dq.append(_product("brs,bsk->brk", ds_BxHxRxS, k_BxHxTxK[:, :, :end]))
        dk.append(_product("brk,brs->bks", scaled_BxHxTxK[:, :, first:end], ds_BxHxRxS))
        dv.append(_product("brk,brs->bks", g_BxHxRxK, powers_BxHxRxS))
    dq_BxHxTxK = jnp.concatenate(dq, axis=2) * k_BxHxTxK.shape[-1] ** -0.5
    return dq_BxHxTxK.astype(dtype), _added(dk).astype(dtype), _added(dv).astype(dtype)


_causal.defvjp(_causal_forward, _causal_backward)


def _product(axes: str, a: jax.Array, b: jax.Array) -> jax.Array:
    """A float32 matrix product for every sequence and head; `axes` is an einsum's, with b for both."""
    return jnp.einsum(axes.replace("b", "bh"), a, b, preferred_element_type=jnp.float32)


def _added(parts_BxHxKxS: list[jax.Array]) -> jax.Array:
    """Sum, (B, H, T, K), of gradients of the first keys: each part has as many as its block of queries saw."""
    sums = []
    for index, (first, end) in enumerate(query_blocks(parts_BxHxKxS[-1].shape[3])):
        sums.append(functools.reduce(jnp.add, [part[..., first:end] for part in parts_BxHxKxS[index:]]))
    return jnp.concatenate(sums, axis=3).swapaxes(2, 3)


def fused_attention(q_BxTxHxK: jax.Array, k_BxTxHxK: jax.Array, v_BxTxHxK: jax.Array) -> jax.Array:
    """The same function as `plain_attention` through `jax.nn.dot_product_attention`.

    With cuDNN's kernel the T x T weights are never written to memory. Without it, as on a CPU, XLA's code computes in
    float32 whatever the inputs' dtype, and has no advantage over `plain_attention`.
    """
    dtype = q_BxTxHxK.dtype
    implementation = fused_implementation(jax.default_backend(), dtype, q_BxTxHxK.shape[-1])
    compute_dtype = dtype if implementation == "cudnn" else jnp.float32
    q_BxTxHxK, k_BxTxHxK, v_BxTxHxK = (x.astype(compute_dtype) for x in (q_BxTxHxK, k_BxTxHxK, v_BxTxHxK))
    mixed_BxTxHxK = jax.nn.dot_product_attention(
        q_BxTxHxK, k_BxTxHxK, v_BxTxHxK, is_causal=True, implementation=implementation
    )
    return mixed_BxTxHxK.astype(dtype)


ATTENTION: dict[Attention, Callable[[jax.Array, jax.Array, jax.Array], jax.Array]] = {
    "plain": plain_attention,
    "fused": fused_attention,
}
