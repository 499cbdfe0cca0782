"""Model interface: the functions and costs of a model of any kind that a trainer uses."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax
from flax import nnx

DType = Literal["float32", "bfloat16"]

Params: TypeAlias = dict[str, Any]
"""A nested dict with string keys and float32 arrays as leaves."""

Batch: TypeAlias = jax.Array | tuple[jax.Array, jax.Array]
"""Tokens (B, T + 1) of a language model; inputs (B, D) and labels (B,) of a classifier."""


@dataclasses.dataclass(frozen=True)
class Model:
    """A model as pure functions of its parameters, for jit, grad and vmap over a leading axis of parameters and batch.

    Attributes:
      init: key to fresh parameters.
      logits: (parameters, inputs) to float32 logits; the inputs are tokens (B, T), or features (B, D).
      loss: (parameters, batch, key) to the batch's mean cross-entropy in nats, a float32 scalar. The key is for models
        that draw random numbers in training, such as dropout; these draw none, and it may be None.
      parameters: number of parameters.
      train_flops: batch size to the floating-point operations of one forward and backward pass on such a batch.
      repeated_flops: batch size to those that a backward pass does again, because their results were not kept.
    """

    init: Callable[[jax.Array], Params]
    logits: Callable[[Params, jax.Array], jax.Array]
    loss: Callable[[Params, Batch, jax.Array | None], jax.Array]
    parameters: int
    train_flops: Callable[[int], float]
    repeated_flops: Callable[[int], float] = lambda batch_size: 0.0


def default_dtype(backend: str) -> DType:
    """The dtype to compute in on a JAX backend ("cpu", "gpu", "tpu"): float32 on a CPU, bfloat16 elsewhere."""
    return "float32" if backend == "cpu" else "bfloat16"


def functions_of(
    build: Callable[[nnx.Rngs], nnx.Module],
) -> tuple[Callable[[jax.Array], Params], Callable[..., jax.Array], int]:
    """Splits a flax module into `init`, the call as a function of its parameters and its inputs, and `parameters`.

    Nothing is allocated before `init` is called. The module is rebuilt from its parameters while a function is traced,
    so compiled code pays nothing for it.
    """
    graph, shapes = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))), nnx.Param)

    def init(key: jax.Array) -> Params:
        params: Params = nnx.to_pure_dict(nnx.state(build(nnx.Rngs(key)), nnx.Param))
        return params

    def call(params: Params, *inputs: jax.Array) -> jax.Array:
        out: jax.Array = nnx.merge(graph, params)(*inputs)
        return out

    return init, call, sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
