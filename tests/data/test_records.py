import gzip
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import texts, write_file, zstandard

from simulator.data import load_dataset
from simulator.data.sources import Corpus, open_corpus
from simulator.data.sources.records import open_json_lines, open_parquet
from simulator.experiment.schema.data import (
    FieldGroups,
    GroupedPartition,
    IidPartition,
    JsonLinesData,
    ParquetData,
    TextData,
)
from simulator.host.errors import SettingError

BY_LANGUAGE = GroupedPartition(kind="grouped", groups=FieldGroups(kind="field", field="language"))


def lines(*records: object) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def write_parquet(path: Path, columns: dict[str, Iterable[object]], row_group_size: int = 1000) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return str(path)


def mistake(corpus: Corpus) -> str:
    with pytest.raises(SettingError) as caught:
        list(corpus.documents())
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "packed"),
    [
        ("a.jsonl", lambda first, second: first + second),
        ("a.jsonl.gz", lambda first, second: gzip.compress(first + second)),
        ("several members.gz", lambda first, second: gzip.compress(first) + gzip.compress(second)),
        ("a.jsonl.zst", lambda first, second: zstandard(first + second)),
        ("several frames.zst", lambda first, second: zstandard(first) + zstandard(second)),
    ],
)
def test_json_lines_are_read_plain_and_compressed(tmp_path, name, packed):
    first = lines({"text": "one", "id": 1}, {"text": "zwei\nZeilen", "id": 2})
    second = lines({"text": "trois é", "id": 3})
    path = write_file(tmp_path / name, packed(first, second))
    assert [*open_json_lines([path], "text").documents()] == [
        (b"one", str(tmp_path), f"{path}, line 1"),
        (b"zwei\nZeilen", str(tmp_path), f"{path}, line 2"),
        ("trois é".encode(), str(tmp_path), f"{path}, line 3"),
    ]


@pytest.mark.parametrize("packed", [bytes, gzip.compress, zstandard])
def test_lines_longer_than_any_buffer_are_whole(tmp_path, packed):
    suffix = {bytes: "", gzip.compress: ".gz", zstandard: ".zst"}[packed]
    long = "0123456789" * 300_000
    path = write_file(tmp_path / f"a.jsonl{suffix}", packed(lines({"text": long}, {"text": "end"})))
    assert texts(open_json_lines([path], "text")) == [long.encode(), b"end"]


def test_blank_lines_and_empty_texts_are_no_documents(tmp_path):
    path = write_file(
        tmp_path / "a.jsonl",
        b"\n  \r\n"
        + lines({"text": ""}, {"text": " \n\t"}, {"text": None}, {"text": " kept "})
        + b'\n{"text": "windows"}\r\n{"text": "no line end"}',
    )
    corpus = open_json_lines([path], "text")
    assert [(document.text, document.place) for document in corpus.documents()] == [
        (b" kept ", f"{path}, line 6"),
        (b"windows", f"{path}, line 8"),
        (b"no line end", f"{path}, line 9"),
    ]


def test_a_byte_order_mark_and_escaped_half_characters_are_read(tmp_path):
    path = write_file(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"text": "first"}\n{"text": "\\ud83d\\ude00 \\ud83d"}\n')
    assert texts(open_json_lines([path], "text")) == [b"first", b"\xf0\x9f\x98\x80 \xef\xbf\xbd"]


def test_the_section_names_the_key_of_the_text_and_the_key_of_the_group(tmp_path):
    path = write_file(
        tmp_path / "a.jsonl", lines({"text": "no", "body": "yes", "language": "de"}, {"body": "2", "text": 0})
    )
    section = {"source": "jsonl", "files": (path,), "field": "body"}
    corpus = open_corpus(JsonLinesData(**section))
    assert texts(corpus) == [b"yes", b"2"]
    grouped = open_corpus(JsonLinesData(**section, partition=BY_LANGUAGE))
    assert next(grouped.documents()).group == "de"
    assert mistake(grouped) == (
        f"data.partition.groups.field = 'language': {path}, line 2 has no such key: valid: body, text"
    )


def test_groups_are_values_of_a_key_or_else_folders(tmp_path):
    records = lines({"text": "a", "k": "x"}, {"text": "b", "k": 7}, {"text": "c", "k": None}, {"text": "d", "k": "7"})
    write_file(tmp_path / "one" / "a.jsonl", records)
    write_file(tmp_path / "two" / "a.jsonl", lines({"text": "e", "k": "x"}))
    by_key = open_json_lines([f"{tmp_path}/*/*.jsonl"], "text", "k")
    assert [document.group for document in by_key.documents()] == ["x", "7", "None", "7", "x"]
    by_folder = open_json_lines([f"{tmp_path}/*/*.jsonl"], "text")
    assert [document.group for document in by_folder.documents()] == [f"{tmp_path}/one"] * 4 + [f"{tmp_path}/two"]


