"""Compression: forms in which offers are sent, as what the receiver makes of them.

A codec maps a tree to the tree that its receiver decodes, and needs so many bits for each parameter, which the clock
counts. Error feedback adds to what is sent next what a codec has left out.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from simulator.experiment import registry
from simulator.experiment.schema.exchanges import (
    BFloat16Compression,
    Compression,
    FP4Compression,
    IntegerCompression,
    NamedCompression,
    NoCompression,
    RandomCompression,
    SignCompression,
    StatisticalCompression,
    TopKCompression,
)

Codec = Callable[[jax.Array, jax.Array], jax.Array]
"""From an array and a random key to the array that the receiver decodes."""

_TILE = 64  # the side of a tile within which the largest elements are chosen
_LARGEST_E3M0 = 2.0**3
_TINY = 1e-30  # a magnitude whose logarithm is finite, and which is rounded to zero
_LEVELS_E3M0 = 7  # powers of two, besides 0


class Sent(NamedTuple):
    """Something sent.

    Attributes:
      tree: as its receiver decodes it.
      feedback: error that the sender keeps, like the tree; () without error feedback.
    """

    tree: Any
    feedback: Any


def codec_of(section: Compression) -> Codec:
    """Returns the codec of a `compression` section.

    Raises:
      PolicyError: a user-defined one is not registered in this process, or refuses its settings.
    """
    match section:
        case NoCompression():
            return lambda array, key: array
        case BFloat16Compression():
            return lambda array, key: array.astype(jnp.bfloat16).astype(array.dtype)
        case FP4Compression():
            return lambda array, key: _e3m0(array)
        case IntegerCompression(width=width):
            return lambda array, key: _integers(array, width)
        case StatisticalCompression(width=width, sigmas=sigmas, rows=rows):
            return lambda array, key: _in_bins(array, width, sigmas, rows=rows)
        case TopKCompression(density=density, width=bits):
            return lambda array, key: _largest(array, density, bits)
        case SignCompression():
            return lambda array, key: jnp.sign(array)
        case RandomCompression(share=share):
            return lambda array, key: jnp.where(jax.random.uniform(key, array.shape) < share, array, 0)
        case NamedCompression() as named:
            codec: Codec = registry.build(named).decoded
            return codec
    raise TypeError(f"a compression that has no codec: {section!r}")


def send(codec: Codec, decay: float | None, tree: Any, feedback: Any, key: jax.Array) -> Sent:
    r"""Returns what is sent of a tree, and the error that stays with the sender.

    With error feedback e, :math:`e \leftarrow \beta e + x`, the codec's :math:`Q(e)` is sent, and
    :math:`e \leftarrow e - Q(e)` stays (Karimireddy et al., arXiv 1901.09847; the decay is SparseLoCo's, 2508.15706).

    Args:
      codec: the form in which it is sent.
      decay: :math:`\beta`; None without error feedback.
      tree: to send.
      feedback: the error, like the tree; () without error feedback.
      key: for what a codec draws.
    """
    if decay is not None:
        tree = jax.tree.map(lambda e, x: decay * e + x, feedback, tree)
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, max(len(leaves), 1))
    coded = [codec(leaf, keys[place]).astype(leaf.dtype) for place, leaf in enumerate(leaves)]
    sent = jax.tree.unflatten(structure, coded)
    return Sent(sent, () if decay is None else jax.tree.map(jnp.subtract, tree, sent))


def _e3m0(array: jax.Array) -> jax.Array:
    """Rounds to 4 bits: a sign and a power of two, of 7 below the array's largest magnitude, or zero.

    The powers are those of the largest magnitude, which is sent beside the array.
    """
    largest = jnp.abs(array).max() if array.size else jnp.zeros((), array.dtype)
    scale = jnp.where(largest > 0, largest / _LARGEST_E3M0, 1).astype(array.dtype)
    magnitude = jnp.abs(array) / scale
    exponent = jnp.round(jnp.log2(jnp.maximum(magnitude, _TINY)))
    lowest = math.log2(_LARGEST_E3M0) - (_LEVELS_E3M0 - 1)
    power = jnp.exp2(jnp.clip(exponent, lowest, math.log2(_LARGEST_E3M0)))
    rounded = jnp.where(magnitude < 2.0 ** (lowest - 1), 0, power)
    return (jnp.sign(array) * rounded * scale).astype(array.dtype)


def _integers(array: jax.Array, bits: int) -> jax.Array:
    """Rounds to whole multiples of the array's largest magnitude over 2^(bits-1) - 1."""
    most = 2 ** (bits - 1) - 1
    largest = jnp.abs(array).max() if array.size else jnp.zeros((), array.dtype)
    scale = jnp.where(largest > 0, largest / most, 1)
    return (jnp.round(array / scale) * scale).astype(array.dtype)


def _largest(array: jax.Array, density: float, bits: int | None) -> jax.Array:
    """Keeps the largest elements of each tile of 64 by 64, or of each 64 of a vector, rounded to so many bits.

    Where tiles would be too small to keep one, as with sides that are prime, the whole array is one.
    """
    tiles_NxE, undo = _tiled(array)
    if round(density * tiles_NxE.shape[1]) < 1:
        tiles_NxE, undo = array.reshape(1, -1), lambda tiles: tiles.reshape(array.shape)
    kept = max(round(density * tiles_NxE.shape[1]), 1)
    _, places_NxK = jax.lax.top_k(jnp.abs(tiles_NxE), kept)
    mask_NxE = jnp.zeros(tiles_NxE.shape, bool).at[jnp.arange(len(tiles_NxE))[:, None], places_NxK].set(True)
    chosen = undo(jnp.where(mask_NxE, tiles_NxE, 0))
    if bits is None:
        return chosen
    mask = undo(mask_NxE.astype(array.dtype)) > 0
    return jnp.where(mask, _statistical(chosen, mask, bits), 0)


def _in_bins(array: jax.Array, bits: int, sigmas: float, *, rows: bool) -> jax.Array:
    """Rounds to bins by an array's or its rows' mean and unbiased standard deviation; a vector is one row (MuLoCo)."""
    lines_RxE = array.reshape(array.shape[0] if rows and array.ndim > 1 else 1, -1)
    everywhere = jnp.ones(lines_RxE.shape[1:], bool)
    rounded_RxE = jax.vmap(lambda line: _statistical(line, everywhere, bits, sigmas, fewer=1.0))(lines_RxE)
    return rounded_RxE.reshape(array.shape)


def _statistical(array: jax.Array, mask: jax.Array, bits: int, sigmas: float = 6.0, fewer: float = 0.0) -> jax.Array:
    """Rounds to 2^bits bins over some standard deviations; each is decoded as the mean of its members (SparseLoCo).

    Squares are divided by their number, or by so many fewer.
    """
    bins = 2**bits
    count = jnp.maximum(mask.sum(), 1).astype(array.dtype)
    shift = jnp.where(mask, array, 0).sum() / count
    deviation = jnp.sqrt(jnp.where(mask, (array - shift) ** 2, 0).sum() / jnp.maximum(count - fewer, 1))
    scale = jnp.where(deviation > 0, sigmas * deviation / bins, 1)
    place = jnp.clip(jnp.round((array - shift) / scale + bins / 2), 0, bins - 1).astype(jnp.int32)
    one_hot = jax.nn.one_hot(place.reshape(-1), bins, dtype=array.dtype) * mask.reshape(-1, 1).astype(array.dtype)
    means = (one_hot * array.reshape(-1, 1)).sum(axis=0) / jnp.maximum(one_hot.sum(axis=0), 1)
    return means[place]


def _tiled(array: jax.Array) -> tuple[jax.Array, Callable[[jax.Array], jax.Array]]:
    """Returns an array's tiles, one in each row, and the function back. Their sides divide the array's."""
    if array.ndim != 2:
        side = _divisor(array.size)
        return array.reshape(-1, side), lambda tiles: tiles.reshape(array.shape)
    (rows, columns), (tall, wide) = array.shape, map(_divisor, array.shape)
    grid = array.reshape(rows // tall, tall, columns // wide, wide).transpose(0, 2, 1, 3)

    def undo(tiles: jax.Array) -> jax.Array:
        return tiles.reshape(rows // tall, columns // wide, tall, wide).transpose(0, 2, 1, 3).reshape(rows, columns)

    return grid.reshape(-1, tall * wide), undo


def _divisor(length: int) -> int:
    """Returns the largest divisor of a length that is no larger than a tile's side."""
    return next(side for side in range(min(_TILE, max(length, 1)), 0, -1) if length % side == 0)
