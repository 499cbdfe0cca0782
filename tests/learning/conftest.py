from collections.abc import Iterator

import jax
import pytest


@pytest.fixture
def mixed_dtypes() -> Iterator[None]:
    """For optax's Adams: they raise a Python float to the power of an int32, which strict promotion refuses."""
    with jax.numpy_dtype_promotion("standard"):
        yield