def test_files_come_in_the_order_of_their_paths_and_may_be_read_again(tmp_path):
    write_file(tmp_path / "b.jsonl", lines({"text": "3"}))
    write_file(tmp_path / "a" / "z.jsonl.gz", gzip.compress(lines({"text": "1"}, {"text": "2"})))
    corpus = open_json_lines([f"{tmp_path}/b.jsonl", f"{tmp_path}/**/*.jsonl*"], "text")
    assert texts(corpus) == texts(corpus) == [b"1", b"2", b"3"]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_the_fingerprint_is_of_the_files_the_field_and_the_group(tmp_path, kind):
    def fingerprint(field: str = "text", group: str | None = None) -> str:
        opened = {"jsonl": open_json_lines, "parquet": open_parquet}[kind]([f"{tmp_path}/*"], field, group)
        return json.dumps(opened.fingerprint)

    def rewrite(name: str, text: str, seconds: int) -> None:
        if kind == "jsonl":
            write_file(tmp_path / name, lines({"text": text, "title": text}))
        else:
            write_parquet(tmp_path / name, {"text": [text], "title": [text]})
        os.utime(tmp_path / name, (seconds, seconds))

    rewrite("a", "one", 1)
    first = fingerprint()
    assert fingerprint() == first
    found = {first, fingerprint("title"), fingerprint("text", "title")}
    rewrite("a", "two", 2)  # as long as before
    found.add(fingerprint())
    rewrite("b", "one", 1)
    found.add(fingerprint())
    (tmp_path / "b").rename(tmp_path / "c")
    found.add(fingerprint())
    assert len(found) == 6


def test_the_size_of_parquet_files_is_known_beforehand(tmp_path):
    write_parquet(tmp_path / "a.parquet", {"text": ["one", None]})
    write_parquet(tmp_path / "b.parquet", {"text": ["three"]})
    corpus = open_parquet([f"{tmp_path}/*.parquet"], "text")
    assert (corpus.size, corpus.unit) == (3, "documents")


def test_parquet_files_are_read_over_row_groups_and_batches(tmp_path):
    numbered = [f"row {i}" for i in range(2500)]
    write_parquet(tmp_path / "a.parquet", {"id": range(2500), "text": numbered}, row_group_size=1100)
    path = write_parquet(tmp_path / "b.parquet", {"text": ["", None, " \n", "last"]})
    documents = list(open_parquet([f"{tmp_path}/*.parquet"], "text").documents())
    assert [document.text.decode() for document in documents] == [*numbered, "last"]
    assert documents[0].place == f"{tmp_path}/a.parquet, row 1"
    assert documents[-1] == (b"last", str(tmp_path), f"{path}, row 4")


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.large_binary(),
        pa.dictionary(pa.int32(), pa.string()),
    ],
    ids=str,
)
def test_columns_of_any_kind_of_text_are_read(tmp_path, kind):
    column = pa.array(["eins", None, "zwölf", "eins"], kind)
    path = write_parquet(tmp_path / "a.parquet", {"body": column})
    assert pq.read_schema(path).field("body").type == kind
    assert texts(open_parquet([path], "body")) == [b"eins", "zwölf".encode(), b"eins"]


