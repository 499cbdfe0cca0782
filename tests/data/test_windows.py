import numpy as np
import pytest

from simulator.data import DataError, TextDataset, windows
from simulator.data.windows import Remedies, cut_windows, token_dtype


def cut(lengths: list[int], validation: int, context: int) -> TextDataset:
    """Streams that count up, each from another hundred."""
    *shards, held_out = (100 * i + np.arange(n, dtype=np.int32) for i, n in enumerate([*lengths, validation]))
    return cut_windows(
        shards,
        held_out,
        context=context,
        vocabulary=1000,
        content_hash="hash",
        facts={"documents": 3},
        remedies=Remedies(training="more training text", validation="more held-out text", total="less text"),
    )


def test_windows_by_hand():
    dataset = cut([9, 7], 8, context=3)
    fetched = [dataset.fetch(dataset.arrays, examples) for examples in dataset.shard_examples]
    np.testing.assert_array_equal(fetched[0], [[0, 1, 2, 3], [3, 4, 5, 6]])
    np.testing.assert_array_equal(fetched[1], [[100, 101, 102, 103], [103, 104, 105, 106]])
    validation = dataset.fetch(dataset.arrays, np.sort(dataset.validation))
    np.testing.assert_array_equal(validation, [[200, 201, 202, 203], [203, 204, 205, 206]])
    assert dataset.facts == {
        "documents": 3,
        "training_tokens": 14,
        "validation_tokens": 7,
        "unused_tokens": 3,
        "windows_per_shard": 2,
        "validation_windows": 2,
    }
    assert len(dataset.arrays["tokens"]) == 21
    assert all(examples.dtype == np.int32 for examples in (*dataset.shard_examples, dataset.validation))


@pytest.mark.parametrize("length", [5, 8])
def test_a_stream_of_exactly_one_window_is_enough(length):
    dataset = cut([length], 5, context=4)
    assert [len(dataset.shard_examples[0]), len(dataset.validation)] == [1, 1]


def test_validation_windows_come_in_a_fixed_random_order():
    first, second = cut([50], 90, context=1), cut([50], 90, context=1)
    np.testing.assert_array_equal(first.validation, second.validation)
    assert first.validation.tolist() != sorted(first.validation.tolist())


def test_a_shard_without_a_window_is_an_error():
    with pytest.raises(DataError) as caught:
        cut([9, 4], 9, context=4)
    assert str(caught.value) == (
        "model.context = 4: a window takes 5 tokens, but the smallest of 2 shards has only 4: "
        "use a context of at most 3, or more training text"
    )


def test_a_validation_text_without_a_window_is_an_error():
    with pytest.raises(DataError) as caught:
        cut([9, 9], 3, context=4)
    assert str(caught.value) == (
        "model.context = 4: a window takes 5 tokens, but the validation text has only 3: "
        "use a context of at most 2, or more held-out text"
    )


def test_more_tokens_than_addresses_are_an_error(monkeypatch):
    monkeypatch.setattr(windows, "_MOST_TOKENS", 20)
    assert len(cut([9, 7], 5, context=3).arrays["tokens"]) == 18
    with pytest.raises(DataError, match=r"^data = '21 tokens': at most 20 can be addressed on the device: less text$"):
        cut([9, 7], 8, context=3)


def test_token_ids_fit_their_dtype():
    for vocabulary in (2, 256, 257, 2**16, 2**16 + 1):
        assert np.iinfo(token_dtype(vocabulary)).max >= vocabulary - 1
    assert [token_dtype(v) for v in (256, 257, 2**16, 2**16 + 1)] == [np.uint8, np.uint16, np.uint16, np.int32]
