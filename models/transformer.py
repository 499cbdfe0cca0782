"""Decoder-only transformer in flax.nnx, sized as in the paper or freely.

Array names end in their axes: B batch, T context, D width, H heads, K width of a head, F feed-forward, V vocabulary.
"""

import dataclasses
import functools
import typing

import jax
import jax.numpy as jnp
from flax import nnx

from models.attention import ATTENTION, Attention
from models.loss import vocabulary_cross_entropy
from models.model import Batch, DType, Model, Params, functions_of

_EMBEDDING_STD = 0.02  # GPT-2's (Radford et al., 2019): the first logits are small, so the first loss is near ln V
_NORM_EPSILON = 1e-6


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """Sizes of a decoder-only transformer.

    Attributes:
      vocabulary: number of token ids, V.
      layers: number of blocks.
      width: residual stream, D.
      heads: attention heads, H.
      context: longest sequence, T, in tokens.
      head_width: width of one head; `width / heads` when None.
      feed_forward: hidden width of the MLP; `4 * width` when None.
      tied: whether the output projection is the token embedding.
      dtype: of activations and matrix products. Parameters, their gradients, norms, softmax and loss are float32.
      attention: "plain" (matrix products, fast on a CPU) or "fused" (one kernel, fast on an accelerator).
      remat: whether a backward pass makes the activations of each block again, from its inputs, which alone are kept.

    Raises:
      ValueError: a size is below 1, `width` does not divide into `heads` and `head_width` is not given, or `dtype` or
        `attention` is unknown.
    """

    vocabulary: int
    layers: int
    width: int
    heads: int
    context: int
    head_width: int | None = None
    feed_forward: int | None = None
    tied: bool = True
    dtype: DType = "float32"
    attention: Attention = "plain"
    remat: bool = False

    def __post_init__(self) -> None:
        for name in ("vocabulary", "layers", "width", "heads", "context", "head_width", "feed_forward"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if self.head_width is None and self.width % self.heads:
            raise ValueError(
                f"width {self.width} does not divide into {self.heads} heads: change one of them, or give head_width"
            )
        for name, known in (("dtype", typing.get_args(DType)), ("attention", typing.get_args(Attention))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")

    @property
    def key_width(self) -> int:
        """K, the width of one head."""
        return self.width // self.heads if self.head_width is None else self.head_width

    @property
    def hidden_width(self) -> int:
        """F, the hidden width of the MLP."""
        return 4 * self.width if self.feed_forward is None else self.feed_forward


# Layers, width, heads and head width are the paper's; context 256 and 32,000 tokens too. It states neither the
# feed-forward width nor tying: 4x and these choices give the parameter counts that the presets are named after.
PRESETS: dict[str, TransformerConfig] = {
    "20m": TransformerConfig(32_000, layers=6, width=256, heads=4, head_width=64, context=256, tied=False),
    "60m": TransformerConfig(32_000, layers=3, width=896, heads=16, head_width=64, context=256),
    "150m": TransformerConfig(32_000, layers=12, width=896, heads=16, head_width=64, context=256),
}


class RMSNorm(nnx.Module):
    """x / rms(x) * scale over the last axis, in float32 (Zhang and Sennrich, 2019, arXiv 1910.07467)."""

    def __init__(self, width: int):
        self.scale = nnx.Param(jnp.ones(width, jnp.float32))

    def __call__(self, x_NxD: jax.Array) -> jax.Array:
        """Returns the normalized `x_NxD` in its own dtype."""
        x32_NxD = x_NxD.astype(jnp.float32)
        mean_square_Nx1 = jnp.mean(jnp.square(x32_NxD), axis=-1, keepdims=True)
        y_NxD: jax.Array = x32_NxD * jax.lax.rsqrt(mean_square_Nx1 + _NORM_EPSILON) * self.scale[...][None]
        return y_NxD.astype(x_NxD.dtype)


class Block(nnx.Module):
    """Pre-norm attention and MLP with tanh-approximated GELU, each added to the residual stream. No biases, no dropout.

    The two projections that write to the residual stream start smaller by sqrt(2 * layers), as in GPT-2.
    """

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        inner = config.heads * config.key_width
        dtype = jnp.dtype(config.dtype)
        read_init = nnx.initializers.variance_scaling(1.0, "fan_in", "normal")
        write_init = nnx.initializers.variance_scaling(1.0 / (2 * config.layers), "fan_in", "normal")

        def linear(n_in: int, n_out: int, init: nnx.Initializer) -> nnx.Linear:
            return nnx.Linear(n_in, n_out, use_bias=False, kernel_init=init, dtype=dtype, rngs=rngs)

        self.config = config
        self.norm_attention = RMSNorm(config.width)
        self.qkv = linear(config.width, 3 * inner, read_init)
        self.out = linear(inner, config.width, write_init)
        self.norm_mlp = RMSNorm(config.width)
        self.up = linear(config.width, config.hidden_width, read_init)
        self.down = linear(config.hidden_width, config.width, write_init)

    def __call__(self, x_NxD: jax.Array, length: int) -> jax.Array:
        """Returns the residual stream after this block, of the same shape and dtype.

        Args:
          x_NxD: the residual stream of sequences of `length` tokens, one behind the other.
          length: T.
        """
        heads = (-1, length, self.config.heads, self.config.key_width)
        qkv_Nx3HK = self.qkv(self.norm_attention(x_NxD))
        q_BxTxHxK, k_BxTxHxK, v_BxTxHxK = (part.reshape(heads) for part in jnp.split(qkv_Nx3HK, 3, axis=-1))
        mixed_BxTxHxK = ATTENTION[self.config.attention](q_BxTxHxK, k_BxTxHxK, v_BxTxHxK)
        x_NxD = x_NxD + self.out(mixed_BxTxHxK.reshape(x_NxD.shape[0], -1))
        hidden_NxF = jax.nn.gelu(self.up(self.norm_mlp(x_NxD)), approximate=True)
        out_NxD: jax.Array = x_NxD + self.down(hidden_NxF)
        return out_NxD


class Transformer(nnx.Module):
    """Token ids to next-token logits, with learned positions and causal attention.

    Embedding rows are looked up in float32 and cast afterwards, so that the gradients of a token that occurs many times
    in a batch are added up in float32 whatever the dtype.
    """

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        def table(rows: int) -> nnx.Param:
            return nnx.Param(_EMBEDDING_STD * jax.random.normal(rngs.params(), (rows, config.width), jnp.float32))

        self.config = config
        self.token_embedding = table(config.vocabulary)
        self.position_embedding = table(config.context)
        self.blocks = nnx.Dict({str(i): Block(config, rngs=rngs) for i in range(config.layers)})
        self.norm_final = RMSNorm(config.width)
        if not config.tied:
            self.unembedding = table(config.vocabulary)

    def __call__(self, tokens_BxT: jax.Array, labels_BxT: jax.Array | None = None) -> jax.Array:
        """Returns logits, float32 of shape (B, T, V); position t sees tokens 0 to t.

        With labels it returns their mean cross-entropy instead, and never has the logits of all tokens at once.

        Raises:
          ValueError: the tokens are not integers of shape (B, T), or the sequences are longer than the context.
        """
        config = self.config
        if tokens_BxT.ndim != 2 or not jnp.issubdtype(tokens_BxT.dtype, jnp.integer):
            raise ValueError(f"tokens must be integers (batch, length), not {tokens_BxT.dtype}{tokens_BxT.shape}")
        length = tokens_BxT.shape[1]
        if length > config.context:
            raise ValueError(f"a sequence of {length} tokens is longer than the context of {config.context}")
        x_BxTxD = self.token_embedding[...][tokens_BxT] + self.position_embedding[...][None, :length]
        x_NxD = x_BxTxD.astype(config.dtype).reshape(-1, config.width)
        blocks = [self.blocks[str(i)] for i in range(config.layers)]
        if config.remat:
            x_NxD = _through_made_again(blocks, x_NxD, length)
        else:
            for block in blocks:
                x_NxD = block(x_NxD, length)
        x_NxD = self.norm_final(x_NxD)
        unembedding_VxD = self.token_embedding[...] if config.tied else self.unembedding[...]
        if labels_BxT is not None:
            return vocabulary_cross_entropy(x_NxD, unembedding_VxD, labels_BxT.reshape(-1))
        logits_NxV = jnp.einsum("nd,vd->nv", x_NxD, unembedding_VxD.astype(config.dtype))
        return logits_NxV.astype(jnp.float32).reshape(*tokens_BxT.shape, -1)


def _through_made_again(blocks: list[Block], x_NxD: jax.Array, length: int) -> jax.Array:
    """Goes through blocks of which a backward pass keeps the inputs, and makes all else again.

    A loop, because XLA may make straight code again long before it is needed: on a CPU that saved nothing.
    """
    graph = nnx.split(blocks[0])[0]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(nnx.split(block)[1] for block in blocks))

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def through(x_NxD: jax.Array, state: nnx.State) -> tuple[jax.Array, None]:
        return nnx.merge(graph, state)(x_NxD, length), None

    out_NxD: jax.Array = jax.lax.scan(through, x_NxD, stacked)[0]
    return out_NxD


def transformer(config: TransformerConfig) -> Model:
    """A language model; its batches are tokens (B, T + 1) int32, of which each predicts the next one.

    `train_flops` takes T = `context` and counts a multiplication and an addition as 2 operations in the forward pass
    and 4 in the backward pass: 6 per token and weight of the blocks and the unembedding, and 12 layers H K T^2 per
    sequence for attention's two products. Those are counted in full, although the causal mask discards half of them,
    as in Chowdhery et al. (2022, PaLM, arXiv 2204.02311, appendix B). Embedding look-ups, norms and softmax are not
    counted. `repeated_flops` is a block's forward pass but for its last product, whose result no gradient needs.
    """
    init, call, parameters = functions_of(lambda rngs: Transformer(config, rngs=rngs))

    def logits(params: Params, tokens_BxT: jax.Array) -> jax.Array:
        return call(params, tokens_BxT)

    def loss(params: Params, batch: Batch, key: jax.Array | None) -> jax.Array:
        del key
        if isinstance(batch, tuple):
            raise TypeError("a transformer's batch is one array of tokens (B, T + 1), not a tuple")
        return call(params, batch[:, :-1], batch[:, 1:])

    def train_flops(batch_size: int) -> float:
        inner = config.heads * config.key_width
        block_weights = config.width * (4 * inner + 2 * config.hidden_width)
        weights = config.layers * block_weights + config.width * config.vocabulary
        tokens = batch_size * config.context
        return 6.0 * weights * tokens + 12.0 * config.layers * inner * config.context * tokens

    def repeated_flops(batch_size: int) -> float:
        inner, tokens = config.heads * config.key_width, batch_size * config.context
        weights = config.width * (4 * inner + config.hidden_width)
        per_token = 2.0 * weights + 4.0 * inner * config.context
        return config.layers * per_token * tokens if config.remat else 0.0

    return Model(init, logits, loss, parameters, train_flops, repeated_flops)
