import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow_datasets as tfds
from corpora import texts
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import _registry

from simulator import load, simulate
from simulator.data import load_dataset
from simulator.data.sources import TextDocument, open_corpus
from simulator.data.sources import tfds as sources_tfds
from simulator.experiment.schema.data import FieldGroups, GroupedPartition, TextData, TfdsData
from simulator.host.errors import SettingError

TRAIN = [
    {
        "text": f"text {i} é",
        "title": f"title {i}",
        "note": None if i % 10 else f"note {i}",
        "language": "de" if i % 3 else "en",
        "year": 1990 + i,
        "tags": ["a"] * (i % 3),
    }
    for i in range(25)
]
TEST = [{**TRAIN[0], "text": text} for text in ("first", " \n", "third")]
TEXTS = [f"text {i} é".encode() for i in range(25)]
FEATURES = {
    "text": tfds.features.Text(),
    "title": tfds.features.Text(),
    "note": tfds.features.Text(optional=True),
    "language": tfds.features.ClassLabel(names=["de", "en"]),
    "year": np.int32,
    "tags": tfds.features.Sequence(tfds.features.Text()),
}
NOTES = "language (int64), note (text), tags (Sequence), text (text), title (text), year (int32)"


def prepare(
    folder: Path,
    dataset: str,
    features: Mapping[str, Any],
    splits: Mapping[str, Sequence[Mapping[str, Any]]],
    shards: int = 1,
) -> None:
    """Writes a data set, version 1.2.0, whose code TFDS does not know."""

    class Prepared(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = dataset
        VERSION = tfds.core.Version("1.2.0")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
            )

        def _split_generators(self, dl_manager):
            return {split: enumerate(examples) for split, examples in splits.items()}

        def _generate_examples(self):
            raise NotImplementedError

    builder = Prepared(data_dir=folder, file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=shards))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    tfds.disable_progress_bar()
    folder = tmp_path_factory.mktemp("prepared")
    prepare(folder, "notes", FEATURES, {"train": TRAIN, "test": TEST}, shards=3)
    return folder


@pytest.fixture
def copied(prepared, tmp_path):
    """A copy to be changed: the folder of its files."""
    shutil.copytree(prepared, tmp_path / "copy")
    return tmp_path / "copy" / "notes" / "1.2.0"


def section(data_dir: Path | str, **settings: Any) -> TfdsData:
    return TfdsData(**{"source": "tfds", "name": "notes", "data_dir": str(data_dir), **settings})


def grouped(by: str) -> GroupedPartition:
    return GroupedPartition(kind="grouped", groups=FieldGroups(kind="field", field=by))


def mistake(data: TfdsData) -> str:
    with pytest.raises(SettingError) as caught:
        list(open_corpus(data).documents())
    return str(caught.value)


