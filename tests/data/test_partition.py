from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import COLOURS, json_lines, sentence, store_of, topics, write
from hypothesis import given
from hypothesis import strategies as st

from simulator.data import TextDataset, document_clusters, load_dataset, token_store
from simulator.data import text_dataset as text_module
from simulator.data.document_clusters import cluster_documents
from simulator.data.partition import Division, deal, divide, unigram_divergences
from simulator.data.store import TokenStore
from simulator.data.text_dataset import divergences
from simulator.data.token_streams import StoredStream
from simulator.experiment.schema.data import DocumentData, JsonLinesData, StdlibData, TextData, TfdsData
from simulator.host.errors import SettingError

FOLDERS = {"kind": "folder"}
GROUPED = {"kind": "grouped", "groups": FOLDERS}


def dirichlet(alpha: float, groups: dict[str, Any] = FOLDERS) -> dict[str, Any]:
    return {"kind": "dirichlet", "alpha": alpha, "groups": groups}


def data(partition: dict[str, Any], files: str = "*.txt", **settings: Any) -> TextData:
    return TextData(source="text", files=(files,), partition=partition, **settings)


def divided(store: TokenStore, partition: dict[str, Any], shards: int, least: int = 1, **settings: Any) -> Division:
    return divide(store, data(partition, **settings), shards, least)


def of_group(store: TokenStore, documents: np.ndarray) -> list[int]:
    """How many of the documents are in each of all groups."""
    return np.bincount(store.groups[documents], minlength=int(store.groups.max()) + 1).tolist()


def words_of(store: TokenStore, documents: np.ndarray) -> set[str]:
    return {word for index in documents for word in bytes(store.document(index)[:-1].tolist()).decode().split()}


def assert_same(one: Division, other: Division) -> None:
    for each, its in zip((*one.training, one.validation), (*other.training, other.validation), strict=True):
        np.testing.assert_array_equal(each, its)


def assert_everything_once(division: Division, documents: int) -> None:
    assert sorted(np.concatenate([*division.training, division.validation])) == list(range(documents))


EVERY_KIND = [
    {"kind": "iid"},
    {"kind": "iid", "sizes": [1, 2, 5]},
    GROUPED,
    dirichlet(0.5),
]


@pytest.mark.parametrize("partition", EVERY_KIND)
def test_every_document_has_one_place_and_every_shard_some(partition):
    store = store_of([2, 9, 4, 30, 3] * 12, groups=[0, 1, 2, 3, 4, 5] * 10)
    division = divided(store, partition, shards=3)
    assert_everything_once(division, 60)
    assert len(division.validation) == 3
    assert min(map(len, division.training)) > 0


@pytest.mark.parametrize("partition", EVERY_KIND)
def test_a_division_is_always_the_same(partition):
    store = store_of([2, 9, 4, 30, 3] * 12, groups=[0, 1, 2, 3, 4, 5] * 10)
    np.random.seed(1)
    first = divided(store, partition, shards=3)
    np.random.seed(2)
    assert_same(divided(store, partition, shards=3), first)


def test_what_is_held_out_does_not_depend_on_the_partition():
    store = store_of([2, 9, 4, 30, 3] * 12, groups=[0, 1, 2, 3, 4, 5] * 10)
    held_out = [divided(store, partition, shards=3).validation for partition in EVERY_KIND]
    for other in held_out[1:]:
        np.testing.assert_array_equal(other, held_out[0])


# Alike.


@given(
    st.lists(st.integers(1, 100), min_size=4, max_size=40),
    st.lists(st.floats(0.1, 10), min_size=1, max_size=4),
)
def test_nobody_is_dealt_more_while_another_lacks_more(lengths, weights):
    hands = deal(np.array(lengths), np.array(weights))
    assert sorted(np.concatenate(hands)) == list(range(len(lengths)))
    sizes = [np.array(lengths)[hand] for hand in hands]
    shares = np.array(weights) / sum(weights) * sum(lengths)
    for own, share in zip(sizes, shares, strict=True):
        if len(own):
            before_the_last = own.sum() - own.min() - share  # the shortest came last
            assert all(before_the_last <= other.sum() - its + 1e-9 for other, its in zip(sizes, shares, strict=True))


def test_a_few_long_documents_do_not_fill_the_small_shards():
    lengths = np.array([900] * 4 + [30] * 240)
    sizes = [lengths[hand].sum() / lengths.sum() for hand in deal(lengths, np.array([1.0, 1, 1, 7]))]
    np.testing.assert_allclose(sizes, [0.1, 0.1, 0.1, 0.7], atol=0.003)


