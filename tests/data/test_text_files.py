import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from corpora import zstandard

from simulator.data.sources.records import open_json_lines
from simulator.data.sources.text_files import open_text_files
from simulator.host.errors import SettingError

CODECS = {"": bytes, ".gz": gzip.compress, ".zst": zstandard, ".bz2": bz2.compress, ".xz": lzma.compress}


def write(path: Path, content: bytes) -> str:
    path.write_bytes(CODECS.get(path.suffix, bytes)(content))
    return str(path)


@pytest.mark.parametrize("suffix", CODECS)
@pytest.mark.parametrize(
    ("unit", "documents"),
    [
        ("file", [(b"one\ntwo\n\n\nthree \xe9", "")]),
        ("paragraph", [(b"one\ntwo", ", paragraph 1"), (b"three \xe9", ", paragraph 2")]),
        ("line", [(b"one", ", line 1"), (b"two", ", line 2"), (b"three \xe9", ", line 5")]),
    ],
)
def test_text_files_are_read_plain_and_compressed(tmp_path, unit, documents, suffix):
    path = write(tmp_path / f"a.txt{suffix}", b"one\ntwo\n\n\nthree \xe9")
    corpus = open_text_files([path], unit)
    assert list(corpus.documents()) == [(text, str(tmp_path), path + place) for text, place in documents]
    assert corpus.size == (None if suffix else 17)


def test_a_carriage_return_alone_ends_a_line(tmp_path):
    path = write(tmp_path / "a.txt", b"a\rb\r\nc\r\r\nd\n\re\r")
    documents = open_text_files([path], "line").documents()
    assert [(document.text, document.place) for document in documents] == [
        (b"a", f"{path}, line 1"),
        (b"b", f"{path}, line 2"),
        (b"c", f"{path}, line 3"),
        (b"d", f"{path}, line 5"),
        (b"e", f"{path}, line 7"),
    ]


@pytest.mark.parametrize(
    ("content", "paragraphs"),
    [
        (b"a\n \t\nb\n", [b"a", b"b"]),
        (b"a\r\n\r\nb\r\nc", [b"a", b"b\r\nc"]),
        (b"a \n\n\n  b", [b"a ", b"  b"]),
        (b"a\n\x0c\nb", [b"a\n\x0c\nb"]),
        (b" \n\na\n \n", [b"a"]),
        (b"a\n\n\x0c\n\nb", [b"a", b"b"]),
        (b"\n\n", []),
    ],
)
def test_paragraphs_end_at_lines_of_nothing_but_spaces_and_tabs(tmp_path, content, paragraphs):
    path = write(tmp_path / "a.txt", content)
    assert [document.text for document in open_text_files([path], "paragraph").documents()] == paragraphs


@pytest.mark.parametrize("suffix", CODECS)
@pytest.mark.parametrize("level", [1, 9])
def test_what_is_compressed_is_read_under_any_name(tmp_path, suffix, level):
    packed = CODECS[suffix]
    if suffix in (".gz", ".bz2"):
        packed = {".gz": gzip, ".bz2": bz2}[suffix].compress
        content, empty = packed(b"one\ntwo", level), packed(b"", level)
    else:
        content, empty = packed(b"one\ntwo"), packed(b"")
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "b").write_bytes(empty)
    documents = open_text_files([f"{tmp_path}/*"], "line").documents()
    assert [document.text for document in documents] == [b"one", b"two"]
    (tmp_path / "c.jsonl").write_bytes(packed(b'{"text": "three"}\n'))
    assert [each.text for each in open_json_lines([f"{tmp_path}/c*"], "text").documents()] == [b"three"]


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".bz2", ".xz"])
@pytest.mark.parametrize("damage", [lambda packed: packed[: len(packed) // 2], lambda packed: b"not packed at all"])
def test_a_compressed_file_that_is_damaged_is_named(tmp_path, suffix, damage):
    packed = CODECS[suffix](b"".join(b"line %d\n" % number for number in range(50_000)))
    (tmp_path / f"a{suffix}").write_bytes(damage(packed))
    with pytest.raises(SettingError) as caught:
        list(open_text_files([f"{tmp_path}/*"], "line").documents())
    assert str(caught.value).startswith(f"data.files = '{tmp_path}/a{suffix}': this file is cut short or damaged (")


def archive(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as file:
            file.writestr("a.txt", "text")
    elif kind == "parquet":
        pq.write_table(pa.table({"text": ["a"]}), buffer)
    elif kind == "feather":
        pyarrow.feather.write_feather(pa.table({"text": ["a"]}), buffer)
    else:
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT if kind == "gnu" else None) as file:
            file.addfile(tarfile.TarInfo("a.txt"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.zip", lambda: archive("zip"), "is a zip archive, as it begins, and no text: unpack it, or"),
        ("book.docx", lambda: archive("zip"), "is a zip archive"),
        ("a.tar", lambda: archive("tar"), "is a tar archive"),
        ("a.txt", lambda: archive("gnu"), "is a tar archive"),
        ("a.tar.gz", lambda: gzip.compress(archive("tar")), "is a tar archive"),
        ("a.tgz", lambda: gzip.compress(archive("tar")), "is a tar archive"),
        ("a.tar.zst", lambda: zstandard(archive("tar")), "is a tar archive"),
        ("a.txz", lambda: lzma.compress(archive("tar")), "is a tar archive"),
        ("a.gz.gz", lambda: gzip.compress(gzip.compress(b"text")), "is compressed twice"),
        ("a.txt.xz", lambda: lzma.compress(bz2.compress(b"text")), "is compressed twice"),
        ("a.parquet", lambda: archive("parquet"), "is a Parquet file, as it begins, and no text: use source: parquet"),
        ("a.feather", lambda: archive("feather"), "is an Arrow file"),
        ("a.pdf", lambda: b"%PDF-1.7\n", "is a PDF, as it begins, and no text: extract its text"),
        ("a.db", lambda: b"SQLite format 3\0", "is an SQLite database"),
        ("a.7z", lambda: b"7z\xbc\xaf\x27\x1c\0\4", "is a 7z archive"),
        ("a.lz4", lambda: pa.compress(b"text", "lz4", asbytes=True), "is an lz4 file"),
    ],
)
@pytest.mark.parametrize("opened", ["text", "jsonl"])
def test_an_archive_is_refused(tmp_path, name: str, content: Callable[[], bytes], message, opened):
    path = tmp_path / name
    path.write_bytes(content())
    corpus = open_text_files([str(path)], "file") if opened == "text" else open_json_lines([str(path)], "text")
    with pytest.raises(SettingError) as caught:
        list(corpus.documents())
    assert str(caught.value).startswith(f"data.files = '{path}': {message}")
    assert str(caught.value).endswith(", or write a pattern that leaves it out")


@pytest.mark.parametrize(
    "text", [b"PK and more", b"BZh is no text", b"PAR1 text", b"Obj", b"\x1f\x8b", b"ustar", b"7z"]
)
def test_text_that_begins_nearly_like_an_archive_is_text(tmp_path, text):
    (tmp_path / "a.txt").write_bytes(text)
    assert [document.text for document in open_text_files([f"{tmp_path}/*"], "file").documents()] == [text]