def change_info(folder: Path, **changes: Any) -> None:
    path = folder / "dataset_info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def take_out(folder: Path, file_format: str) -> dict[Path, list[bytes]]:
    """Removes the array_record files; returns their examples, and what the files of another format are to be named."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    change_info(folder, fileFormat=file_format)
    examples = {}
    for path in folder.glob("*.array_record-*"):
        with ArrayRecordDataSource(str(path)) as source:
            found = source.__getitems__(range(len(source)))
        examples[path.with_name(path.name.replace("array_record", file_format))] = found
        path.unlink()
    return examples


def test_documents_come_in_the_order_in_which_they_were_written(prepared, monkeypatch):
    monkeypatch.setattr("simulator.data.sources.tfds._ROWS", 3)
    assert len(list(prepared.glob("notes/1.2.0/notes-train*"))) == 3
    corpus = open_corpus(section(prepared))
    assert list(corpus.documents()) == [
        TextDocument(text, "", f"notes, train, example {i}") for i, text in enumerate(TEXTS)
    ]
    assert texts(corpus) == TEXTS
    assert (corpus.size, corpus.unit) == (25, "documents")
    assert corpus.facts == {"tfds_name": "notes/1.2.0"}


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("test", [b"first", b"third"]),
        ("train[:10%]", TEXTS[:2]),
        ("train[5:20]", TEXTS[5:20]),
        ("train[-3:]", TEXTS[22:]),
        ("train[24:]+test+train[:1]", [TEXTS[24], b"first", b"third", TEXTS[0]]),
    ],
)
def test_a_split_or_parts_of_splits_are_read(prepared, split, expected):
    corpus = open_corpus(section(prepared, split=split))
    assert texts(corpus) == expected
    assert corpus.size == len(expected) + ("test" in split)  # one of them is blank


@pytest.mark.parametrize("name", ["notes", "notes:1.2.0", "notes:1.*.*"])
def test_the_version_may_be_left_out(prepared, name):
    corpus = open_corpus(section(prepared, name=name))
    assert texts(corpus) == TEXTS
    assert corpus.fingerprint == open_corpus(section(prepared)).fingerprint


def test_the_fingerprint_is_of_the_split_the_features_and_the_files(copied):
    data_dir = copied.parent.parent

    def fingerprint(**settings: Any) -> str:
        return json.dumps(open_corpus(section(data_dir, **settings)).fingerprint)

    first = fingerprint()
    assert fingerprint() == first
    found = {
        first,
        fingerprint(split="train[:10%]"),
        fingerprint(split="train[:11%]"),
        fingerprint(field="title"),
        fingerprint(partition=grouped("year")),
    }
    file = next(copied.glob("notes-train*"))
    nanoseconds = file.stat().st_mtime_ns
    os.utime(file, ns=(nanoseconds, nanoseconds + 1_000))
    found.add(fingerprint())
    assert len(found) == 6


def test_the_text_feature_may_be_named(prepared):
    assert texts(open_corpus(section(prepared, field="title")))[:2] == [b"title 0", b"title 1"]
    with_note = list(open_corpus(section(prepared, field="note")).documents())
    assert with_note == [
        (b"note 0", "", "notes, train, example 0"),
        (b"note 10", "", "notes, train, example 10"),
        (b"note 20", "", "notes, train, example 20"),
    ]


def test_the_only_text_feature_is_found(tmp_path):
    features = {"body": tfds.features.Text(), "label": np.int64}
    prepare(tmp_path, "bodies", features, {"all_of_it": [{"body": "a", "label": 1}, {"body": "b", "label": 2}]})
    assert texts(open_corpus(section(tmp_path, name="bodies", split="all_of_it"))) == [b"a", b"b"]
    assert mistake(section(tmp_path, name="bodies")) == (
        "data.split = 'train': bodies/1.2.0 has no such split: use one of all_of_it (2 examples), or a part such as "
        "all_of_it[:10%]"
    )


def test_of_several_texts_one_must_be_chosen(tmp_path):
    features = {"premise": tfds.features.Text(), "hypothesis": tfds.features.Text()}
    prepare(tmp_path, "pairs", features, {"train": [{"premise": "a", "hypothesis": "b"}]})
    assert mistake(section(tmp_path, name="pairs")) == (
        "data.field: pairs has several texts: choose one of hypothesis, premise"
    )
    assert texts(open_corpus(section(tmp_path, name="pairs", field="premise"))) == [b"a"]


def test_a_dot_leads_into_features(tmp_path):
    features = {"meta": {"text": tfds.features.Text(), "more": {"language": np.int64}}, "title": tfds.features.Text()}
    examples = [{"meta": {"text": f"text {i}", "more": {"language": i % 2}}, "title": f"title {i}"} for i in range(3)]
    prepare(tmp_path, "deep", features, {"train": examples})
    by = grouped("meta.more.language")
    found = list(open_corpus(section(tmp_path, name="deep", field="meta.text", partition=by)).documents())
    assert [(document.text, document.group) for document in found] == [
        (b"text 0", "0"),
        (b"text 1", "1"),
        (b"text 2", "0"),
    ]
    by_title = section(tmp_path, name="deep", field="meta.text", partition=grouped("title"))
    assert [document.group for document in open_corpus(by_title).documents()] == ["title 0", "title 1", "title 2"]
    for settings, message in (
        ({}, "data.field: deep has several texts: choose one of meta.text, title"),
        ({"field": "meta.txt"}, "data.field = 'meta.txt': there is no such feature: deep has meta (FeaturesDict), "),
        ({"field": "title", "partition": grouped("language")}, "no such feature: did you mean 'meta.more.language'?"),
        ({"field": "title", "partition": grouped("meta")}, "'meta': is no single value but FeaturesDict"),
    ):
        assert message in mistake(section(tmp_path, name="deep", **settings))


def test_a_data_set_without_text_is_an_error(tmp_path):
    prepare(tmp_path, "numbers", {"x": np.float32, "y": {"z": np.int64}}, {"train": [{"x": 1.0, "y": {"z": 2}}]})
    assert mistake(section(tmp_path, name="numbers")) == (
        "data.name = 'numbers': has no text feature, only x (float32), y (FeaturesDict), y.z (int64): choose a data "
        "set with text"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"field": "txt"}, f"data.field = 'txt': there is no such feature: notes has {NOTES}"),
        ({"field": "year"}, f"data.field = 'year': is no text: notes has {NOTES}"),
        ({"field": "tags"}, f"data.field = 'tags': is no text: notes has {NOTES}"),
        (
            {"partition": grouped("lang")},
            "data.partition.groups.field = 'lang': no such feature: did you mean 'language'?",
        ),
        (
            {"partition": grouped("tags")},
            "data.partition.groups.field = 'tags': is no single value but Sequence: name a feature with one value per "
            "document",
        ),
    ],
)
def test_what_the_data_set_does_not_have_is_named(prepared, settings, message):
    assert mistake(section(prepared, **settings)) == message


@pytest.mark.parametrize(
    "part",
    [
        *("train[:1%]", "train[9:9]", "train[5:3]", "train[5%:3%]", "train[90%:10%]", "train[-3:-5]", "train[20:-10]"),
        *("train[:0]", "train[100%:]", "train[2shard:1shard]"),
    ],
)
@pytest.mark.parametrize("split", ["{}", "test+{}", "{}+test"])
def test_a_part_without_examples_is_named(prepared, part, split):
    assert mistake(section(prepared, split=split.format(part))) == (
        f"data.split = {split.format(part)!r}: notes/1.2.0 has no examples in {part}: write a part that is larger, and "
        "begins before it ends, such as train[:10%]"
    )


@pytest.mark.parametrize(
    "split", ["train[:10%", "train[:200%]", "train[20:30]", "train[-30:]", "train[0]", "train[a:b]", "train[::2]"]
)
def test_a_part_that_does_not_exist_is_answered_with_how_parts_are_written(prepared, split):
    assert mistake(section(prepared, split=split)) == (
        f"data.split = {split!r}: notes/1.2.0 has no {split}: train has 25 examples; write a part of them as "
        "train[:10%], train[5:20] or train[-5:]"
    )


@pytest.mark.parametrize("split", ["validation", "Train", " train", "", "+", "train[:3]+"])
def test_a_split_that_does_not_exist_is_named(prepared, split):
    assert mistake(section(prepared, split=split)) == (
        f"data.split = {split!r}: notes/1.2.0 has no such split: use one of train (25 examples), test (3 examples), "
        "or a part such as train[:10%]"
    )


@pytest.mark.parametrize(
    ("feature", "groups"),
    [("language", ["1", "0", "0"]), ("year", ["1990", "1991", "1992"]), ("title", ["title 0", "title 1", "title 2"])],
)
def test_documents_are_grouped_by_the_value_of_a_feature(prepared, feature, groups):
    corpus = open_corpus(section(prepared, split="train[:3]", partition=grouped(feature)))
    assert [document.group for document in corpus.documents()] == groups
    assert texts(corpus) == TEXTS[:3]


def test_a_version_or_a_name_that_is_not_there_is_answered_with_what_is(prepared):
    for name, found in (
        ("notes:1.3.0", "did you mean 'notes:1.2.0'?"),
        ("noted/en", "valid: notes:1.2.0"),
    ):
        assert mistake(section(prepared, name=name)) == (
            f"data.name = '{name}': is not prepared in {prepared} ({found}): correct data.name or data.data_dir, or "
            "prepare it if it is one of TensorFlow Datasets' own, many of which are known only with the extra tf, in "
            f"Python: import tensorflow_datasets as tfds; tfds.builder('{name}', data_dir='{prepared}', "
            "file_format='array_record').download_and_prepare()"
        )


def test_a_data_set_that_tfds_knows_but_nobody_prepared_is_told_how(tmp_path):
    assert mistake(section(tmp_path, name="lm1b")) == (
        f"data.name = 'lm1b': is not prepared in {tmp_path} (nothing is): correct data.name or data.data_dir, or "
        f"prepare it in Python: import tensorflow_datasets as tfds; tfds.builder('lm1b', data_dir='{tmp_path}', "
        "file_format='array_record').download_and_prepare()"
    )
    assert mistake(section(tmp_path, name="lm1b:9.9.9")) == (
        f"data.name = 'lm1b:9.9.9': cannot be opened in {tmp_path} (Dataset lm1b cannot be loaded at version 9.9.9, "
        "only: 1.1.0): check name and version, or prepare it again"
    )


@pytest.mark.parametrize("name", ["", "my notes", "/data/notes", "huggingface:notes", "notes/lines=3", "notes:1"])
def test_what_is_no_name_of_a_data_set_is_refused_before_anything_is_looked_up(tmp_path, name):
    assert mistake(section(tmp_path, name=name)) == (
        f"data.name = {name!r}: is no name of a data set: write one such as lm1b, c4/en or c4/en:3.1.0"
    )


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        ("dataset_info.json", "cannot be opened in {data_dir} ("),
        ("features.json", "cannot be opened in {data_dir} ("),
        ("notes-train.array_record-00001-of-00003", "its files are damaged or incomplete ("),
    ],
)
def test_a_damaged_data_set_is_named(copied, damaged, message):
    with open(copied / damaged, "r+b") as file:
        file.truncate(40)
    data_dir = copied.parent.parent
    assert mistake(section(data_dir)).startswith(f"data.name = 'notes': {message.format(data_dir=data_dir)}")


def test_a_file_that_is_missing_is_named(copied):
    data = section(copied.parent.parent)
    corpus = open_corpus(data)
    (copied / "notes-train.array_record-00002-of-00003").unlink()
    with pytest.raises(
        SettingError, match=r"incomplete \(open\(\) failed: No such file .*\): prepare it again, as array"
    ):
        list(corpus.documents())
    missing = f"[Errno 2] No such file or directory: '{copied}/notes-train.array_record-00002-of-00003'"
    assert mistake(data) == (
        f"data.name = 'notes': its files are damaged or incomplete ({missing}): prepare it again, as array_record files"
    )


def test_parquet_files_of_tfds_give_the_same_documents_and_parts(prepared, copied, monkeypatch):
    files = take_out(copied, "parquet")
    for path, examples in files.items():
        pq.write_table(pa.table({"data": examples}), path)
    monkeypatch.setattr("simulator.data.sources.tfds._ROWS", 3)
    data_dir = copied.parent.parent
    for split in ("train", "test", "train[:10%]", "train[5:20]", "train[22:]+test"):
        settings = {"split": split, "partition": grouped("year")}
        from_parquet = open_corpus(section(data_dir, **settings))
        from_array_record = open_corpus(section(prepared, **settings))
        assert list(from_parquet.documents()) == list(from_array_record.documents())
    last = copied / "notes-train.parquet-00002-of-00003"
    pq.write_table(pa.table({"data": files[last][:-1]}), last)
    assert mistake(section(data_dir)) == (
        f"data.name = 'notes': its files are damaged or incomplete ({last} holds 1 examples less than "
        "it should): prepare it again, as array_record files"
    )


def test_a_format_that_needs_no_tensorflow_is_preferred(copied, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    change_info(copied, fileFormat="tfrecord", alternativeFileFormats=["array_record"])
    assert texts(open_corpus(section(copied.parent.parent, split="train[5:20]"))) == TEXTS[5:20]


def test_tfrecord_files_without_tensorflow_ask_for_the_extra(copied, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    data = section(copied.parent.parent)
    change_info(copied, fileFormat="tfrecord")
    assert mistake(data) == (
        "data.name = 'notes': is stored as tfrecord files, which only TensorFlow reads: install it with "
        "`pip install 'tardigrad[tf]'`, or prepare the data set again with tfds.builder(..., "
        "file_format='array_record')"
    )
    change_info(copied, fileFormat="riegeli")
    assert mistake(data) == (
        "data.name = 'notes': is stored as riegeli files, which are not read: prepare the data set again with "
        "tfds.builder(..., file_format='array_record')"
    )


def test_tfrecord_files_with_tensorflow_give_the_same_documents(prepared, copied):
    tensorflow = pytest.importorskip("tensorflow")
    for path, examples in take_out(copied, "tfrecord").items():
        with tensorflow.io.TFRecordWriter(str(path)) as writer:
            for example in examples:
                writer.write(example)
    data_dir = copied.parent.parent
    for split in ("train", "test", "train[5:20]", "train[22:]+test"):
        settings = {"split": split, "partition": grouped("year")}
        from_tfrecord = open_corpus(section(data_dir, **settings))
        assert list(from_tfrecord.documents()) == list(open_corpus(section(prepared, **settings)).documents())
    with open(copied / "notes-train.tfrecord-00001-of-00003", "r+b") as file:
        file.truncate(100)
    assert mistake(section(data_dir)).startswith("data.name = 'notes': its files are damaged or incomplete (")


def test_tensorflow_is_not_imported_and_the_usual_folder_is_found(prepared, tmp_path):
    package = tmp_path / "tensorflow"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('TensorFlow was imported')")
    code = """