def test_shards_are_of_the_sizes_that_are_asked_for():
    store = store_of(np.random.default_rng(0).integers(1, 60, 500).tolist())
    division = divided(store, {"kind": "iid", "sizes": [1, 2, 5]}, shards=3)
    sizes = [store.lengths[documents].sum() for documents in division.training]
    np.testing.assert_allclose(np.array(sizes) / sum(sizes), [1 / 8, 2 / 8, 5 / 8], atol=0.002)


def test_shards_that_are_alike_share_all_that_is_held_out():
    division = divided(store_of([3] * 40), {"kind": "iid"}, shards=2, validation_fraction=0.25)
    assert [own.tolist() for own in division.shard_validation] == [division.validation.tolist()] * 2
    assert len(division.validation) == 10


# By groups.


def test_every_folder_goes_to_one_shard_the_largest_first(tmp_path: Path):
    store = token_store(data(GROUPED, f"{topics(tmp_path)}/*/*.txt"))
    division = divided(store, GROUPED, shards=3)
    found = [words_of(store, documents) for documents in division.training]
    # The folder of twice the size alone, so that of the longer words; both that are left to who has nothing, or least.
    assert found == [set(COLOURS[0].split()), set(COLOURS[1].split()), set(f"{COLOURS[2]} {COLOURS[3]}".split())]


def test_what_is_held_out_of_a_group_belongs_to_the_shard_of_the_group(tmp_path: Path):
    store = token_store(data(GROUPED, f"{topics(tmp_path)}/*/*.txt"))
    division = divided(store, GROUPED, shards=4, validation_fraction=0.3)
    for training, validation in zip(division.training, division.shard_validation, strict=True):
        assert words_of(store, validation) == words_of(store, training)
    assert sorted(np.concatenate(division.shard_validation)) == sorted(division.validation)


def test_a_group_that_is_held_out_as_a_whole_has_a_shard_too():
    lone = divided(store_of([3] * 8), GROUPED, shards=1).validation[0]
    groups = [0, 1] * 4
    groups[lone] = 2
    division = divided(store_of([3] * 8, groups), GROUPED, shards=2)
    assert division.validation.tolist() == [lone]
    assert sorted(np.concatenate(division.shard_validation)) == [lone]


def test_documents_are_grouped_by_the_value_of_a_field(tmp_path: Path):
    records = [{"text": sentence(COLOURS[number % 3], number), "kind": number % 3} for number in range(60)]
    files = (str(json_lines(tmp_path / "a.jsonl", records)),)
    partition = {"kind": "grouped", "groups": {"kind": "field", "field": "kind"}}
    by_field = JsonLinesData(source="jsonl", files=files, partition=partition)
    store = token_store(by_field)
    division = divide(store, by_field, 3, 1)
    found = {frozenset(words_of(store, documents)) for documents in division.training}
    assert found == {frozenset(words.split()) for words in COLOURS[:3]}


def test_fewer_groups_than_shards_are_an_error():
    with pytest.raises(SettingError) as caught:
        divided(store_of([3] * 40, groups=[0, 1] * 20), GROUPED, shards=4)
    assert str(caught.value) == (
        "data.shards = 4: every shard needs a group of its own, but there are only 2: use at most as many shards, "
        "other groups, or partition kind dirichlet"
    )


def by(kind: str, **more: str) -> dict[str, Any]:
    return {"kind": "grouped", "groups": {"kind": kind, **more}}


FILES = ("nowhere/*.txt",)
UNGROUPED: list[tuple[DocumentData, str]] = [
    (
        TextData(source="text", files=FILES, partition=by("field", field="topic")),
        "data.partition.groups.kind = 'field': source text has no fields: group by folder or by clusters",
    ),
    (
        StdlibData(source="python-stdlib", partition=by("field", field="topic")),
        "data.partition.groups.kind = 'field': source python-stdlib has no fields: group by folder or by clusters",
    ),
    (
        TfdsData(source="tfds", name="c4", partition=dirichlet(1.0)),
        "data.partition.groups.kind = 'folder': source tfds has no folders: group by a field or by clusters",
    ),
]


@pytest.mark.parametrize(("grouped", "message"), UNGROUPED)
def test_a_source_without_such_groups_is_refused_before_it_is_read(grouped, message):
    with pytest.raises(SettingError) as caught:
        load_dataset(grouped, shards=2, context=8)
    assert str(caught.value) == message


def test_a_field_that_only_some_documents_have_is_an_error(tmp_path: Path):
    files = (str(json_lines(tmp_path / "a.jsonl", [{"text": "one", "topic": "x"}, {"text": "two"}])),)
    grouped = JsonLinesData(source="jsonl", files=files, partition=by("field", field="topic"))
    with pytest.raises(
        SettingError, match=r"^data\.partition\.groups\.field = 'topic': .*a\.jsonl, line 2 has no such"
    ):
        load_dataset(grouped, shards=1, context=1)


# In between.


