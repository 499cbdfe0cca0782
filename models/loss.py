"""Cross-entropy of logits, and of activations and an unembedding without all logits at once."""

import functools
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

Summed = TypeVar("Summed")
Rows = TypeVar("Rows")

_LOGITS_ON_A_CPU, _FEWEST_TOKENS = 2**19, 512
_LOGITS_ELSEWHERE = 2**27


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean over all positions of -log softmax(logits)[label], in nats.

    Computed in float32 as log sum exp(logits - max) - (logits[label] - max), which no logits overflow.

    Args:
      logits: (..., V), any float dtype.
      labels: (...), integers in [0, V).

    Returns:
      A float32 scalar.

    Raises:
      ValueError: the leading axes of the two differ, or the labels are not integers.
    """
    if logits.shape[:-1] != labels.shape:
        raise ValueError(f"labels of shape {labels.shape} do not fit logits of shape {logits.shape}")
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"labels must be integers, not {labels.dtype}")
    logits = logits.astype(jnp.float32)
    label_logits = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - label_logits)


def tokens_at_a_time(tokens: int, vocabulary: int, backend: str) -> int:
    """Number of tokens whose logits `vocabulary_cross_entropy` holds at once on a JAX backend ("cpu", "gpu", "tpu").

    On a CPU as many as have 2^19 logits, which stay in its caches: measured on 2,048 tokens of width 128 with AVX-512,
    that takes 0.94 of the time of `cross_entropy` of all logits for 256 ids, 0.76 for 1,024 and 0.72 for 32,000. Fewer
    than 512 tokens are never taken, since the products lose more than the caches give. Elsewhere 2^27 logits, half a
    gigabyte in float32: the bound is for memory alone.
    """
    most = max(_LOGITS_ON_A_CPU // vocabulary, _FEWEST_TOKENS) if backend == "cpu" else _LOGITS_ELSEWHERE // vocabulary
    return max(1, min(tokens, most))


def vocabulary_cross_entropy(x_NxD: jax.Array, unembedding_VxD: jax.Array, labels_N: jax.Array) -> jax.Array:
    """`cross_entropy(x unembedding', labels)` without logits of more than some tokens at a time.

    The products are computed in the dtype of `x_NxD`, all else in float32. The gradient of the logits,
    softmax(logits) - one_hot(label), needs nothing of the backward pass but a factor; so where a gradient is asked for,
    the forward pass goes through the tokens once, makes the gradients of `x_NxD` and of the unembedding, and forgets
    the logits. Only reverse-mode derivatives of first order exist.

    Args:
      x_NxD: activations of N tokens, any float dtype.
      unembedding_VxD: a row for every token id, float32.
      labels_N: integers in [0, V).

    Returns:
      The mean over the tokens in nats, a float32 scalar.

    Raises:
      ValueError: the shapes do not fit together, or the labels are not integers.
    """
    if labels_N.shape != x_NxD.shape[:1] or x_NxD.ndim != 2 or x_NxD.shape[1:] != unembedding_VxD.shape[1:]:
        shapes = f"{x_NxD.shape}, unembedding {unembedding_VxD.shape} and labels {labels_N.shape}"
        raise ValueError(f"activations {shapes} do not fit together: they must be (N, D), (V, D) and (N,)")
    if not jnp.issubdtype(labels_N.dtype, jnp.integer):
        raise ValueError(f"labels must be integers, not {labels_N.dtype}")
    at_a_time = tokens_at_a_time(x_NxD.shape[0], unembedding_VxD.shape[0], jax.default_backend())
    return _mean_loss(at_a_time, x_NxD, unembedding_VxD, labels_N)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _mean_loss(at_a_time: int, x_NxD: jax.Array, unembedding_VxD: jax.Array, labels_N: jax.Array) -> jax.Array:
    unembedding_VxD = unembedding_VxD.astype(x_NxD.dtype)

    def part(x_CxD: jax.Array, labels_C: jax.Array) -> tuple[jax.Array, tuple[()]]:
        return _loss_and_softmax(x_CxD, unembedding_VxD, labels_C)[0], ()

    return _in_parts(part, at_a_time, x_NxD, labels_N)[0] / len(labels_N)


_Gradients = tuple[jax.Array, jax.Array]


def _mean_loss_forward(
    at_a_time: int, x_NxD: jax.Array, unembedding_VxD: jax.Array, labels_N: jax.Array
) -> tuple[jax.Array, _Gradients]:
    """The mean loss, and the gradients of the summed one."""
    unembedding_VxD = unembedding_VxD.astype(x_NxD.dtype)

    def part(x_CxD: jax.Array, labels_C: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        loss, softmax_CxV = _loss_and_softmax(x_CxD, unembedding_VxD, labels_C)
        one_hot_CxV = labels_C[:, None] == jax.lax.broadcasted_iota(labels_C.dtype, softmax_CxV.shape, 1)
        d_CxV = (softmax_CxV - one_hot_CxV.astype(jnp.float32)).astype(x_CxD.dtype)
        d_DxV = jnp.einsum(
            "cd,cv->dv", x_CxD, d_CxV, preferred_element_type=jnp.float32
        )  # narrow operand first: faster
        return (loss, d_DxV), jnp.einsum("cv,vd->cd", d_CxV, unembedding_VxD)

    (loss, d_DxV), d_NxD = _in_parts(part, at_a_time, x_NxD, labels_N)
    return loss / len(labels_N), (d_NxD, d_DxV)


def _mean_loss_backward(at_a_time: int, gradients: _Gradients, factor: jax.Array) -> tuple[jax.Array, jax.Array, None]:
    d_NxD, d_DxV = gradients
    factor = factor / d_NxD.shape[0]
    return (d_NxD.astype(jnp.float32) * factor).astype(d_NxD.dtype), (d_DxV * factor).T, None


_mean_loss.defvjp(_mean_loss_forward, _mean_loss_backward)


def _loss_and_softmax(x_CxD: jax.Array, unembedding_VxD: jax.Array, labels_C: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The summed loss, and the softmax of the logits; float32."""
    logits_CxV = jnp.einsum("cd,vd->cv", x_CxD, unembedding_VxD).astype(jnp.float32)
    largest_Cx1 = logits_CxV.max(axis=-1, keepdims=True)
    powers_CxV = jnp.exp(logits_CxV - largest_Cx1)
    sum_Cx1 = powers_CxV.sum(axis=-1, keepdims=True)
    label_logits_Cx1 = jnp.take_along_axis(logits_CxV, labels_C[:, None], axis=-1)
    return jnp.sum(jnp.log(sum_Cx1) + largest_Cx1 - label_logits_Cx1), powers_CxV * (1 / sum_Cx1)


