"""HTML of a page's texts and tables; everything from records is escaped."""

import html
from collections.abc import Iterable, Sequence

from simulator.host.text import one_line


def escaped(value: object) -> str:
    """Returns a text as HTML that shows it, with nothing invisible left in it."""
    return html.escape(one_line(str(value)))


def breakable(text: str, *marks: str) -> str:
    """Returns a text as HTML with places where a long name may be broken: after underscores and the marks given."""
    shown = escaped(text)
    for mark in ("_", *marks):
        shown = shown.replace(mark, f"{mark}<wbr>")
    return shown


def listed(tag: str, texts: Iterable[str]) -> str:
    """Returns texts as HTML, each in an element of its own."""
    return "".join(f"<{tag}>{escaped(text)}</{tag}>" for text in texts)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], name: str) -> str:
    """Returns a table whose first column heads its rows, in a box of its own that scrolls."""
    titles = "".join(f'<th scope="col">{escaped(title)}</th>' for title in header)
    lines = []
    for first, *rest in rows:
        cells = "".join(f"<td>{breakable(cell)}</td>" for cell in rest)
        lines.append(f'<tr><th scope="row">{breakable(first, ".")}</th>{cells}</tr>')
    body = f"<thead><tr>{titles}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{name}"><table class="{name}">{body}</table></div>'
    )
