import hashlib
from pathlib import Path

import numpy as np
import pytest

from simulator.data import TextDataset, load_dataset
from simulator.data.partition import deal
from simulator.data.sources import TextDocument
from simulator.data.tokenizers import Bytes
from simulator.experiment.schema.data import StdlibData, TextData
from simulator.host.errors import SettingError

END_OF_DOCUMENT = Bytes.end_of_document

CONTEXT = 5


def corpus(folder: Path, documents: int = 40) -> list[bytes]:
    """Writes documents of different lengths, no two alike in any 10 bytes, one of them not valid UTF-8."""
    rng = np.random.default_rng(5)
    contents = [f"{i:03d}:".encode() + rng.bytes(int(rng.integers(30, 90))) + b"." for i in range(documents)]
    for i, content in enumerate(contents):
        (folder / f"{i:03d}.txt").write_bytes(content)
    return contents


def load(
    folder: Path, *, shards: int = 3, configured: int | None = None, context: int = CONTEXT, **settings: object
) -> TextDataset:
    data = TextData(source="text", files=(f"{folder}/*.txt",), shards=configured, **settings)
    dataset = load_dataset(data, shards=shards, context=context)
    assert isinstance(dataset, TextDataset)
    return dataset


def stream(dataset: TextDataset, examples: np.ndarray) -> list[int]:
    """The text that consecutive windows were cut from."""
    windows = dataset.fetch(dataset.arrays, np.sort(examples))
    np.testing.assert_array_equal(windows[1:, 0], windows[:-1, -1])
    return [*windows[:, :-1].ravel().tolist(), int(windows[-1, -1])]


def documents_of(tokens: list[int]) -> list[bytes]:
    """The documents in a stream; the last may be cut short."""
    documents, current = [], bytearray()
    for token in tokens:
        if token == END_OF_DOCUMENT:
            documents.append(bytes(current))
            current = bytearray()
        else:
            current.append(token)
    return [*documents, bytes(current)]


def test_windows_hold_the_bytes_of_the_files(tmp_path):
    contents = corpus(tmp_path)
    dataset = load(tmp_path)
    found = []
    for examples in (*dataset.shard_examples, dataset.validation):
        *whole, last = documents_of(stream(dataset, examples))
        assert set(whole) <= set(contents)
        assert any(content.startswith(last) for content in contents)
        found += whole
    assert len(found) == len(set(found)) >= len(contents) - 8
    assert dataset.vocabulary == END_OF_DOCUMENT + 1
    assert dataset.arrays["tokens"].dtype == np.uint16


def test_no_position_is_in_a_training_and_a_validation_window(tmp_path):
    corpus(tmp_path)
    dataset = load(tmp_path)
    covered = [
        {int(start) + offset for start in examples for offset in range(CONTEXT + 1)}
        for examples in (*dataset.shard_examples, dataset.validation)
    ]
    assert sum(map(len, covered)) == len(set().union(*covered)) == len(dataset.arrays["tokens"])


def test_shards_are_equal_and_nearly_all_text_is_used(tmp_path):
    contents = corpus(tmp_path)
    dataset = load(tmp_path, shards=4)
    assert {len(examples) for examples in dataset.shard_examples} == {dataset.facts["windows_per_shard"]}
    total = sum(len(content) + 1 for content in contents)
    used = dataset.facts["training_tokens"] + dataset.facts["validation_tokens"]
    assert used + dataset.facts["unused_tokens"] == total
    assert used > 0.95 * total
    assert dataset.facts["documents"] == 40
    assert dataset.facts["bytes"] == total - 40


