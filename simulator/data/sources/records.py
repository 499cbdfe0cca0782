"""Files of records with a text field: JSON Lines and Parquet."""

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from simulator.data.sources.corpus import Corpus, TextDocument, group_name, value_within
from simulator.data.sources.input_files import matching_files, open_bytes, open_parquet_file, reading, stamp
from simulator.experiment.problems import nearest
from simulator.host.errors import SettingError
from simulator.host.mappings import MISSING

if TYPE_CHECKING:
    import pyarrow as pa

Place = tuple[str, ...]
"""Names of a column: of the structs that it is in, from the outermost, and its own."""

_GROUP = "data.partition.groups.field"
_SURROGATES = re.compile("[\ud800-\udfff]")
_MAGIC = b"PAR1"  # how a Parquet file begins
_MOST_NAMES = 20
_OTHER = "name the key of the text"
_ROWS = 64  # of a Parquet file at a time: books are long


def open_json_lines(patterns: Sequence[str], field: str, group_field: str | None = None) -> Corpus:
    """Returns the text of every line of JSON Lines files, plain or compressed; blank lines are skipped.

    Args:
        patterns: glob patterns, as for text files.
        field: key of the text; `meta.text` is the key `text` of the object under `meta`.
        group_field: key of the value by which documents are grouped; the files' folders when absent.
    """
    stamps = stamp(matching_files(patterns))

    def documents() -> Iterator[TextDocument]:
        for path, *_ in stamps:
            with reading(path), open_bytes(path) as stream:
                for number, line in enumerate(stream, start=1):
                    if line.strip():
                        place = f"{path}, line {number}"
                        record = _object(line, place)
                        text = _text(record, field, place)
                        if text.strip():
                            yield TextDocument(text, _group(record, group_field, path, place), place)

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
        raise SettingError("data.files", place, message) from error
    except (ValueError, RecursionError) as error:
        where = f"{error.msg}, character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else error
        message = f"is no JSON ({where}): give files with one JSON object per line, or use source: text"
        raise SettingError("data.files", place, message) from error
    if not isinstance(record, dict):
        raise SettingError("data.files", place, f"holds no object but {_start(record)}: give one JSON object per line")
    return record


