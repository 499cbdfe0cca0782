"""Random streams: an independent generator for every purpose, which draws the same whatever others were made before."""

import hashlib
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import jax


def numpy_stream(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """Returns the generator of one purpose and device: adding a device or a purpose shifts no one else's draws.

    Args:
      seed: the experiment's.
      purpose: of the draws, such as "jitter".
      index: the device.
    """
    address = zlib.crc32(purpose.encode()), index
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=address))


def data_stream(purpose: str, *numbers: int) -> np.random.Generator:
    """Returns the generator of a purpose and numbers; without a seed among them all experiments have the same data."""
    return np.random.default_rng([*purpose.encode(), *numbers])


def jax_key(seed: int, purpose: str) -> "jax.Array":
    """Returns the key from which all of a purpose's are folded."""
    import jax  # the clock and the data, which draw from here too, do without it

    number = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:4], "little") >> 1
    return jax.random.fold_in(jax.random.key(seed), number)
