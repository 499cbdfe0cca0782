"""Causal self-attention, in the form that suits the machine at hand."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

Attention = Literal["plain", "fused"]

# cuDNN's flash kernel takes head widths that are multiples of 8, up to 128 on every architecture that has the kernel.
_CUDNN_MULTIPLE, _CUDNN_WIDEST = 8, 128


def default_attention(backend: str) -> Attention:
    """The form to use on a JAX backend ("cpu", "gpu", "tpu"): "plain" on a CPU, "fused" elsewhere."""
    return "plain" if backend == "cpu" else "fused"


def fused_implementation(backend: str, dtype: jnp.dtype, head_width: int) -> Literal["cudnn", "xla"]:
    """What "fused" stands for: cuDNN's flash kernel where it applies, XLA's own code elsewhere.

    The kernel applies on a GPU, to 16-bit inputs whose head width is a multiple of 8 and at most 128. The choice is
    made from these alone: on a GPU that has no such kernel JAX raises, it does not fall back.
    """
    sixteen_bit = dtype in (jnp.bfloat16, jnp.float16)
    fits = head_width % _CUDNN_MULTIPLE == 0 and head_width <= _CUDNN_WIDEST
    return "cudnn" if backend == "gpu" and sixteen_bit and fits else "xla"


def plain_attention(q_BxTxHxK: jax.Array, k_BxTxHxK: jax.Array, v_BxTxHxK: jax.Array) -> jax.Array:
    """Causal attention as two batched matrix products around a float32 softmax.

    softmax(q k' / sqrt(K)) v with position t seeing positions 0 to t (Vaswani et al., 2017, arXiv 1706.03762, eq. 1).

    Args:
      q_BxTxHxK: queries; B sequences, T positions, H heads of width K.
      k_BxTxHxK: keys.
      v_BxTxHxK: values.

    Returns:
      The mixed values, of the inputs' shape and dtype.
    """
    T, K = q_BxTxHxK.shape[1], q_BxTxHxK.shape[3]
    scores_BxHxTxS = jnp.einsum("bthk,bshk->bhts", q_BxTxHxK * K**-0.5, k_BxTxHxK, preferred_element_type=jnp.float32)
    causal_TxS = np.tril(np.ones((T, T), bool))
    weights_BxHxTxS = jax.nn.softmax(jnp.where(causal_TxS, scores_BxHxTxS, -jnp.inf), axis=-1)
    return jnp.einsum("bhts,bshk->bthk", weights_BxHxTxS.astype(v_BxTxHxK.dtype), v_BxTxHxK)


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