def _start(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _text(record: dict[str, Any], field: str, place: str) -> bytes:
    text = _value(record, field, "data.field", place)
    if text is None:
        return b""
    if not isinstance(text, str):
        remedy = f"name a key in it: {_listed(field, _keys(text))}" if isinstance(text, dict) and text else _OTHER
        raise SettingError("data.field", field, f"is no text in {place} but {_start(text)}: {remedy}")
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a pair of escapes, which stands for nothing
        return _SURROGATES.sub("\ufffd", text).encode()


def _group(record: dict[str, Any], field: str | None, path: str, place: str) -> str:
    return os.path.dirname(path) if field is None else group_name(_value(record, field, _GROUP, place))


def _value(record: dict[str, Any], field: str, key: str, place: str) -> Any:
    """Returns the value of a field of a record, nothing for an object that is null."""
    found = value_within(record, field)
    if found is MISSING:
        raise SettingError(key, field, _no_such("key", field, list(_keys(record)), place))
    return found


def _keys(record: dict[str, Any]) -> Iterator[str]:
    """Yields the keys of an object, those of objects in it behind a dot."""
    for name, value in record.items():
        yield name
        if isinstance(value, dict):
            yield from (f"{name}.{inner}" for inner in _keys(value))


def _listed(field: str, names: Iterable[str]) -> str:
    shown = [f"{field}.{name}" for name in names]
    return ", ".join(shown[:_MOST_NAMES] + ["…"] * (len(shown) > _MOST_NAMES))


def _no_such(what: str, name: str, names: Collection[str], place: str) -> str:
    return f"{place} has no such {what}: {nearest(name, names)}" if names else f"{place} has no {what} at all"


def _nothing(patterns: Sequence[str], field: str) -> SettingError:
    return SettingError("data.files", list(patterns), f"all documents are empty: name files whose {field!r} holds text")


def open_parquet(patterns: Sequence[str], field: str, group_field: str | None = None) -> Corpus:
    """Returns the text of every row of Parquet files.

    Args:
        patterns: glob patterns, as for text files.
        field: column of the text; `meta.text` is the field `text` of the struct `meta`.
        group_field: column of the value by which documents are grouped; the files' folders when absent.
    """
    stamps = stamp(matching_files(patterns))
    checked = [_checked(path, field, group_field) for path, *_ in stamps]

    def documents() -> Iterator[TextDocument]:
        import pyarrow as pa  # here and below: text files do without pyarrow

        for (path, *_), (_, text_at, group_at) in zip(stamps, checked, strict=True):
            folder, row = os.path.dirname(path), 0
            columns = [".".join(at) for at in (text_at, group_at) if at]
            with reading(path), open_parquet_file(path) as file:
                for batch in file.iter_batches(_ROWS, columns=list(dict.fromkeys(columns))):
                    texts = _column(batch, text_at).cast(pa.large_binary()).to_pylist()
                    groups = _column(batch, group_at).to_pylist() if group_at else [folder] * len(texts)
                    for text, group in zip(texts, groups, strict=True):
                        row += 1
                        if text is not None and text.strip():
                            yield TextDocument(text, group_name(group), f"{path}, row {row}")

    return Corpus(
        fingerprint={"source": "parquet", "field": field, "group": group_field, "files": stamps},
        documents=documents,
        empty=_nothing(patterns, field),
        size=sum(rows for rows, *_ in checked),
        unit="documents",
    )


def _checked(path: str, field: str, group_field: str | None) -> tuple[int, Place, Place]:
    """Returns a file's number of rows, and the places of its columns; that of the groups may be absent."""
    with reading(path):
        with open(path, "rb") as stream:
            if stream.read(len(_MAGIC)) != _MAGIC:
                message = "is no Parquet file: write a pattern that leaves it out, or another data.source"
                raise SettingError("data.files", path, message)
        with open_parquet_file(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    columns = list(_columns(schema))
    text_at, kind = _place(columns, field, "data.field", path)
    if not _is_text(kind):
        inner = [name for name, at, _ in columns if at[:-1] == text_at]
        remedy = f"name a column in it: {', '.join(inner[:_MOST_NAMES])}" if inner else "name a column of text"
        raise SettingError("data.field", field, f"is no text in {path} but {kind}: {remedy}")
    group_at = () if group_field is None else _place(columns, group_field, _GROUP, path)[0]
    return int(rows), text_at, group_at


def _columns(fields: "Iterable[pa.Field]", outer: Place = ()) -> "Iterator[tuple[str, Place, pa.DataType]]":
    """Yields name, place and type of every column, those in structs behind a dot."""
    import pyarrow as pa

    for each in fields:
        at = (*outer, each.name)
        yield ".".join(at), at, each.type
        if pa.types.is_struct(each.type):
            yield from _columns(each.type, at)


def _place(
    columns: "Sequence[tuple[str, Place, pa.DataType]]", name: str, key: str, path: str
) -> "tuple[Place, pa.DataType]":
    """Returns the place and the type of a column, that of this very name before one in a struct."""
    named = [(at, kind) for each, at, kind in columns if each == name]
    found = [(at, kind) for at, kind in named if at == (name,)] or named
    if not found:
        raise SettingError(key, name, _no_such("column", name, [each for each, *_ in columns], path))
    if len(found) > 1:
        raise SettingError(key, name, f"{path} has several columns of this name: rename all but one")
    return found[0]


def _column(batch: "pa.RecordBatch", at: Place) -> "pa.Array":
    import pyarrow.compute as pc

    column = batch.column(at[0])
    return pc.struct_field(column, list(at[1:])) if at[1:] else column


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    texts = pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view()
    return kind in texts
