"""Tables that an experiment names: files read whole, with a message that says where each mistake stands."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

MOST_BYTES = 64 * 2**20


def read_bytes(path: str, what: str) -> bytes:
    """Returns the content of a file, which messages call `what`; a ValueError says why it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # a null byte in the path is a ValueError
        raise ValueError(f"{what} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > MOST_BYTES:
        raise ValueError(f"{what} is larger than {MOST_BYTES >> 20} MiB")
    return content


def read_rows(path: str, what: str) -> Iterator[tuple[str, list[str]]]:
    """Yields each row's place, as PATH:LINE, and its cells without spaces around them; the header comes first.

    Empty rows and those that begin with # are left out; a ValueError says where the file is no table.
    """
    try:
        text = read_bytes(path, what).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{what} is not UTF-8 text: {error}") from error
    header: list[str] | None = None
    try:
        reader = csv.reader(io.StringIO(text), strict=True)
        for row in reader:
            cells, where = [cell.strip() for cell in row], f"{path}:{reader.line_num}"
            if not any(cells) or cells[0].startswith("#"):
                continue
            if header is not None and len(cells) != len(header):
                raise ValueError(f"{where}: expected {', '.join(header)}, not {cells!r:.80}")
            header = header or cells
            yield where, cells
    except csv.Error as error:
        raise ValueError(f"{path}: not a CSV file: {error}") from error


def first_mistake(error: ValidationError) -> str:
    """Returns the first of pydantic's messages, as the end of a sentence."""
    message = str(error.errors(include_url=False)[0]["msg"]).removeprefix("Value error, ")
    return f"{message[0].lower()}{message[1:]}"
