from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import store_of
from hypothesis import assume, given
from hypothesis import strategies as st

from simulator.data import TextDataset, load_dataset, text_dataset, windows
from simulator.data.token_streams import StoredStream
from simulator.data.tokenizers import token_dtype
from simulator.data.windows import Text, cut_windows
from simulator.experiment.schema.data import TextData
from simulator.host.errors import SettingError


def cut(lengths: list[int], validation: int, context: int, **limit: Any) -> TextDataset:
    """Streams that count up, each from another hundred."""
    *shards, held_out = (100 * i + np.arange(n, dtype=np.int32) for i, n in enumerate([*lengths, validation]))
    remedies = {
        "longer_training": "more training text",
        "longer_validation": "more held-out text",
        "shorter": "less text",
    }
    text = Text(shards, held_out, vocabulary=1000, content_hash="hash", facts={"documents": 3}, **remedies)
    return cut_windows(text, context=context, **limit)


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
    with pytest.raises(SettingError) as caught:
        cut([9, 4], 9, context=4)
    assert str(caught.value) == (
        "model.context = 4: a window takes 5 tokens, but the smallest of 2 shards has only 4: "
        "use a context of at most 3, or more training text"
    )


def test_a_validation_text_without_a_window_is_an_error():
    with pytest.raises(SettingError) as caught:
        cut([9, 9], 3, context=4)
    assert str(caught.value) == (
        "model.context = 4: a window takes 5 tokens, but the validation text has only 3: "
        "use a context of at most 2, or more held-out text"
    )


def test_more_tokens_than_addresses_are_an_error(monkeypatch):
    monkeypatch.setattr(windows, "MOST_ADDRESSES", 20)
    assert len(cut([9, 7], 5, context=3).arrays["tokens"]) == 18
    with pytest.raises(SettingError, match=r"^data = '21 tokens': at most 20 can be addressed: less text$"):
        cut([9, 7], 8, context=3)


def test_token_ids_fit_their_dtype():
    for vocabulary in (2, 256, 257, 2**16, 2**16 + 1):
        assert np.iinfo(token_dtype(vocabulary)).max >= vocabulary - 1
    assert [token_dtype(v) for v in (256, 257, 2**16, 2**16 + 1)] == [np.uint8, np.uint16, np.uint16, np.int32]


STREAMS = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=6)


def stored(lengths: list[list[int]], shards: int, *, context: int, resident_bytes: float) -> TextDataset:
    """A store's documents in streams of the given lengths: shards, validation, and the shards' own validation."""
    store = store_of([length for stream in lengths for length in stream])
    ends = np.cumsum([len(stream) for stream in lengths])
    documents = [np.arange(end - len(stream), end) for end, stream in zip(ends, lengths, strict=True)]
    streams = [StoredStream(store, each) for each in documents]
    text = Text(
        streams[:shards],
        streams[shards],
        shard_validation=streams[shards + 1 :],
        uneven=True,
        vocabulary=2**16,
        content_hash="hash",
        facts={},
        longer_training="",
        longer_validation="",
        shorter="",
    )
    return cut_windows(text, context=context, resident_bytes=resident_bytes)


def examples_of(dataset: TextDataset) -> list[np.ndarray]:
    return [*dataset.shard_examples, dataset.validation, *dataset.shard_validation]


def windows_of(dataset: TextDataset, examples: np.ndarray) -> list[list[int]]:
    return dataset.fetch(dataset.arrays, dataset.gather(examples)).tolist()


