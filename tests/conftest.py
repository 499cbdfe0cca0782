"""Settings of every test."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# JAX reads these when it is first imported, here and in processes that tests start. JAX_PLATFORMS chooses the platform.
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["JAX_NUM_CPU_DEVICES"] = "1"
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Prepared data are kept in a folder of this session, also by processes that tests start."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["TARDIGRAD_CACHE"] = str(folder)
    yield folder
    del os.environ["TARDIGRAD_CACHE"]


@pytest.fixture
def mixed_dtypes() -> Iterator[None]:
    """For optax's Adams: they raise a Python float to the power of an int32, which strict promotion refuses."""
    import jax

    with jax.numpy_dtype_promotion("standard"):
        yield
