"""Random streams: one independent numpy generator per purpose and device."""

import zlib

import numpy as np


def stream(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """Returns the generator of one purpose and device.

    It is a `SeedSequence` child addressed by (purpose, index), not by how many were made before it: adding a worker or
    a purpose shifts no one else's draws.

    Args:
      seed: the experiment's seed.
      purpose: what is drawn, such as "jitter".
      index: the device.
    """
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(zlib.crc32(purpose.encode()), index)))
    )