def test_a_large_alpha_divides_every_group_evenly():
    store = store_of([5] * 800, groups=[0, 1, 2, 3] * 200)
    for documents in divided(store, dirichlet(1e7), shards=4).training:
        np.testing.assert_allclose(of_group(store, documents), 190 / 4, atol=4)


def test_a_small_alpha_leaves_a_group_whole():
    store = store_of([5] * 800, groups=[0, 1, 2, 3] * 200)
    division = divided(store, dirichlet(1e-4), shards=3)
    held = np.array([of_group(store, documents) for documents in division.training])
    assert (held > 0).sum(axis=0).tolist() == [1, 1, 1, 1]
    for training, validation in zip(division.training, division.shard_validation, strict=True):
        assert {*store.groups[validation]} <= {*store.groups[training]}


def test_the_shares_of_a_group_are_counted_in_tokens():
    store = store_of([1, 1, 1, 1, 1, 1, 500, 1, 1, 1] * 40)
    division = divided(store, dirichlet(1e7), shards=2)
    sizes = [int(store.lengths[documents].sum()) for documents in division.training]
    assert abs(sizes[0] - sizes[1]) <= 500


@given(st.data())
def test_every_document_is_in_one_shard_or_held_out_whatever_alpha(data):
    documents = data.draw(st.integers(12, 60))
    each = st.tuples(st.integers(1, 50), st.integers(0, 9))
    lengths, groups = zip(*data.draw(st.lists(each, min_size=documents, max_size=documents)), strict=True)
    store = store_of(lengths, groups)
    division = divided(store, dirichlet(data.draw(st.sampled_from([0.3, 1.0, 50.0, 1e9]))), shards=2, least=3)
    assert_everything_once(division, documents)
    assert min(int(store.lengths[own].sum()) for own in division.training) >= 3
    assert sorted(np.concatenate(division.shard_validation)) == sorted(division.validation)


def test_an_alpha_too_small_for_the_text_is_an_error():
    with pytest.raises(SettingError) as caught:
        divided(store_of([5] * 40, groups=[0, 1] * 20), dirichlet(1e-6), shards=3)
    assert str(caught.value) == (
        "data.partition.alpha = 1e-06: 1000 draws of the proportions all left a shard with next to nothing: use a "
        "larger alpha, fewer data.shards, more groups, or more text"
    )


def test_proportions_are_drawn_until_every_shard_has_enough():
    store = store_of([5] * 210, groups=[0, 1, 2] * 70)
    first = [5 * len(documents) for documents in divided(store, dirichlet(0.1), shards=2).training]
    again = [5 * len(documents) for documents in divided(store, dirichlet(0.1), shards=2, least=420).training]
    assert min(first) < 420 <= min(again)


# By clusters.


def labels_of(folder: Path, clusters: int, **settings: Any) -> tuple[TokenStore, np.ndarray]:
    text = data({"kind": "iid"}, f"{folder}/**/*.txt", **settings)
    store = token_store(text)
    return store, cluster_documents(store, text, clusters)


@pytest.mark.parametrize("tokenizer", ["bytes", {"kind": "bpe", "vocabulary": 300}])
def test_documents_of_other_words_are_in_other_clusters(tmp_path: Path, tokenizer):
    store, labels = labels_of(topics(tmp_path, 5), 4, tokenizer=tokenizer)
    assert (labels.dtype, labels.shape) == (np.int32, (25,))
    of_folders = {(int(group), int(label)) for group, label in zip(store.groups, labels, strict=True)}
    assert len(of_folders) == len({label for _, label in of_folders}) == 4


def test_clusters_are_found_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path):
    store, first = labels_of(topics(tmp_path, 3), 3)
    [kept] = (cache / "clusters").glob(f"{store.folder.name}-*")
    monkeypatch.setattr(document_clusters, "_clustered", None)
    np.testing.assert_array_equal(labels_of(tmp_path, 3)[1], first)
    monkeypatch.undo()
    good = kept.read_bytes()
    for damaged in (b"", good[:-1], bytes([good[0] ^ 1]) + good[1:], good[:-1] + bytes([good[-1] ^ 1])):
        kept.write_bytes(damaged)
        np.testing.assert_array_equal(labels_of(tmp_path, 3)[1], first)
    assert labels_of(tmp_path, 2)[1].max() == 1


def test_clusters_are_found_on_a_sample_and_the_rest_assigned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(document_clusters, "_FITTED", 9)
    store, labels = labels_of(topics(tmp_path, 5), 4)
    assert len({*zip(store.groups.tolist(), labels.tolist(), strict=True)}) == 4


def test_progress_is_told_in_documents(tmp_path: Path):
    text = data({"kind": "iid"}, f"{topics(tmp_path, 2)}/*/*.txt")
    told: list[Any] = []
    cluster_documents(token_store(text), text, 2, lambda *step: told.append(step))
    assert told == [("clustering documents", 0, 10, "documents"), ("clustering documents", 10, 10, "documents")]


