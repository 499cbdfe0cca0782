"""Tables for the terminal that keep to its width: no number is ever cut."""

import re
from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement, measure_renderables
from rich.styled import Styled
from rich.table import Column, Table
from rich.text import Text

from simulator.report.group_keys import one_line

_NARROWEST = 12  # to which a column of words is folded, characters
_PIECE = re.compile(r".+?(?:[=_/]+(?=\S)|\.(?=[A-Za-z])|\s+|$)")  # of a word that is too long


class TerminalTable(Table):
    """Table that is broken into several, one below the other, where there is no room for all of its columns.

    Its first columns stand in all of them. Columns whose cells may not be wrapped (`no_wrap`) keep their width, those
    of words are folded.

    Args:
        title: Above the table.
        caption: Below it.
        keys: How many of the columns name the rows.
    """

    def __init__(self, title: str | None = None, caption: str | None = None, *, keys: int = 1):
        super().__init__(
            title=Text(one_line(title)) if title else None,
            caption=Text(one_line(caption)) if caption else None,
            header_style="bold",
            box=box.SIMPLE_HEAD,
            show_edge=False,
            padding=(0, 0),
        )
        self.keys = keys

    def add_words(self, header: str, *, narrowest: int = _NARROWEST) -> None:
        """Adds a column of names or sentences, which may be folded down to some width, in characters."""
        self.add_column(header, overflow="fold", min_width=narrowest)

    def add_numbers(self, header: str) -> None:
        """Adds a column of numbers, at the right."""
        self.add_column(header, justify="right", no_wrap=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draws the parts for which there is room; titles and captions that are wider go over the whole width."""
        room = options.max_width
        parts = self._parts([_least(column, console, options) for column in self.columns], room)
        for number, columns in enumerate(parts):
            part = Table(
                header_style=self.header_style, box=self.box, show_edge=False, padding=(0, 0), leading=self.leading
            )
            part.columns = [_folded(column, place) for place, column in enumerate(columns)]
            part.rows = self.rows
            width = Measurement.get(console, options, part).maximum
            if sum(_least(column, console, options) + 1 for column in columns) - 1 > room:  # for no number at all
                part.columns[-1].no_wrap = False
            heading, ending = (self.title if number == 0 else None), (self.caption if columns is parts[-1] else None)
            if number:
                yield Text("")
            if isinstance(heading, Text) and heading.cell_len > width:
                yield Styled(heading, "table.title")
            else:
                part.title = heading
            if isinstance(ending, Text) and ending.cell_len > width:
                yield part
                yield Styled(ending, "table.caption")
            else:
                part.caption = ending
                yield part

    def _parts(self, least: Sequence[int], room: int) -> list[list[Column]]:
        """Returns each part's columns: as few parts as there is room for, of about one width."""
        found = self._greedy(least, room)
        for narrower_room in range(room - 1, 0, -1):
            narrower = self._greedy(least, narrower_room)
            if len(narrower) > len(found):
                break
            found = narrower
        return found

    def _greedy(self, least: Sequence[int], room: int) -> list[list[Column]]:
        keys = self.columns[: self.keys]
        first = sum(least[: self.keys]) + len(keys) - 1
        parts, used = [list(keys)], first
        for column, width in zip(self.columns[self.keys :], least[self.keys :], strict=True):
            if used + 1 + width > room and len(parts[-1]) > len(keys):
                parts.append(list(keys))
                used = first
            parts[-1].append(column)
            used += 1 + width
        return parts


class _Folded:
    """Words that are broken where it reads best, for the width that there is."""

    def __init__(self, words: str):
        self._words = words

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(_wrapped(self._words, options.max_width))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        width = max(map(cell_len, _wrapped(self._words, options.max_width).split("\n")))
        return Measurement(min(width, _NARROWEST), width)


def _folded(column: Column, place: int) -> Column:
    """Returns a column whose words are folded, at its place in a part."""
    cells = column._cells
    if not column.no_wrap:
        cells = [_Folded(cell.plain) if isinstance(cell, Text) else cell for cell in cells]
    return Column(
        column.header, justify=column.justify, no_wrap=column.no_wrap, overflow="fold", _index=place, _cells=cells
    )


def _least(column: Column, console: Console, options: ConsoleOptions) -> int:
    """Returns the width to which a column may be folded."""
    full = measure_renderables(console, options.update(width=100_000), [column.header, *column.cells]).maximum
    return full if column.no_wrap else min(full, column.min_width or _NARROWEST)


def _wrapped(text: str, width: int) -> str:
    """Returns text in lines of at most `width` cells, broken at spaces, and long words after signs such as =."""
    lines = []
    for line in text.split("\n"):
        rest = ""
        for word in re.findall(r"\S+\s*", line) if cell_len(line) > width else [line]:
            for piece in _PIECE.findall(word) if cell_len(word.rstrip()) > width else [word]:
                if rest and cell_len(rest) + cell_len(piece.rstrip()) > width:
                    lines.append(rest.rstrip())
                    rest = ""
                rest += piece
        lines.append(rest.rstrip())
    return "\n".join(lines)
