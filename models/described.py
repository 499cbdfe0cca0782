"""A model of which only the sizes are known: shapes of parameters, to count and divide, and nothing to compute."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from models.model import Batch, Model, Params


@dataclasses.dataclass(frozen=True)
class DescribedConfig:
    """Sizes of a model of layers that are alike.

    Attributes:
      parameters: number of all.
      layers: number of layers, among which they are divided evenly; the first have one more where that leaves some.
      embeddings: rows of each table in front of the layers, and behind them; none where it is empty.
      width: columns of those, and of the layers' matrices; a square root of a layer's size when None.
    """

    parameters: int
    layers: int
    embeddings: tuple[int, ...] = ()
    width: int | None = None


_TABLES = ("token_embedding", "unembedding")


def described(config: DescribedConfig, train_flops: Callable[[int], float]) -> Model:
    """A model whose parameters have shapes and whose functions cannot be called: it is never trained.

    Args:
      config: sizes.
      train_flops: batch size to the operations of a forward and backward pass.
    """
    shapes = _shapes(config)

    def init(key: jax.Array) -> Params:
        if not isinstance(key, jax.core.Tracer):
            raise TypeError(_REFUSAL)
        params: Params = jax.tree.map(jnp.zeros, shapes, is_leaf=lambda each: isinstance(each, tuple))
        return params

    return Model(init, _refuse, _refuse_loss, config.parameters, train_flops)


_REFUSAL = "a described model has no values, only shapes: it cannot be trained"


def _refuse(params: Params, inputs: jax.Array) -> jax.Array:
    raise TypeError(_REFUSAL)


def _refuse_loss(params: Params, batch: Batch, key: jax.Array | None) -> jax.Array:
    raise TypeError(_REFUSAL)


def _shapes(config: DescribedConfig) -> dict[str, Any]:
    """Returns the shapes: of a layer a matrix, and a vector of what does not fill a row of it."""
    width = config.width
    shapes: dict[str, Any] = {}
    for name, rows in zip(_TABLES, config.embeddings, strict=False):
        assert width is not None
        shapes[name] = (rows, width)
    left = config.parameters - sum(math.prod(shape) for shape in shapes.values())
    each, more = divmod(left, config.layers)
    columns, blocks = min(width or math.isqrt(each), each), {}
    for layer in range(config.layers):
        rows, rest = divmod(each + (layer < more), columns)
        blocks[str(layer)] = {"matrix": (rows, columns)} | ({"vector": (rest,)} if rest else {})
    return {"blocks": blocks} | shapes
