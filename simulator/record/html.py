"""HTML of records for notebooks: small tables and curves, without a library for figures."""

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

_WIDTH, _HEIGHT, _ROOM = 260, 90, 6  # of a curve, in pixels


def table_html(frame: pd.DataFrame, columns: Sequence[str]) -> str:
    """Returns some columns of a frame as an HTML table."""
    if frame.empty:
        return "<p>no runs</p>"
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in columns)
    rows = "".join(_row(row) for row in frame[list(columns)].itertuples(index=False, name=None))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def mapping_html(values: Mapping[str, Any]) -> str:
    """Returns names and values as an HTML table."""
    return f"<table><tbody>{''.join(_row(item) for item in values.items())}</tbody></table>"


def _row(values: Iterable[Any]) -> str:
    return "<tr>" + "".join(f"<td>{html.escape(shown(value))}</td>" for value in values) + "</tr>"


def shown(value: Any) -> str:
    """Returns a number with four significant digits or thousands separators, a dash where nothing is known."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"  # noqa: RUF001 - an en dash, as tables print a missing value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def curve_svg(x: Sequence[float], y: Sequence[float], title: str) -> str:
    """Returns a curve of the points that are finite, as SVG; nothing if there are fewer than two."""
    points = [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(a) and math.isfinite(b)]
    if len(points) < 2:
        return ""
    left, right = min(a for a, _ in points), max(a for a, _ in points)
    low, high = min(b for _, b in points), max(b for _, b in points)

    def place(a: float, b: float) -> str:
        across = (a - left) / ((right - left) or 1.0)
        up = (b - low) / ((high - low) or 1.0)
        return f"{_ROOM + across * (_WIDTH - 2 * _ROOM):.1f},{_HEIGHT - _ROOM - up * (_HEIGHT - 2 * _ROOM):.1f}"

    line = " ".join(place(a, b) for a, b in points)
    caption = html.escape(f"{title}: {shown(points[0][1])} to {shown(points[-1][1])}")
    return (
        f'<figure style="margin:0"><svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{caption}">'
        f'<polyline fill="none" stroke="#0072B2" stroke-width="1.5" points="{line}"/></svg>'
        f"<figcaption>{caption}</figcaption></figure>"
    )
