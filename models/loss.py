"""Cross-entropy."""

import jax
import jax.numpy as jnp


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
