"""Settings of every test."""

import os

# JAX reads these when it is first imported, here and in processes that tests start. JAX_PLATFORMS chooses the platform.
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
