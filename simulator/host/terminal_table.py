"""Tables for the terminal that fit its width: no number is ever cut."""

import re
from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.styled import Styled
from rich.table import Column, Table
from rich.text import Text

from simulator.host.text import one_line

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
        words: Headers of its first columns, see `add_words`.
        numbers: Headers of the columns after them, see `add_numbers`.
        leading: Empty lines between rows.
    """

    def __init__(
        self,
        title: str | None = None,
        caption: str | None = None,
        *,
        keys: int = 1,
        words: Sequence[str] = (),
        numbers: Sequence[str] = (),
        leading: int = 0,
    ):
        super().__init__(
            title=Text(one_line(title)) if title else None,
            caption=Text(one_line(caption)) if caption else None,
            header_style="bold",
            box=box.SIMPLE_HEAD,
            show_edge=False,
            padding=(0, 0),
            leading=leading,
        )
        self.keys = keys
        for header in words:
            self.add_words(header)
        for header in numbers:
            self.add_numbers(header)

    def add_words(self, header: str, *, narrowest: int = _NARROWEST) -> None:
        """Adds a column of names or sentences, which may be folded down to some width, in characters."""
        self.add_column(header, overflow="fold", min_width=narrowest)

    def add_numbers(self, header: str) -> None:
        """Adds a column of numbers, at the right."""
        self.add_column(header, justify="right", no_wrap=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draws the parts for which there is room; titles and captions that are wider go over the whole width."""
        full = [_full_width(column, console, options) for column in self.columns]
        parts = self._parts(full, options.max_width)
        for number, places in enumerate(parts):
            if number:
                yield Text("")
            widths = self._widths(places, full, options.max_width)
            total = sum(widths) + len(widths) - 1
            title = None if number else self.title
            caption = self.caption if number == len(parts) - 1 else None
            if isinstance(title, Text) and title.cell_len > total:
                yield Styled(title, "table.title")
                title = None
            behind = caption if isinstance(caption, Text) and caption.cell_len > total else None
            part = Table(
                title=title,
                caption=caption if behind is None else None,
                header_style=self.header_style,
                title_justify=self.title_justify,
                box=self.box,
                show_edge=False,
                padding=(0, 0),
                leading=self.leading,
            )
            for place, width in zip(places, widths, strict=True):
                column = self.columns[place]
                whole = bool(column.no_wrap) and width >= full[place]
                part.add_column(column.header, justify=column.justify, width=width, no_wrap=whole, overflow="fold")
            drawn = [self._drawn(place, width) for place, width in zip(places, widths, strict=True)]
            for cells in zip(*drawn, strict=True):
                part.add_row(*cells)
            yield part
            if behind is not None:
                yield Styled(behind, "table.caption")

    def _drawn(self, place: int, width: int) -> list[RenderableType]:
        """Returns the cells of a column; of words with line breaks where that reads best."""
        column = self.columns[place]
        if column.no_wrap:
            return list(column.cells)
        return [Text(_wrapped(cell.plain, width)) if isinstance(cell, Text) else cell for cell in column.cells]

    def _least(self, place: int, full: Sequence[int]) -> int:
        column = self.columns[place]
        return full[place] if column.no_wrap else min(full[place], column.min_width or _NARROWEST)

    def _parts(self, full: Sequence[int], room: int) -> list[list[int]]:
        """Returns the places of each part's columns: as few parts as there is room for, of about one width."""
        found = self._greedy(full, room)
        while room > 0 and len(found) > 1:
            room -= 1
            narrower = self._greedy(full, room)
            if len(narrower) > len(found):
                break
            found = narrower
        return found

    def _greedy(self, full: Sequence[int], room: int) -> list[list[int]]:
        keys = list(range(min(self.keys, len(self.columns))))
        first = sum(self._least(place, full) + 1 for place in keys) - 1
        parts, used = [list(keys)], first
        for place in range(len(keys), len(self.columns)):
            own = 1 + self._least(place, full)
            if used + own > room and len(parts[-1]) > len(keys):
                parts.append(list(keys))
                used = first
            parts[-1].append(place)
            used += own
        return parts

    def _widths(self, places: Sequence[int], full: Sequence[int], room: int) -> list[int]:
        """Returns the columns' widths: of words as there is room, of numbers less only where there is none at all."""
        widths = [self._least(place, full) for place in places]
        left = room - sum(widths) - len(widths) + 1
        if left < 0:
            widths[-1] = max(1, widths[-1] + left)
        while left > 0 and (narrow := [i for i, place in enumerate(places) if widths[i] < full[place]]):
            for i in narrow[:left]:
                widths[i] += 1
            left -= len(narrow)
        return widths


def _full_width(column: Column, console: Console, options: ConsoleOptions) -> int:
    """Returns the width of a column in which nothing is wrapped."""
    unlimited = options.update(width=100_000)
    return max(Measurement.get(console, unlimited, each).maximum for each in (column.header, *column.cells))


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
