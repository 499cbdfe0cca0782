import numpy as np
import pytest

from simulator.data import ClassificationDataset, load_dataset
from simulator.experiment.schema.data import ClustersData
from simulator.host.errors import SettingError


def small(**settings: object) -> ClustersData:
    sizes = {"classes": 3, "clusters_per_class": 2, "dimension": 64, "points": 6003, "evaluation_points": 500}
    return ClustersData(**{"source": "gaussian-clusters", "noise": 0.05} | sizes | settings)


def load(data: ClustersData, shards: int = 4) -> ClassificationDataset:
    dataset = load_dataset(data, shards=shards, context=None)
    assert isinstance(dataset, ClassificationDataset)
    return dataset


def test_points_lie_around_unit_centers_of_one_class_each():
    dataset = load(small())
    inputs, labels = dataset.arrays["inputs"], dataset.arrays["labels"]
    assert (inputs.dtype, inputs.shape, labels.dtype, labels.shape) == (np.float32, (6003, 64), np.int32, (6003,))
    # With this little noise (0.05 * sqrt(64) = 0.4 from a center, about 1.4 between centers) a cluster is what is near.
    unassigned, centers = np.ones(len(inputs), bool), []
    while unassigned.any():
        near = np.linalg.norm(inputs - inputs[unassigned.argmax()], axis=1) < 1.0
        assert len(set(labels[near].tolist())) == 1
        noise = inputs[near] - inputs[near].mean(axis=0)
        assert noise.std() == pytest.approx(0.05, rel=0.02)
        assert near.sum() == pytest.approx(1000, abs=5 * np.sqrt(1000))
        centers.append((int(labels[near][0]), inputs[near].mean(axis=0)))
        unassigned &= ~near
    assert sorted(label for label, _ in centers) == [0, 0, 1, 1, 2, 2]
    np.testing.assert_allclose([np.linalg.norm(center) for _, center in centers], 1, atol=0.01)


def test_shards_are_equal_and_disjoint():
    dataset = load(small())
    rows = np.concatenate(dataset.shard_examples)
    assert [len(examples) for examples in dataset.shard_examples] == [1500] * 4
    assert len(set(rows.tolist())) == 6000
    assert dataset.facts == {"points": 6003, "points_per_shard": 1500, "unused_points": 3, "evaluation_points": 500}
    for examples in dataset.shard_examples:
        shares = np.bincount(dataset.arrays["labels"][examples]) / 1500
        np.testing.assert_allclose(shares, 1 / 3, atol=0.06)


def test_evaluation_is_on_training_points_of_all_shards():
    dataset = load(small())
    assert len(set(dataset.validation.tolist())) == 500
    for examples in dataset.shard_examples:
        assert np.isin(dataset.validation, examples).sum() == pytest.approx(125, abs=50)
    assert np.isin(dataset.validation, np.concatenate(dataset.shard_examples)).all()
    assert dataset.kind == "classification"
    assert dataset.vocabulary == 3
    assert dataset.best_loss is None


def test_the_same_settings_give_the_same_points():
    first, second, other = load(small()), load(small(), shards=2), load(small(noise=0.06))
    np.testing.assert_array_equal(first.arrays["inputs"], second.arrays["inputs"])
    assert first.content_hash == second.content_hash != other.content_hash


def test_too_few_points_are_errors():
    with pytest.raises(SettingError) as caught:
        load(small(points=3, evaluation_points=1))
    assert str(caught.value) == "data.shards = 4: there are only 3 points: use fewer shards, or more data.points"
    with pytest.raises(SettingError) as caught:
        load(small(points=403, evaluation_points=401))
    assert str(caught.value) == (
        "data.evaluation_points = 401: only the 400 training points in 4 equal shards can be evaluated on: "
        "use at most so many, or more data.points"
    )