def _in_parts(
    part: Callable[[jax.Array, jax.Array], tuple[Summed, Rows]], at_a_time: int, x_NxD: jax.Array, labels_N: jax.Array
) -> tuple[Summed, Rows]:
    """Calls `part` with `at_a_time` tokens at a time, and with the remainder.

    Returns:
      The sum of its first results, and its second ones in a row.
    """
    N, D = x_NxD.shape
    parts = N // at_a_time
    whole = parts * at_a_time
    rest = [] if whole == N else [part(x_NxD[whole:], labels_N[whole:])]
    if parts == 1:
        return _joined(part(x_NxD[:whole], labels_N[:whole]), *rest)
    x_PxCxD, labels_PxC = x_NxD[:whole].reshape(parts, at_a_time, D), labels_N[:whole].reshape(parts, at_a_time)
    shapes = jax.eval_shape(part, x_PxCxD[0], labels_PxC[0])[0]
    zeros: Summed = jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), shapes)

    def step(total: Summed, given: tuple[jax.Array, jax.Array]) -> tuple[Summed, Rows]:
        first, second = part(*given)
        return jax.tree.map(jnp.add, total, first), second

    total, rows = jax.lax.scan(step, zeros, (x_PxCxD, labels_PxC))
    return _joined((total, jax.tree.map(lambda leaf: leaf.reshape(whole, *leaf.shape[2:]), rows)), *rest)


def _joined(some: tuple[Summed, Rows], *more: tuple[Summed, Rows]) -> tuple[Summed, Rows]:
    total, rows = some
    for other_total, other_rows in more:
        total = jax.tree.map(jnp.add, total, other_total)
        rows = jax.tree.map(lambda *both: jnp.concatenate(both), rows, other_rows)
    return total, rows