@given(STREAMS, STREAMS, st.data())
def test_host_and_device_give_the_same_windows(shards, others, data):
    shortest = min(sum(stream) for stream in (*shards, others[0]))
    assume(shortest > 1)
    context = data.draw(st.integers(1, shortest - 1))
    device, host = (
        stored([*shards, *others], len(shards), context=context, resident_bytes=limit) for limit in (np.inf, 0)
    )
    assert (list(host.arrays), list(device.arrays)) == ([], ["tokens"])
    assert host.shard_sizes == device.shard_sizes == tuple((sum(stream) - 1) // context for stream in shards)
    assert host.facts == device.facts
    streams = zip([*shards, *others], examples_of(device), examples_of(host), strict=True)
    first = 0
    for lengths, on_device, on_host in streams:
        assert windows_of(host, on_host) == windows_of(device, on_device)
        count = (sum(lengths) - 1) // context
        by_hand = [[first + context * window + i for i in range(context + 1)] for window in range(count)]
        assert sorted(windows_of(host, on_host)) == by_hand
        first += sum(lengths)


def test_windows_on_the_host_are_gathered_for_any_number_of_axes():
    dataset = stored([[7, 2, 8], [9]], 1, context=3, resident_bytes=0)
    assert dataset.shard_sizes == (5,)
    rows = dataset.gather(np.array([[[4, 0]], [[2, 4]]], np.int32))
    assert (rows.shape, rows.dtype) == ((2, 1, 2, 4), np.uint16)
    expected = [[[[12, 13, 14, 15], [0, 1, 2, 3]]], [[[6, 7, 8, 9], [12, 13, 14, 15]]]]
    assert rows.tolist() == expected
    inputs = dataset.fetch(dataset.arrays, rows[0, 0])
    assert (inputs.tolist(), inputs.dtype) == (expected[0][0], np.int32)


def test_a_shard_without_validation_of_its_own_moves_nobodys_windows():
    for limit in (np.inf, 0):
        dataset = stored([[5], [5], [9], [], [1], [9]], 2, context=4, resident_bytes=limit)
        assert [len(examples) for examples in dataset.shard_validation] == [0, 0, 2]
        assert windows_of(dataset, dataset.shard_validation[2]) == [[20, 21, 22, 23, 24], [24, 25, 26, 27, 28]]


def test_uneven_shards_have_as_many_windows_as_they_can():
    dataset = stored([[9], [30], [9]], 2, context=4, resident_bytes=np.inf)
    assert dataset.shard_sizes == (2, 7)
    assert dataset.facts == {
        "training_tokens": 38,
        "validation_tokens": 9,
        "unused_tokens": 1,
        "windows_of_smallest_shard": 2,
        "validation_windows": 2,
    }


def test_text_stays_on_the_host_if_it_takes_more_than_the_limit():
    streams = [[9], [13], [5]]  # of 27 tokens of two bytes
    assert list(stored(streams, 2, context=4, resident_bytes=54).arrays) == ["tokens"]
    assert list(stored(streams, 2, context=4, resident_bytes=53).arrays) == []
    with pytest.raises(TypeError, match="only the streams of a store can stay on the host"):
        cut([9, 13], 5, context=4, resident_bytes=53)


def corpus_of(folder: Path, feed: str, resident_bytes: float) -> TextDataset:
    (folder / "a.txt").write_text("\n".join(f"line {number}" for number in range(60)))
    data = TextData(source="text", files=(f"{folder}/a.txt",), documents="line", feed=feed)
    dataset = load_dataset(data, shards=2, context=8, resident_bytes=resident_bytes)
    assert isinstance(dataset, TextDataset)
    return dataset


@pytest.mark.parametrize(
    ("feed", "resident_bytes", "resident"),
    [("auto", 10_000, True), ("auto", 100, False), ("device", 100, True), ("host", 10_000, False)],
)
def test_auto_goes_by_the_size_and_the_others_do_not(tmp_path: Path, feed: str, resident_bytes: float, resident: bool):
    dataset = corpus_of(tmp_path, feed, resident_bytes)
    assert (dataset.on_host is None, "tokens" in dataset.arrays) == (resident, resident)


def test_more_tokens_than_addresses_stay_on_the_host_unless_they_must_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for module in (windows, text_dataset):
        monkeypatch.setattr(module, "MOST_ADDRESSES", 300)
    assert corpus_of(tmp_path, "auto", np.inf).on_host is not None
    with pytest.raises(
        SettingError, match=r"^data = '\d+ tokens': at most 300 can be addressed: use data\.feed: host$"
    ):
        corpus_of(tmp_path, "device", np.inf)
