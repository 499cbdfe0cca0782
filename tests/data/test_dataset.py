import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simulator.data import ClassificationDataset, Dataset, TextDataset


def text(context: int = 3, dtype: type = np.uint16) -> TextDataset:
    return TextDataset(
        arrays={"tokens": (np.arange(40) % 7).astype(dtype)},
        vocabulary=7,
        shard_examples=(np.array([0, 3, 6], np.int32), np.array([9, 12, 15], np.int32)),
        validation=np.array([30, 33], np.int32),
        content_hash="",
        facts={},
        context=context,
    )


def labelled() -> ClassificationDataset:
    return ClassificationDataset(
        arrays={"inputs": np.arange(24, dtype=np.float32).reshape(8, 3), "labels": np.arange(8, dtype=np.int32) % 2},
        vocabulary=2,
        shard_examples=(np.array([0, 1], np.int32), np.array([2, 3], np.int32)),
        validation=np.array([5], np.int32),
        content_hash="",
        facts={},
    )


def test_a_window_is_its_inputs_and_one_token_more():
    dataset = text()
    windows = dataset.fetch(dataset.arrays, np.array([0, 9], np.int32))
    np.testing.assert_array_equal(windows, [[0, 1, 2, 3], [2, 3, 4, 5]])
    assert windows.dtype == np.int32


def test_points_come_with_their_labels():
    dataset = labelled()
    inputs, labels = dataset.fetch(dataset.arrays, np.array([5, 2], np.int32))
    np.testing.assert_array_equal(inputs, [[15, 16, 17], [6, 7, 8]])
    np.testing.assert_array_equal(labels, [1, 0])


@pytest.mark.parametrize("dataset", [text(), text(dtype=np.uint8), text(dtype=np.int32), labelled()])
def test_numpy_jit_and_vmap_agree(dataset: Dataset):
    examples_LxB = np.stack(dataset.shard_examples)
    expected = [dataset.fetch(dataset.arrays, examples) for examples in examples_LxB]
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        arrays = jax.tree.map(jnp.asarray, dict(dataset.arrays))
        compiled = [jax.jit(dataset.fetch)(arrays, examples) for examples in examples_LxB]
        lanes = jax.jit(jax.vmap(dataset.fetch, in_axes=(None, 0)))(arrays, examples_LxB)
    for lane, (plain, jitted) in enumerate(zip(expected, compiled, strict=True)):
        mapped = jax.tree.map(lambda array, lane=lane: array[lane], lanes)
        for other in (jitted, mapped):
            jax.tree.map(np.testing.assert_array_equal, other, plain)
            assert jax.tree.map(lambda array: array.dtype, other) == jax.tree.map(lambda array: array.dtype, plain)


def test_arrays_and_addresses_are_read_only():
    dataset = text()
    for array in (dataset.arrays["tokens"], dataset.shard_examples[0], dataset.validation):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


@pytest.mark.parametrize(("sizes", "message"), [((2, 0), r"\[2, 0\]"), ((0, 0), r"\[0, 0\]"), ((), r"\[\]")])
def test_empty_shards_are_refused(sizes, message):
    with pytest.raises(ValueError, match=f"every shard must have at least one example; got sizes {message}"):
        ClassificationDataset(
            arrays={},
            vocabulary=2,
            shard_examples=tuple(np.zeros(size, np.int32) for size in sizes),
            validation=np.zeros(1, np.int32),
            content_hash="",
            facts={},
        )
