"""Settings of every test."""

import os
from collections.abc import Iterator

import pytest

# JAX reads these when it is first imported, here and in processes that tests start. JAX_PLATFORMS chooses the platform.
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["JAX_NUM_CPU_DEVICES"] = "1"
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"


@pytest.fixture
def mixed_dtypes() -> Iterator[None]:
    """For optax's Adams: they raise a Python float to the power of an int32, which strict promotion refuses."""
    import jax

    with jax.numpy_dtype_promotion("standard"):
        yield
