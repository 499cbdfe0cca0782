"""Text files, whole or divided into paragraphs or lines."""

import os
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Literal

from simulator.data.sources.corpus import Corpus, TextDocument
from simulator.data.sources.input_files import matching_files, open_bytes, reading, stamp, text_size
from simulator.host.errors import SettingError

Unit = Literal["file", "paragraph", "line"]


def open_text_files(patterns: Sequence[str], unit: Unit) -> Corpus:
    """Returns the documents of all files that match, files sorted by absolute path and each taken once.

    Args:
        patterns: glob patterns, `**` included; relative ones are relative to the working directory.
        unit: extent of one document. Paragraphs are separated by blank lines; the separating line ends belong to no
            document. Documents of nothing but white space are skipped.
    """
    stamps = stamp(matching_files(patterns))
    nothing = "the matching files hold no text: name files that are not empty"

    def documents() -> Iterator[TextDocument]:
        for path, *_ in stamps:
            folder = os.path.dirname(path)
            with reading(path), open_bytes(path) as stream:
                for number, text in enumerate(_divided(stream, unit), start=1):
                    if text.strip():
                        yield TextDocument(text, folder, path if unit == "file" else f"{path}, {unit} {number}")

    return Corpus(
        fingerprint={"source": "text", "documents": unit, "files": stamps},
        documents=documents,
        empty=SettingError("data.files", list(patterns), nothing),
        size=text_size(stamps),
    )


def _divided(stream: BinaryIO, unit: Unit) -> Iterator[bytes]:
    """Reads no more at once than a document takes."""
    match unit:
        case "file":
            yield stream.read()
        case "line":
            for line in stream:
                yield from line.splitlines()  # a carriage return alone ends a line too
        case "paragraph":
            lines: list[bytes] = []
            for line in stream:
                if line.strip(b" \t\r\n"):
                    lines.append(line)
                elif lines:
                    yield b"".join(lines).strip(b"\r\n")
                    lines = []
            yield b"".join(lines).strip(b"\r\n")