def test_binary_columns_need_not_be_utf8(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", {"text": [b"\xff\xfe", b"\xe9"]})
    assert texts(open_parquet([path], "text")) == [b"\xff\xfe", b"\xe9"]


def test_parquet_groups_are_values_of_a_column_or_else_folders(tmp_path):
    path = write_parquet(
        tmp_path / "one" / "a.parquet",
        {"text": ["a", "b", "c"], "language": ["de", None, "en"], "year": [1, 2, 3], "raw": [b"x", b"\xc3\xa9", b"x"]},
    )
    section = ParquetData(source="parquet", files=path, partition=BY_LANGUAGE)
    for corpus, groups in (
        (open_corpus(section), ["de", "None", "en"]),
        (open_parquet([path], "text", "year"), ["1", "2", "3"]),
        (open_parquet([path], "text", "raw"), ["x", "é", "x"]),
        (open_parquet([path], "text", "text"), ["a", "b", "c"]),
        (open_corpus(section.model_copy(update={"partition": IidPartition(kind="iid")})), [f"{tmp_path}/one"] * 3),
    ):
        assert [document.group for document in corpus.documents()] == groups


def test_a_column_whose_name_has_a_dot_is_not_taken_for_a_nested_one(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", {"doc.text": ["right"], "doc": ["wrong"]})
    assert texts(open_parquet([path], "doc.text")) == [b"right"]


NESTED = [
    {"id": 1, "meta": {"text": "one", "source": {"language": "de"}}, "text": 1},
    {"id": 2, "meta": {"text": "two", "source": {"language": "en"}}, "text": 2},
    {"id": 3, "meta": {"text": None, "source": {"language": "en"}}, "text": 3},
    {"id": 4, "meta": None, "text": 4},
    {"id": 5, "meta": {"text": "five", "source": None}, "text": 5},
]


@pytest.mark.parametrize("opened", [open_json_lines, open_parquet])
def test_a_dot_leads_into_objects_and_structs(tmp_path, opened):
    path = str(tmp_path / "a")
    if opened is open_parquet:
        pq.write_table(pa.Table.from_pylist(NESTED), path)
    else:
        write_file(tmp_path / "a", lines(*NESTED))
    found = [(document.text, document.group) for document in opened([path], "meta.text").documents()]
    assert found == [(text, str(tmp_path)) for text in (b"one", b"two", b"five")]
    by_language = opened([path], "meta.text", "meta.source.language")
    assert [document.group for document in by_language.documents()] == ["de", "en", "None"]
    assert [document.group for document in opened([path], "meta.text", "id").documents()] == ["1", "2", "5"]
    assert [document.group for document in opened([path], "meta.text", "meta.text").documents()] == [
        "one",
        "two",
        "five",
    ]


def test_a_field_in_an_object_groups_documents_of_a_section(tmp_path):
    path = write_file(tmp_path / "a", lines(*NESTED[:2]))
    by = GroupedPartition(kind="grouped", groups=FieldGroups(kind="field", field="meta.source.language"))
    section = JsonLinesData(source="jsonl", files=path, field="meta.text", partition=by)
    assert [document.group for document in open_corpus(section).documents()] == ["de", "en"]


def test_of_a_struct_only_the_field_is_read(tmp_path, monkeypatch):
    path = str(tmp_path / "a.parquet")
    noise = [{"meta": {"text": str(number), "noise": os.urandom(100).hex()}} for number in range(1_000)]
    pq.write_table(pa.Table.from_pylist(noise), path)
    batches = pq.ParquetFile.iter_batches
    read: list[Any] = []
    monkeypatch.setattr(
        pq.ParquetFile,
        "iter_batches",
        lambda *arguments, **options: (read.append(batch) or batch for batch in batches(*arguments, **options)),
    )
    assert len(texts(open_parquet([path], "meta.text"))) == 1_000
    assert {str(batch.schema.field("meta").type) for batch in read} == {"struct<text: string>"}


def test_a_key_whose_name_has_a_dot_goes_before_one_in_an_object(tmp_path):
    both = {"a.b": "right", "a": {"b": "wrong"}}
    assert texts(open_json_lines([write_file(tmp_path / "a.jsonl", lines(both))], "a.b")) == [b"right"]
    pq.write_table(pa.Table.from_pylist([both]), tmp_path / "a.parquet")
    assert texts(open_parquet([str(tmp_path / "a.parquet")], "a.b")) == [b"right"]
    inner = {"a": {"b.c": "deep"}}
    assert texts(open_json_lines([write_file(tmp_path / "b.jsonl", lines(inner))], "a.b.c")) == [b"deep"]
    pq.write_table(pa.Table.from_pylist([inner]), tmp_path / "b.parquet")
    assert texts(open_parquet([str(tmp_path / "b.parquet")], "a.b.c")) == [b"deep"]


@pytest.mark.parametrize(
    ("field", "group", "message"),
    [
        ("meta.txt", None, "data.field = 'meta.txt': {place} has no such {what}: did you mean 'meta.text'?"),
        ("meta.text.a", None, "data.field = 'meta.text.a': {place} has no such {what}: did you mean 'meta.text'?"),
        ("body", None, "data.field = 'body': {place} has no such {what}: valid: id, meta, meta.source, "),
        ("source", None, "data.field = 'source': {place} has no such {what}: did you mean 'meta.source'?"),
        ("meta", None, "data.field = 'meta': is no text in {place} but "),
        ("meta", None, ": name a {what} in it: meta.text, meta.source"),
        ("meta.text", "lang", "groups.field = 'lang': {place} has no such {what}: valid: id, meta"),
        ("meta.text", "language", "= 'language': {place} has no such {what}: did you mean 'meta.source.language'?"),
    ],
)
@pytest.mark.parametrize("opened", [open_json_lines, open_parquet])
def test_fields_in_objects_are_among_the_names_of_a_message(tmp_path, opened, field, group, message):
    path = str(tmp_path / "a")
    pq.write_table(pa.Table.from_pylist(NESTED), path)
    if opened is open_json_lines:
        write_file(tmp_path / "a", lines(*NESTED))
    with pytest.raises(SettingError) as caught:
        list(opened([path], field, group).documents())
    place, what = (path, "column") if opened is open_parquet else (f"{path}, line 1", "key")
    said = str(caught.value).replace("meta.source, meta.text", "meta.text, meta.source")  # older pyarrows sort fields
    assert message.format(place=place, what=what) in said


def test_of_a_large_row_group_only_a_part_is_in_memory(tmp_path):
    noise = os.urandom(1_000).hex()
    numbered = [f"{i:05d}{noise}" for i in range(20_000)]
    path = str(tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": numbered}), path, row_group_size=20_000, compression="none", use_dictionary=False)
    assert os.path.getsize(path) > 40e6
    before, read, most = pa.total_allocated_bytes(), 0, 0
    for document in open_parquet([path], "text").documents():
        read += len(document.text)
        most = max(most, pa.total_allocated_bytes() - before)
    assert read == 20_000 * 2_005
    assert most < 12e6


@pytest.mark.parametrize(
    ("content", "key", "message"),
    [
        (lines({"txt": "a", "id": 1}), "data.field = 'text'", "{path}, line 1 has no such key: did you mean 'txt'?"),
        (lines({"a": "b", "c": 1}), "data.field = 'text'", "{path}, line 1 has no such key: valid: a, c"),
        (b"{}", "data.field = 'text'", "{path}, line 1 has no key at all"),
        (
            lines({"text": "a"}, {"text": 5}),
            "data.field = 'text'",
            "is no text in {path}, line 2 but 5: name the key of the text",
        ),
        (
            lines({"text": list(range(100))}),
            "data.field = 'text'",
            "is no text in {path}, line 1 but [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1…: name the key of the text",
        ),
        (
            b'\n{"text": "cut sho',
            "data.files = '{path}, line 2'",
            "is no JSON (Unterminated string starting at, character 10): give files with one JSON object per line, or "
            "use source: text",
        ),
        (
            b"Call me Ishmael.\n",
            "data.files = '{path}, line 1'",
            "is no JSON (Expecting value, character 1): give files with one JSON object per line, or use source: text",
        ),
        (
            b'[{"text": "a"}]\n',
            "data.files = '{path}, line 1'",
            'holds no object but [{{"text": "a"}}]: give one JSON object per line',
        ),
        (
            b'{"text": "caf\xe9"}\n',
            "data.files = '{path}, line 1'",
            "is not valid UTF-8 (byte 14 of the line): convert the file, for example with iconv",
        ),
    ],
)
def test_a_line_that_cannot_be_read_is_named(tmp_path, content, key, message):
    path = write_file(tmp_path / "a.jsonl", content)
    assert mistake(open_json_lines([path], "text")) == f"{key}: {message}".format(path=path)


def test_a_line_nested_too_deeply_is_named(tmp_path):
    path = write_file(tmp_path / "a.jsonl", b"[" * 100_000)
    assert mistake(open_json_lines([path], "text")).startswith(
        f"data.files = '{path}, line 1': is no JSON (maximum rec"
    )


@pytest.mark.parametrize("kind", ["truncated.gz", "flipped.gz", "plain.gz", "truncated.zst", "plain.zst"])
def test_a_damaged_compressed_file_is_named(tmp_path, kind):
    plain = lines(*({"text": f"number {i} of many"} for i in range(2_000)))
    packed = zstandard(plain) if kind.endswith("zst") else gzip.compress(plain)
    middle = len(packed) // 2
    damaged = {
        "truncated": packed[:middle],
        "flipped": packed[:middle] + bytes([packed[middle] ^ 255]) + packed[middle + 1 :],
        "plain": plain,
    }
    path = write_file(tmp_path / f"a.jsonl.{kind}", damaged[kind.split(".")[0]])
    message = mistake(open_json_lines([path], "text"))
    assert message.startswith(f"data.files = '{path}': this file is cut short or damaged (")
    assert message.endswith("): copy or download it again")


def test_a_file_that_vanished_after_it_was_found_is_named(tmp_path):
    for name in ("a.jsonl", "a.jsonl.gz", "a.jsonl.zst"):
        path = write_file(tmp_path / name, b"")
        corpus = open_json_lines([path], "text")
        os.remove(path)
        assert mistake(corpus) == (
            f"data.files = '{path}': this file cannot be read (No such file or directory): make it readable, or write "
            "a pattern that leaves it out"
        )


@pytest.mark.parametrize("opened", [open_json_lines, open_parquet])
def test_a_pattern_without_files_is_named(tmp_path, opened):
    with pytest.raises(SettingError) as caught:
        opened([f"{tmp_path}/*.x"], "text")
    assert str(caught.value).startswith(f"data.files = '{tmp_path}/*.x': matches no file: check the path; ** stands")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no Parquet file: write a pattern that leaves it out, or another data.source"),
        (b'{"text": "a"}\n', "is no Parquet file: write a pattern that leaves it out, or another data.source"),
        (
            b"PAR1 and then nothing more",
            "this file is cut short or damaged (Parquet magic bytes not found in footer. Either the file is corrupted "
            "or this is not a parquet file): copy or download it again",
        ),
    ],
)
def test_a_file_that_is_not_parquet_is_named(tmp_path, content, message):
    path = write_file(tmp_path / "a.parquet", content)
    with pytest.raises(SettingError) as caught:
        open_parquet([path], "text")
    assert str(caught.value) == f"data.files = '{path}': {message}"


def test_a_parquet_file_damaged_inside_is_named_when_it_is_read(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", {"text": [f"number {i}" for i in range(9_000)]})
    content = bytearray(Path(path).read_bytes())
    content[len(content) // 2 : len(content) // 2 + 500] = b"\xaa" * 500
    Path(path).write_bytes(content)
    message = mistake(open_parquet([path], "text"))
    assert message.startswith(f"data.files = '{path}': this file is cut short or damaged (")


@pytest.mark.parametrize(
    ("columns", "field", "group", "message"),
    [
        (
            {"txt": ["a"], "id": [1]},
            "text",
            None,
            "data.field = 'text': {path} has no such column: did you mean 'txt'?",
        ),
        ({"a": ["a"], "id": [1]}, "text", None, "data.field = 'text': {path} has no such column: valid: a, id"),
        ({"text": [1]}, "text", None, "data.field = 'text': is no text in {path} but int64: name a column of text"),
        (
            {"text": [["a", "b"]]},
            "text",
            None,
            "data.field = 'text': is no text in {path} but list<element: string>: name a column of text",
        ),
        (
            {"text": ["a"], "lang": ["de"]},
            "text",
            "language",
            "data.partition.groups.field = 'language': {path} has no such column: did you mean 'lang'?",
        ),
    ],
)
def test_a_column_that_is_not_there_or_no_text_is_named(tmp_path, columns, field, group, message):
    path = write_parquet(tmp_path / "b.parquet", columns)
    write_parquet(tmp_path / "a.parquet", {"text": ["fine"], "language": ["de"]})
    with pytest.raises(SettingError) as caught:
        open_parquet([f"{tmp_path}/*.parquet"], field, group)
    assert str(caught.value) == message.format(path=path)


def test_two_columns_of_one_name_are_an_error(tmp_path):
    path = str(tmp_path / "a.parquet")
    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]), path)
    with pytest.raises(SettingError) as caught:
        open_parquet([path], "text")
    assert str(caught.value) == f"data.field = 'text': {path} has several columns of this name: rename all but one"