def test_the_same_files_give_the_same_data(tmp_path):
    corpus(tmp_path)
    first, second = load(tmp_path), load(tmp_path)
    np.testing.assert_array_equal(first.arrays["tokens"], second.arrays["tokens"])
    for one, other in zip(
        (*first.shard_examples, first.validation), (*second.shard_examples, second.validation), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert (first.content_hash, first.facts) == (second.content_hash, second.facts)


def test_the_validation_text_depends_on_neither_shards_nor_numpys_global_seed(tmp_path):
    corpus(tmp_path)
    np.random.seed(1)
    first = load(tmp_path, shards=2)
    np.random.seed(2)
    second = load(tmp_path, shards=5)
    assert stream(first, first.validation) == stream(second, second.validation)
    assert first.content_hash == second.content_hash


def test_the_held_out_fraction_of_the_documents(tmp_path):
    corpus(tmp_path)
    for fraction, held_out in ((0.05, 2), (0.25, 10), (0.001, 1)):
        facts = load(tmp_path, validation_fraction=fraction).facts
        assert (facts["validation_documents"], facts["training_documents"]) == (held_out, 40 - held_out)


def test_the_hash_is_of_the_documents_in_their_order(tmp_path):
    contents = corpus(tmp_path)
    by_hand = hashlib.sha256(b"".join(len(content).to_bytes(8, "little") + content for content in contents))
    first = load(tmp_path).content_hash
    assert first == by_hand.hexdigest()
    (tmp_path / "007.txt").write_bytes(contents[7][:-1] + b"!")
    changed = load(tmp_path).content_hash
    assert changed != first
    (tmp_path / "007.txt").write_bytes(contents[7] + contents[8][:1])
    (tmp_path / "008.txt").write_bytes(contents[8][1:])
    moved = load(tmp_path).content_hash
    assert len({first, changed, moved}) == 3


def test_tokens_by_hand():
    encoded = Bytes().encode([TextDocument(text, "", "") for text in (b"ab", b"\xff", b"c")])
    np.testing.assert_array_equal(encoded.tokens, [97, 98, 256, 255, 256, 99, 256])
    np.testing.assert_array_equal(encoded.lengths, [3, 2, 2])


def test_the_deal_by_hand():
    # The 10 opens shard 0, both 6s go to shard 1, the 4 to shard 0.
    hands = deal(np.array([4, 10, 6, 6]), np.ones(2))
    assert [hand.tolist() for hand in hands] == [[0, 1], [2, 3]]
    # Of 26, shard 1 is to have 19.5: it lacks most until it has 10 and 6, then shard 0 lacks 6.5, then shard 1 again.
    hands = deal(np.array([4, 10, 6, 6]), np.array([1.0, 3.0]))
    assert [hand.tolist() for hand in hands] == [[3], [0, 1, 2]]


def test_more_shards_than_documents_is_an_error(tmp_path):
    corpus(tmp_path, documents=4)
    with pytest.raises(SettingError) as caught:
        load(tmp_path, shards=9)
    assert str(caught.value) == (
        "data.shards = 9: every shard needs a document of its own (data.shards is absent: one for each worker), but "
        "only 3 of 4 are left for training (1 held out for validation): use at most 3 shards, or data.documents: "
        "paragraph, which makes more documents of the same text, or more files"
    )
    with pytest.raises(SettingError, match=r"data\.documents: line, which"):
        load(tmp_path, shards=900, documents="paragraph")
    corpus(tmp_path)
    with pytest.raises(
        SettingError, match=r"own, but only 20 of 40 .* a smaller data\.validation_fraction \(now 0\.5\)"
    ):
        load(tmp_path, shards=21, validation_fraction=0.5, configured=21)


def test_a_single_document_leaves_nothing_to_train_on(tmp_path):
    corpus(tmp_path, documents=1)
    with pytest.raises(
        SettingError, match=r"only 0 of 1 are left for training \(1 held out .*\): use data\.documents: para"
    ):
        load(tmp_path, shards=1)


def test_a_context_longer_than_the_text_is_an_error(tmp_path):
    corpus(tmp_path)
    with pytest.raises(
        SettingError, match=r"model\.context = 5000: .* smallest of 3 shards .* or fewer data\.shards, or more"
    ):
        load(tmp_path, context=5000)
    with pytest.raises(
        SettingError,
        match=r"model\.context = 400: .* the validation text .* a larger data\.validation_fraction \(now 0\.05\)",
    ):
        load(tmp_path, context=400)


def test_the_standard_library_as_a_corpus():
    data = StdlibData(source="python-stdlib")
    dataset = load_dataset(data, shards=4, context=64)
    assert dataset.kind == "text"
    assert dataset.best_loss is None
    assert dataset.facts["training_documents"] > 300
    assert dataset.facts["python_version"].startswith("3.")
    assert dataset.facts["unused_tokens"] < 0.01 * dataset.facts["bytes"]
    assert dataset.arrays["tokens"].max() == END_OF_DOCUMENT
    with pytest.raises(SettingError, match=r"data\.shards = 100000: .* or source: text with more documents"):
        load_dataset(data, shards=100_000, context=64)
