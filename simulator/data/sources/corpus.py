"""Interface of every source: its documents in a fixed order, and a fingerprint that changes when they do."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from simulator.host.errors import SettingError
from simulator.host.mappings import MISSING


class TextDocument(NamedTuple):
    """One document.

    Attributes:
        text: its bytes, undecoded; never only white space.
        group: the folder it came from, or the value of the field that groups documents; empty without either.
        place: where it was found, for messages.
    """

    text: bytes
    group: str
    place: str


def group_name(value: object) -> str:
    """Returns the group of a document from the field that groups documents."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def value_within(record: Mapping[str, Any], field: str) -> Any:
    """Returns the value of a field: of this very name, or else in objects whose names come before dots.

    It is None in an object that is null, and `MISSING` where there is no such field.
    """
    if field in record:
        return record[field]
    for dot in (place for place, char in enumerate(field) if char == "."):
        inner = record.get(field[:dot], MISSING)
        found = value_within(inner, field[dot + 1 :]) if isinstance(inner, Mapping) else MISSING
        if inner is None or found is not MISSING:
            return None if inner is None else found
    return MISSING


@dataclass(frozen=True)
class Corpus:
    """A source that has been opened.

    Attributes:
        fingerprint: identifies the source and the state of its files; JSON.
        documents: reads it from the start, always in the same order. Raises SettingError where it cannot be read.
        empty: the error if it turns out to hold no text.
        size: amount to read, in `unit`; None if not known beforehand.
        unit: "bytes" of text, or "documents".
        facts: for the run record.
    """

    fingerprint: Mapping[str, Any]
    documents: Callable[[], Iterator[TextDocument]]
    empty: SettingError
    size: int | None = None
    unit: str = "bytes"
    facts: Mapping[str, int | str | float] = field(default_factory=dict)
