"""Random streams of the data itself, whatever the experiment's seed: every run learns from the same data."""

import numpy as np


def named_generator(purpose: str) -> np.random.Generator:
    """Returns the random stream of one purpose: equal names draw equal numbers, different names independent ones."""
    return np.random.default_rng(np.random.SeedSequence(list(purpose.encode())))