import importlib.util, sys
from simulator.data.sources import open_corpus
from simulator.experiment.schema.data import TfdsData
assert importlib.util.find_spec("tensorflow") is not None
print(*(document.text.decode() for document in open_corpus(TfdsData(source="tfds", name="notes")).documents()), sep=";")
"""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join((str(tmp_path), os.getcwd())),
        "PYTHONIOENCODING": "utf-8",
        "TFDS_DATA_DIR": str(prepared),
    }
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert (run.returncode, run.stdout) == (0, b";".join(TEXTS) + b"\n"), run.stderr.decode()


def test_a_corpus_gives_the_same_data_set_from_tfds_and_from_files(tmp_path):
    rng = np.random.default_rng(3)
    documents = ["".join(map(chr, rng.integers(32, 600, rng.integers(30, 90)))) for _ in range(40)]
    prepare(tmp_path, "corpus", {"text": tfds.features.Text()}, {"train": [{"text": text} for text in documents]})
    for number, text in enumerate(documents):
        (tmp_path / f"{number:02d}.txt").write_bytes(text.encode())
    settings = {"tokenizer": "bytes", "validation_fraction": 0.1}
    from_files, from_tfds = (
        load_dataset(data, shards=3, context=5)
        for data in (
            TextData(source="text", files=f"{tmp_path}/*.txt", **settings),
            section(tmp_path, name="corpus", **settings),
        )
    )
    assert from_files.content_hash == from_tfds.content_hash
    np.testing.assert_array_equal(from_files.arrays["tokens"], from_tfds.arrays["tokens"])
    np.testing.assert_array_equal(from_files.validation, from_tfds.validation)
    assert len(from_files.shard_examples) == len(from_tfds.shard_examples) == 3
    for one, other in zip(from_files.shard_examples, from_tfds.shard_examples, strict=True):
        assert len(one) > 50
        np.testing.assert_array_equal(one, other)


def test_the_quickstart_gives_the_same_numbers_on_a_copy_of_its_text(tmp_path):
    quickstart = Path(__file__).parents[2] / "experiments/quickstart.yaml"
    settings = ["budget.local_steps=40", "inner.local_steps=5", "pretrain.steps=0", "evaluate.every_local_steps=20"]
    settings += ["evaluate.windows=8", "inner.optimizer=sgd", "inner.weight_decay=null"]  # compiles fast
    text = load(quickstart, *settings)[-1].experiment
    documents = [document.text for document in open_corpus(text.data).documents()]
    prepare(tmp_path, "stdlib", {"text": tfds.features.Text()}, {"train": [{"text": each} for each in documents]})
    copy = f"{{source: tfds, name: stdlib, data_dir: {tmp_path}, split: train, tokenizer: bytes, shards: 4}}"
    on_copy = load(quickstart, *settings, f"data={copy}")[-1].experiment
    one, other = (simulate(experiment) for experiment in (text, on_copy))
    assert other.summary["data"]["tfds_name"] == "stdlib/1.2.0"
    for key in ("parameters_hash", "final_loss", "data_hash", "causal_hash"):
        assert one.summary[key] == other.summary[key]
    assert one.evaluations["loss"].tolist() == other.evaluations["loss"].tolist()
    assert len(set(one.evaluations["loss"])) == 3


class Bucket(DirFileSystem):
    """This machine's files at gs://."""

    timeless = False

    def __init__(self, **_: object):
        super().__init__(path="/", fs=LocalFileSystem())

    @classmethod
    def _strip_protocol(cls, path):
        return str(path).removeprefix("gs://")

    def info(self, path, **options):
        info = super().info(path, **options)
        return {"ETag" if self.timeless and name == "mtime" else name: value for name, value in info.items()}


