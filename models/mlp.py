"""Multi-layer perceptron classifier with ReLU: the toy of the paper's authors is 512 -> 65,000 -> 4."""

import dataclasses
import itertools

import jax
from flax import nnx

from models.loss import cross_entropy
from models.model import Batch, Model, Params, functions_of


@dataclasses.dataclass(frozen=True)
class MLPConfig:
    """Sizes of a multi-layer perceptron; it computes in float32.

    Attributes:
      inputs: number of features, D.
      hidden: widths of the hidden layers; none gives multinomial logistic regression.
      classes: number of classes, V.

    Raises:
      ValueError: a size is below 1.
    """

    inputs: int
    hidden: tuple[int, ...]
    classes: int

    def __post_init__(self) -> None:
        for name, sizes in (("inputs", (self.inputs,)), ("hidden", self.hidden), ("classes", (self.classes,))):
            for size in sizes:
                if size < 1:
                    raise ValueError(f"{name} must be at least 1, not {size}")

    @property
    def layers(self) -> tuple[tuple[int, int], ...]:
        """Each layer's number of inputs and outputs."""
        return tuple(itertools.pairwise((self.inputs, *self.hidden, self.classes)))


class MLP(nnx.Module):
    """Linear layers with ReLU between them.

    Kernels and biases start uniform in +-1/sqrt(layer inputs), which is the default of PyTorch's `nn.Linear`.
    """

    def __init__(self, config: MLPConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.layers = nnx.Dict()
        for i, (n_in, n_out) in enumerate(config.layers):
            self.layers[str(i)] = nnx.Linear(
                n_in, n_out, kernel_init=_uniform(n_in), bias_init=_uniform(n_in), rngs=rngs
            )

    def __call__(self, x_BxD: jax.Array) -> jax.Array:
        """Returns logits, float32 of shape (B, V).

        Raises:
          ValueError: the inputs are not B rows of D features.
        """
        if x_BxD.ndim != 2 or x_BxD.shape[1] != self.config.inputs:
            raise ValueError(f"inputs of shape {x_BxD.shape} are not (batch, {self.config.inputs})")
        *hidden, last = (self.layers[str(i)] for i in range(len(self.config.layers)))
        for layer in hidden:
            x_BxD = jax.nn.relu(layer(x_BxD))
        logits_BxV: jax.Array = last(x_BxD)
        return logits_BxV


def mlp(config: MLPConfig) -> Model:
    """A classifier; its batches are (inputs (B, D) float32, labels (B,) int32).

    `train_flops` counts 6 operations per kernel element and example: a multiplication and an addition in the forward
    pass, twice that in the backward pass. Biases and ReLU are not counted.
    """
    init, logits, parameters = functions_of(lambda rngs: MLP(config, rngs=rngs))

    def loss(params: Params, batch: Batch, key: jax.Array | None) -> jax.Array:
        del key
        if not isinstance(batch, tuple):
            raise TypeError("a classifier's batch is a tuple of inputs (B, D) and labels (B,), not one array")
        inputs_BxD, labels_B = batch
        return cross_entropy(logits(params, inputs_BxD), labels_B)

    def train_flops(batch_size: int) -> float:
        return 6.0 * sum(n_in * n_out for n_in, n_out in config.layers) * batch_size

    return Model(init, logits, loss, parameters, train_flops)


def _uniform(n_in: int) -> nnx.Initializer:
    """Uniform in +-1/sqrt(n_in)."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -(n_in**-0.5), n_in**-0.5)

    return init
