"""Files of records with a text field: JSON Lines and Parquet."""

import json
import os
import re
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from simulator.data.errors import DataError
from simulator.data.sources.corpus import Corpus, Document, group_name
from simulator.data.sources.files import matching_files, open_bytes, open_parquet_file, reading, stamp
from simulator.experiment.problems import nearest

if TYPE_CHECKING:
    import pyarrow as pa

_GROUP = "data.partition.groups.field"
_SURROGATES = re.compile("[\ud800-\udfff]")
_MAGIC = b"PAR1"  # how a Parquet file begins
_ROWS = 64  # of a Parquet file at a time: books are long


def open_json_lines(patterns: Sequence[str], field: str, group_field: str | None = None) -> Corpus:
    """Returns the text of every line of JSON Lines files, plain, `.gz` or `.zst`; blank lines are skipped.

    Args:
        patterns: glob patterns, as for text files.
        field: key of the text.
        group_field: key of the value by which documents are grouped; the files' folders when absent.

    Raises:
        DataError: a pattern matches no file.
    """
    stamps = stamp(matching_files(patterns))

    def documents() -> Iterator[Document]:
        for path, *_ in stamps:
            with reading(path), open_bytes(path) as stream:
                for number, line in enumerate(stream, start=1):
                    if line.strip():
                        place = f"{path}, line {number}"
                        record = _object(line, place)
                        text = _text(record, field, place)
                        if text.strip():
                            yield Document(text, _group(record, group_field, path, place), place)

    return Corpus(
        fingerprint={"source": "jsonl", "field": field, "group": group_field, "files": stamps},
        documents=documents,
        empty=_nothing(patterns, field),
        size=None,  # of the text in it
    )


def _object(line: bytes, place: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except UnicodeDecodeError as error:
        message = f"is not valid UTF-8 (byte {error.start + 1} of the line): convert the file, for example with iconv"
        raise DataError("data.files", place, message) from error
    except (ValueError, RecursionError) as error:
        where = f"{error.msg}, character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else error
        message = f"is no JSON ({where}): give files with one JSON object per line, or use source: text"
        raise DataError("data.files", place, message) from error
    if not isinstance(record, dict):
        raise DataError("data.files", place, f"holds no object but {_start(record)}: give one JSON object per line")
    return record


def _start(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _text(record: dict[str, Any], field: str, place: str) -> bytes:
    if field not in record:
        raise DataError("data.field", field, _no_such("key", field, record, place))
    text = record[field]
    if text is None:
        return b""
    if not isinstance(text, str):
        message = f"is no text in {place} but {_start(text)}: name the key of the text"
        raise DataError("data.field", field, message)
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a pair of escapes, which stands for nothing
        return _SURROGATES.sub("\ufffd", text).encode()


def _group(record: dict[str, Any], field: str | None, path: str, place: str) -> str:
    if field is None:
        return os.path.dirname(path)
    if field not in record:
        raise DataError(_GROUP, field, _no_such("key", field, record, place))
    return group_name(record[field])


def _no_such(what: str, name: str, names: Collection[str], place: str) -> str:
    return f"{place} has no such {what}: {nearest(name, names)}" if names else f"{place} has no {what} at all"


def _nothing(patterns: Sequence[str], field: str) -> tuple[str, object, str]:
    return "data.files", list(patterns), f"all documents are empty: name files whose {field!r} holds text"


def open_parquet(patterns: Sequence[str], field: str, group_field: str | None = None) -> Corpus:
    """Returns the text of every row of Parquet files.

    Args:
        patterns: glob patterns, as for text files.
        field: column of the text.
        group_field: column of the value by which documents are grouped; the files' folders when absent.

    Raises:
        DataError: a pattern matches no file, a file is not Parquet, or has no such column.
    """
    stamps = stamp(matching_files(patterns))
    rows = sum(_checked_rows(path, field, group_field) for path, *_ in stamps)
    columns = [field] if group_field in (None, field) else [field, group_field]

    def documents() -> Iterator[Document]:
        import pyarrow as pa

        for path, *_ in stamps:
            folder, row = os.path.dirname(path), 0
            with reading(path), open_parquet_file(path) as file:
                for batch in file.iter_batches(_ROWS, columns=columns):
                    texts = batch.column(field).cast(pa.large_binary()).to_pylist()
                    groups = [folder] * len(texts) if group_field is None else batch.column(group_field).to_pylist()
                    for text, group in zip(texts, groups, strict=True):
                        row += 1
                        if text is not None and text.strip():
                            yield Document(text, group_name(group), f"{path}, row {row}")

    return Corpus(
        fingerprint={"source": "parquet", "field": field, "group": group_field, "files": stamps},
        documents=documents,
        empty=_nothing(patterns, field),
        size=rows,
        unit="documents",
    )


def _checked_rows(path: str, field: str, group_field: str | None) -> int:
    """Returns the number of rows of a file that has the columns."""
    with reading(path):
        with open(path, "rb") as stream:
            if stream.read(len(_MAGIC)) != _MAGIC:
                message = "is no Parquet file: write a pattern that leaves it out, or another data.source"
                raise DataError("data.files", path, message)
        with open_parquet_file(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    for key, name in (("data.field", field), (_GROUP, group_field)):
        if name is not None and schema.names.count(name) != 1:
            if name in schema.names:
                raise DataError(key, name, f"{path} has several columns of this name: rename all but one")
            raise DataError(key, name, _no_such("column", name, schema.names, path))
    kind = schema.field(field).type
    if not _is_text(kind):
        raise DataError("data.field", field, f"is no text in {path} but {kind}: name a column of text")
    return int(rows)


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    texts = pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view()
    return kind in texts
