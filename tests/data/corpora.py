"""Documents to divide: stores that are not on disk, and small corpora that are."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from simulator.data.sources import Corpus
from simulator.data.store import TokenStore

COLOURS = ("red green blue yellow", "one two three four", "mon tue wed thu", "oak elm ash fir")
"""Vocabularies with no word in common."""


def store_of(lengths: Sequence[int], groups: Sequence[int] = ()) -> TokenStore:
    """Documents of these lengths, whose tokens are numbered through."""
    store = TokenStore(Path("nowhere"), {"documents": len(lengths)})
    vars(store)["tokens"] = np.arange(sum(lengths), dtype=np.uint16)
    vars(store)["lengths"] = np.array(lengths, np.int64)
    vars(store)["groups"] = np.array(groups or [0] * len(lengths), np.int32)
    return store


def write(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        write_file(folder / name, content.encode() if isinstance(content, str) else content)
    return folder


def write_file(path: Path, content: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)


def zstandard(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue().to_pybytes())


def texts(corpus: Corpus) -> list[bytes]:
    return [document.text for document in corpus.documents()]


def sentence(words: str, number: int, length: int = 60) -> str:
    """A text of some of the words, another for every number."""
    return " ".join(np.random.default_rng(number).choice(words.split(), length))


def topics(folder: Path, documents: int = 20) -> Path:
    """Four folders whose files have no word in common; the first has twice as many files as the others."""
    for topic, words in enumerate(COLOURS):
        count = documents * 2 if topic == 0 else documents
        write(folder, {f"{topic}/{number:02d}.txt": sentence(words, number) for number in range(count)})
    return folder


def json_lines(path: Path, records: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path
