"""Settings of every test."""

import os

import pytest

# JAX reads these when it is first imported, here and in processes that tests start. JAX_PLATFORMS chooses the platform.
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"


@pytest.fixture
def standard_dtype_promotion():
    """For tests that run optax's Adam, which raises a float to an integer power: refused by strict dtype promotion."""
    import jax

    with jax.numpy_dtype_promotion("standard"):
        yield
