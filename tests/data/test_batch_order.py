import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.data import ClassificationDataset, DataOrder


def points(examples: int, shards: int = 2) -> ClassificationDataset:
    """Shards whose addresses are not 0 ... n - 1, so that positions and addresses cannot be confused."""
    rows = 3 * np.arange(shards * examples, dtype=np.int32).reshape(shards, examples) + 7
    return ClassificationDataset(
        arrays={"inputs": np.zeros((rows.max() + 1, 1), np.float32)},
        vocabulary=2,
        shard_examples=tuple(rows),
        validation=rows[0],
        content_hash="",
        facts={},
    )


sizes = st.integers(1, 40)
batch_sizes = st.integers(1, 12)
seeds = st.integers(0, 2**31 - 1)


@given(sizes, batch_sizes, seeds, st.integers(0, 1))
def test_every_epoch_visits_each_example_once(examples, batch_size, seed, shard):
    dataset = points(examples)
    steps = 3 * examples  # exactly 3 * batch_size epochs
    epochs = DataOrder(dataset, batch_size, seed).batches(shard, 0, steps).reshape(-1, examples)
    assert len(epochs) == 3 * batch_size
    expected = np.broadcast_to(dataset.shard_examples[shard], epochs.shape)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), expected)


@given(
    sizes,
    batch_sizes,
    seeds,
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 200), st.integers(0, 9)), min_size=1, max_size=6),
)
def test_what_was_asked_before_changes_nothing(examples, batch_size, seed, requests):
    dataset = points(examples)
    used = DataOrder(dataset, batch_size, seed)
    for shard, first_step, steps in requests:
        batches = used.batches(shard, first_step, steps)
        fresh = DataOrder(dataset, batch_size, seed)
        stacked = [fresh.batch(shard, step) for step in reversed(range(first_step, first_step + steps))][::-1]
        assert batches.shape == (steps, batch_size)
        assert batches.dtype == np.int32
        np.testing.assert_array_equal(batches, np.array(stacked, np.int32).reshape(steps, batch_size))


def test_changing_a_result_does_not_change_the_next():
    order = DataOrder(points(50), 5, 0)
    first = order.batch(0, 0)
    kept = first.copy()
    first[:] = -1
    np.testing.assert_array_equal(order.batch(0, 0), kept)


def test_seed_shard_and_epoch_each_give_another_order():
    dataset = points(50)

    def positions(seed: int, shard: int, epoch: int) -> tuple[int, ...]:
        return tuple((DataOrder(dataset, 50, seed).batch(shard, epoch) - dataset.shard_examples[shard][0]).tolist())

    keys = list(itertools.product((0, 1), (0, 1), (0, 1)))
    assert len({positions(*key) for key in keys}) == len(keys)


def test_a_batch_may_be_larger_than_a_shard():
    batch = DataOrder(points(3), 7, 0).batch(1, 0)
    _, counts = np.unique(batch, return_counts=True)
    assert sorted(counts) == [2, 2, 3]


def test_arguments_out_of_range_are_refused():
    dataset = points(4)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        DataOrder(dataset, 0, 0)
    with pytest.raises(ValueError, match="seed must not be negative, got -1"):
        DataOrder(dataset, 1, -1)
    order = DataOrder(dataset, 1, 0)
    for shard in (-1, 2):
        with pytest.raises(IndexError, match=f"shard {shard} of 2"):
            order.batch(shard, 0)
    with pytest.raises(IndexError, match="1 steps from step -1"):
        order.batch(0, -1)