@pytest.fixture
def bucket(monkeypatch):
    """What makes the address of a folder here."""
    for name in ("gs", "gcs"):
        monkeypatch.setitem(_registry, name, Bucket)
    monkeypatch.setenv("EPATH_USE_TF", "false")
    return lambda folder: f"gs:/{folder}"


def test_a_data_set_in_remote_storage_is_read_like_one_here(copied, bucket):
    where = bucket(copied.parents[1])
    corpus = open_corpus(TfdsData(source="tfds", name="notes", data_dir=where, split="train[5:]"))
    assert texts(corpus) == TEXTS[5:]
    assert {str(path).split("/notes")[0] for path, *_ in corpus.fingerprint["files"]} == {where}
    assert [size for _, size, _ in corpus.fingerprint["files"]] == [131072] * len(corpus.fingerprint["files"])
    with pytest.raises(SettingError, match=f"is not prepared in {where} \\(did you mean 'notes:1.2.0'\\?\\)"):
        open_corpus(TfdsData(source="tfds", name="note:1.2.0", data_dir=where))


def test_remote_storage_without_times_is_told_apart_by_its_own_marks(prepared, tmp_path, bucket, monkeypatch):
    monkeypatch.setattr(Bucket, "timeless", True)
    fingerprints = []
    for _ in range(2):
        shutil.copytree(prepared, tmp_path / "data", copy_function=shutil.copy)
        twice = [open_corpus(section(bucket(tmp_path / "data"))).fingerprint for _ in range(2)]
        assert twice[0] == twice[1]
        fingerprints.append(twice[0])
        shutil.rmtree(tmp_path / "data")
    assert fingerprints[0] != fingerprints[1]


