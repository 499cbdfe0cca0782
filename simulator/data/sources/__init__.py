"""Sources of documents. A source is opened without reading its text, and read as often as needed."""

from simulator.data.sources.corpus import Corpus, TextDocument
from simulator.data.sources.records import open_json_lines, open_parquet
from simulator.data.sources.stdlib import open_standard_library
from simulator.data.sources.text_files import open_text_files
from simulator.data.sources.tfds import open_tfds
from simulator.experiment.schema.data import (
    DocumentData,
    FieldGroups,
    JsonLinesData,
    ParquetData,
    StdlibData,
    TextData,
    TfdsData,
)

__all__ = ["Corpus", "TextDocument", "open_corpus"]


def open_corpus(data: DocumentData) -> Corpus:
    """Returns the documents that a `data` section names.

    Raises:
        SettingError: there is nothing to read, or it has no such field.
    """
    match data:
        case StdlibData():
            return open_standard_library()
        case TextData():
            return open_text_files(data.files, data.documents)
        case JsonLinesData():
            return open_json_lines(data.files, data.field, _group_field(data))
        case ParquetData():
            return open_parquet(data.files, data.field, _group_field(data))
        case TfdsData():
            return open_tfds(data, _group_field(data))


def _group_field(data: DocumentData) -> str | None:
    groups = getattr(data.partition, "groups", None)
    return groups.field if isinstance(groups, FieldGroups) else None
