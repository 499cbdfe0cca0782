import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from simulator.data.sources.text import open_text_files


def write(path: Path, content: bytes) -> str:
    if path.suffix == ".gz":
        content = gzip.compress(content)
    if path.suffix == ".zst":
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(content)
        content = sink.getvalue().to_pybytes()
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
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
