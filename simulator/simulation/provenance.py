"""Provenance of results: all that decides them besides the experiment, and fingerprints of parameters."""

import hashlib
from typing import Any

import jax
import numpy as np

from simulator.host.versions import versions


def made_with(trainer: str, data_hash: str | None, lanes: int | None) -> dict[str, Any]:
    """Returns the provenance for summaries and checkpoints: bits depend on devices too, and on a program's lanes."""
    return {
        "versions": versions(),
        "backend": jax.default_backend(),
        "devices": f"{jax.local_device_count()} x {jax.local_devices()[0].device_kind}",
        "lanes": lanes,
        "trainer": trainer,
        "data_hash": data_hash,
    }


def parameters_hash(params: Any) -> str:
    """Returns a fingerprint of parameters: equal hashes, equal bits."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