@pytest.mark.parametrize("texts", [["the same words"] * 6, ["! ?", ". .", "+ -", "; :", "( )", "= ="]])
def test_documents_that_are_all_alike_are_one_cluster(tmp_path: Path, texts: list[str]):
    write(tmp_path, {f"{number}.txt": text for number, text in enumerate(texts)})
    _, labels = labels_of(tmp_path, 3)
    assert labels.tolist() == [0] * 6
    with pytest.raises(SettingError, match=r"^data\.shards = 2: every shard needs a group of its own, .* only 1: use"):
        load_dataset(data(by("clusters"), f"{tmp_path}/*.txt"), shards=2, context=1)


def test_more_clusters_than_documents_are_an_error(tmp_path: Path):
    text = data(by("clusters", clusters=30), f"{topics(tmp_path, 2)}/*/*.txt")
    with pytest.raises(SettingError) as caught:
        load_dataset(text, shards=2, context=1)
    assert str(caught.value) == (
        "data.partition.groups.clusters = 30: there are only 10 documents: use fewer, or more text"
    )


def test_there_are_as_many_clusters_as_shards_where_their_number_is_absent(tmp_path: Path):
    text = data(by("clusters"), f"{topics(tmp_path)}/*/*.txt")
    store = token_store(text)
    found = [words_of(store, documents) for documents in divide(store, text, 4, 1).training]
    assert sorted(map(sorted, found)) == sorted(sorted(words.split()) for words in COLOURS)


# How unlike shards are.


@pytest.mark.parametrize(
    ("counts", "bits", "mean"),
    [
        ([[3, 3, 0, 0], [0, 0, 1, 5]], [1.0, 1.0], 1.0),
        ([[4, 2], [4, 2]], [0.0, 0.0], 0.0),
        ([[4, 2, 0], [2, 1, 0], [8, 4, 0]], [0.0, 0.0, 0.0], 0.0),
        # Nothing in common, sizes 1 : 3: log2(4), log2(4/3), and the entropy of the sizes.
        ([[2, 0], [0, 6]], [2.0, 0.41504], 0.81128),
        # p = (3/4, 1/4): 1/2 log2(2/3) + 1/2 log2(2), and log2(4/3).
        ([[1, 1], [2, 0]], [0.20752, 0.41504], 0.31128),
    ],
)
def test_divergences_by_hand(counts, bits, mean):
    found, together = unigram_divergences([np.array(shard) for shard in counts])
    assert found == pytest.approx(bits, abs=1e-5)
    assert together == pytest.approx(mean, abs=1e-5)
    assert min(found) >= 0


def test_groups_are_less_alike_than_mixtures_and_those_than_chance(tmp_path: Path):
    topics(tmp_path)
    bits = []
    for partition in (GROUPED, dirichlet(1.0), {"kind": "iid"}):
        dataset = load_dataset(data(partition, f"{tmp_path}/*/*.txt"), shards=4, context=16)
        assert isinstance(dataset, TextDataset)
        bits.append(dataset.facts["shard_divergence_bits"])
    assert bits[0] > 0.5
    assert 0.5 * bits[0] > bits[1] > 5 * bits[2]
    assert 0 < bits[2] < 0.02


def test_windows_of_shards_and_of_their_validation_are_of_their_groups(tmp_path: Path):
    partition = {"kind": "dirichlet", "alpha": 1e-3, "groups": FOLDERS}
    text = data(partition, f"{topics(tmp_path)}/*/*.txt", validation_fraction=0.3)
    dataset = load_dataset(text, shards=2, context=16)
    letters = []
    for examples in (*dataset.shard_examples, *dataset.shard_validation):
        letters.append(frozenset(dataset.fetch(dataset.arrays, examples).ravel().tolist()))
    assert letters[:2] == letters[2:]
    assert letters[0] != letters[1]


def test_divergences_of_long_shards_are_weighted_with_whole_lengths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = token_store(data({"kind": "iid"}, f"{topics(tmp_path, 3)}/*/*.txt"))
    streams = [StoredStream(store, documents) for documents in (np.arange(12), np.arange(12, 15))]
    monkeypatch.setattr(text_module, "_COUNTED", 20)
    own = [np.bincount(stream[:20], minlength=257) * (len(stream) / 20) for stream in streams]
    assert len(streams[0]) > 2 * len(streams[1]) > 40
    assert divergences(store, streams) == unigram_divergences(own)
    unweighted = unigram_divergences([np.bincount(stream[:20], minlength=257) for stream in streams])
    assert divergences(store, streams)[1] != pytest.approx(unweighted[1], rel=1e-3)