@pytest.mark.parametrize(
    ("error", "message"),
    [(OSError(28, "No space left on device"), "make room in "), (TimeoutError(110, "timed out"), "check network")],
)
def test_what_hinders_copying_from_remote_storage_is_no_damage(prepared, bucket, monkeypatch, cache, error, message):
    def fail(*_):
        raise error

    corpus = open_corpus(section(bucket(prepared)))
    monkeypatch.setattr(shutil, "copyfileobj", fail)
    with pytest.raises(SettingError, match=f"cannot be copied .*{message}"):
        list(corpus.documents())
    assert list((cache / "remote").iterdir()) == []


def test_remote_storage_that_cannot_be_opened_is_named_with_what_reads_it(monkeypatch):
    monkeypatch.setenv("EPATH_USE_TF", "false")
    with pytest.raises(SettingError, match=r"cannot be opened in s3://no .*install what reads it: gcsfs, s3fs, "):
        open_corpus(TfdsData(source="tfds", name="notes", data_dir="s3://no"))


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_what_is_no_damage_is_not_called_so(prepared, monkeypatch, error):
    def fail(*_):
        raise error

    corpus = open_corpus(section(prepared))
    monkeypatch.setattr(sources_tfds, "_records", fail)
    with pytest.raises(error):
        list(corpus.documents())
