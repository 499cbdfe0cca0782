"""The `data` section of text: tokenizers, and how documents are divided."""

from pathlib import Path
from typing import Any

import pytest
from experiment_files import SMALL, experiment, messages, mistakes, tree

from simulator.experiment import load
from simulator.experiment.schema.data import (
    ByteTokenizer,
    ClusterGroups,
    DirichletPartition,
    FileTokenizer,
    FolderGroups,
    IidPartition,
    TextData,
    TrainedTokenizer,
)


def text(**settings: Any) -> dict[str, Any]:
    """The small experiment with two workers, on text."""
    return tree(data={"source": "text", "files": "a.txt"} | settings)


def section(**settings: Any) -> TextData:
    data = experiment(data={"source": "text", "files": "a.txt"} | settings).data
    assert isinstance(data, TextData)
    return data


def test_what_is_absent_is_the_simplest():
    data = section()
    assert data.files == ("a.txt",)
    assert data.tokenizer == ByteTokenizer(kind="bytes")
    assert data.partition == IidPartition(kind="iid", sizes=None)
    assert (data.documents, data.feed, data.shards, data.even) == ("file", "auto", None, True)


@pytest.mark.parametrize(
    ("written", "tokenizer"),
    [
        ("bytes", ByteTokenizer(kind="bytes")),
        ({"kind": "bytes"}, ByteTokenizer(kind="bytes")),
        ("bpe", TrainedTokenizer(kind="bpe")),
        ({"kind": "bpe", "vocabulary": 257}, TrainedTokenizer(kind="bpe", vocabulary=257)),
        ({"kind": "file", "path": "t.json"}, FileTokenizer(kind="file", path="t.json", end_of_document=None)),
    ],
)
def test_a_tokenizer_is_a_word_or_a_mapping(written: Any, tokenizer: Any):
    data = section(tokenizer=written)
    assert data.tokenizer == tokenizer
    assert TextData.model_validate(data.model_dump(mode="json")) == data


@pytest.mark.parametrize(
    ("partition", "even"),
    [
        ({"kind": "iid"}, True),
        ({"kind": "iid", "sizes": [1, 1]}, False),
        ({"kind": "grouped", "groups": {"kind": "folder"}}, False),
        ({"kind": "dirichlet", "alpha": 1}, False),
    ],
)
def test_shards_are_even_where_nothing_makes_them_uneven(partition: dict[str, Any], even: bool):
    assert section(partition=partition).even == even


def test_groups_are_clusters_where_they_are_absent():
    partition = section(partition={"kind": "dirichlet", "alpha": 0.5}).partition
    assert partition == DirichletPartition(kind="dirichlet", alpha=0.5, groups=ClusterGroups(kind="clusters"))
    partition = section(partition={"kind": "dirichlet", "alpha": 0.5, "groups": {"kind": "folder"}}).partition
    assert isinstance(partition, DirichletPartition)
    assert partition.groups == FolderGroups(kind="folder")


MISTAKES: dict[str, tuple[dict[str, Any], str, str]] = {
    "a misspelt word": ({"tokenizer": "byte"}, "data.tokenizer.kind", "unknown kind; did you mean 'bytes'?"),
    "a word that needs more": ({"tokenizer": "file"}, "data.tokenizer.path", "is missing; it has no default"),
    "a number for a tokenizer": ({"tokenizer": 3}, "data.tokenizer", "expected a mapping of keys to values"),
    "fewer ids than bytes": (
        {"tokenizer": {"kind": "bpe", "vocabulary": 256}},
        "data.tokenizer.vocabulary",
        "must be at least 257",
    ),
    "fewer sizes than workers": (
        {"partition": {"kind": "iid", "sizes": [1]}},
        "data.partition.sizes",
        "has 1 values for 2 shards, one for each worker: give one for each",
    ),
    "more sizes than shards": (
        {"partition": {"kind": "iid", "sizes": [1, 2, 3, 4]}, "shards": 3},
        "data.partition.sizes",
        "has 4 values for 3 shards: give one for each",
    ),
    "no sizes": (
        {"partition": {"kind": "iid", "sizes": []}},
        "data.partition.sizes",
        "has 0 values for 2 shards, one for each worker: give one for each",
    ),
    "an empty shard": ({"partition": {"kind": "iid", "sizes": [1, 0]}}, "data.partition.sizes.1", "must be above 0"),
    "a partition that is text": ({"partition": "iid"}, "data.partition", "expected a mapping of keys to values"),
    "no concentration": ({"partition": {"kind": "dirichlet"}}, "data.partition.alpha", "is missing; it has no default"),
    "an alpha of nothing": (
        {"partition": {"kind": "dirichlet", "alpha": 0}},
        "data.partition.alpha",
        "must be above 0",
    ),
    "an unknown way of grouping": (
        {"partition": {"kind": "grouped", "groups": {"kind": "folders"}}},
        "data.partition.groups.kind",
        "unknown kind; did you mean 'folder'?",
    ),
    "an unnamed field": (
        {"partition": {"kind": "grouped", "groups": {"kind": "field"}}},
        "data.partition.groups.field",
        "is missing; it has no default",
    ),
    "a key of another partition": (
        {"partition": {"kind": "iid", "alpha": 1}},
        "data.partition.alpha",
        "unknown key; valid: kind, sizes",
    ),
    "somewhere else": ({"feed": "gpu"}, "data.feed", "not a valid choice; valid: auto, device, host"),
}


@pytest.mark.parametrize(("settings", "key", "message"), MISTAKES.values(), ids=MISTAKES)
def test_one_mistake_of_a_text(settings: dict[str, Any], key: str, message: str):
    assert mistakes(text()) == []
    assert mistakes(text(**settings)) == [(key, message)]


def test_data_that_are_drawn_have_no_partition():
    [(key, message)] = mistakes(tree(data={"source": "synthetic", "partition": {"kind": "iid"}}))
    assert (key, message.split(":")[0]) == ("data.partition", "unknown key of source synthetic")


def test_a_word_takes_the_place_of_a_mapping_and_a_mapping_that_of_a_word(tmp_path: Path):
    path = tmp_path / "file.yaml"
    data = "data: {source: text, files: a.txt, tokenizer: {kind: bpe, vocabulary: 300}}"
    variants = (
        "variants:\n  same: {}\n  word: {data: {tokenizer: bytes}}\n  changed: {data: {tokenizer: {vocabulary: 301}}}"
    )
    path.write_text(SMALL.replace("data: {source: synthetic}", data) + variants)
    tokenizers = [point.experiment.data.tokenizer for point in load(path)]
    assert tokenizers == [
        TrainedTokenizer(kind="bpe", vocabulary=300),
        ByteTokenizer(kind="bytes"),
        TrainedTokenizer(kind="bpe", vocabulary=301),
    ]


def test_a_mistake_in_a_word_is_placed_at_its_line(tmp_path: Path):
    path = tmp_path / "file.yaml"
    data = "data:\n  source: text\n  files: a.txt\n  tokenizer: byte"
    path.write_text(SMALL.replace("data: {source: synthetic}", data))
    assert messages(lambda: load(path), tmp_path) == [
        "file.yaml:6: data.tokenizer.kind: unknown kind; did you mean 'bytes'?"
    ]