def test_the_message_for_files_without_any_text_is_kept_for_the_end(tmp_path):
    path = write_file(tmp_path / "a.jsonl", lines({"body": ""}))
    corpus = open_json_lines([path], "body")
    assert texts(corpus) == []
    assert str(corpus.empty) == (
        f"data.files = ['{path}']: all documents are empty: name files whose 'body' holds text"
    )


def test_the_same_documents_give_the_same_data_set_from_any_kind_of_file(tmp_path):
    documents = [f"{i}: " + "äöü."[i % 4] * (20 + i) for i in range(30)]
    sources = (
        TextData(source="text", documents="line", files=write_file(tmp_path / "a.txt", "\n".join(documents).encode())),
        JsonLinesData(source="jsonl", files=write_file(tmp_path / "a", lines(*({"text": text} for text in documents)))),
        ParquetData(source="parquet", files=write_parquet(tmp_path / "a.parquet", {"text": documents})),
    )
    expected, *others = (load_dataset(data, shards=3, context=5) for data in sources)
    assert len(expected.shard_examples[0]) > 50
    for dataset in others:
        assert dataset.content_hash == expected.content_hash
        np.testing.assert_array_equal(dataset.arrays["tokens"], expected.arrays["tokens"])
        np.testing.assert_array_equal(dataset.validation, expected.validation)
        np.testing.assert_array_equal(dataset.shard_examples, expected.shard_examples)
