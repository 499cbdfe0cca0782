"""The authors' toy classification data: Gaussian clusters around random unit-norm centers."""

import hashlib

import numpy as np

from simulator.data.dataset import ClassificationDataset
from simulator.experiment.schema.data import ClustersData
from simulator.host.errors import SettingError
from simulator.host.random_streams import data_stream

_BLOCK = 2**13  # points moved to their centers at a time


def load_clusters(data: ClustersData, *, shards: int) -> ClassificationDataset:
    """Returns points x = center + noise * N(0, I), as many of every cluster (but for one) in a random order.

    The centers are random unit vectors, the first `clusters_per_class` of them those of class 0, and so on. Shards are
    consecutive rows, which are independent draws. Evaluation is on a random choice of the shards' own points, as the
    authors do. Nothing depends on the experiment's seed.
    """
    size = data.points // shards
    if size == 0:
        raise SettingError(
            "data.shards", shards, f"there are only {data.points} points: use fewer shards, or more data.points"
        )
    if data.evaluation_points > size * shards:
        raise SettingError(
            "data.evaluation_points",
            data.evaluation_points,
            f"only the {size * shards} training points in {shards} equal shards can be evaluated on: "
            "use at most so many, or more data.points",
        )
    centers = data_stream("cluster centers").standard_normal((data.classes * data.clusters_per_class, data.dimension))
    centers = (centers / np.linalg.norm(centers, axis=1, keepdims=True)).astype(np.float32)
    cluster = data_stream("clusters of points").permutation(np.arange(data.points) % len(centers))
    inputs = data_stream("cluster noise").standard_normal((data.points, data.dimension), np.float32)
    inputs *= np.float32(data.noise)
    for first in range(0, data.points, _BLOCK):
        inputs[first : first + _BLOCK] += centers[cluster[first : first + _BLOCK]]
    labels = (cluster // data.clusters_per_class).astype(np.int32)
    digest = hashlib.sha256(inputs.data)
    digest.update(labels.data)
    evaluated = data_stream("evaluated points").choice(size * shards, data.evaluation_points, replace=False)
    rows = np.arange(size * shards, dtype=np.int32).reshape(shards, size)
    return ClassificationDataset(
        arrays={"inputs": inputs, "labels": labels},
        vocabulary=data.classes,
        shard_examples=tuple(rows),
        validation=evaluated.astype(np.int32),
        content_hash=digest.hexdigest(),
        facts={
            "points": data.points,
            "points_per_shard": size,
            "unused_points": data.points - size * shards,
            "evaluation_points": data.evaluation_points,
        },
    )
