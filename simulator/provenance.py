"""What decides results besides the experiment, and fingerprints of them."""

import hashlib
from typing import Any

import jax
import numpy as np

from simulator.versions import versions


def made_with(trainer: str, data_hash: str | None) -> dict[str, Any]:
    """Returns what a summary says of it."""
    return {"versions": versions(), "backend": jax.default_backend(), "trainer": trainer, "data_hash": data_hash}


def circumstances(trainer: str, data_hash: str | None, lanes: int) -> dict[str, Any]:
    """Returns what a checkpoint says of it: bits depend on the devices too, and on what is in one program."""
    backend = f"{jax.default_backend()}, {devices()}"
    return {"versions": versions(), "backend": backend, "trainer": trainer, "lanes": lanes, "data": data_hash}


def devices() -> str:
    """Returns how many devices there are and of what kind; the last bits of results may depend on either."""
    return f"{jax.local_device_count()} x {jax.local_devices()[0].device_kind}"


def parameters_hash(params: Any) -> str:
    """Returns a fingerprint of parameters: equal hashes, equal bits."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
