"""HTML of records for notebooks: small tables and curves, without a library for figures."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from simulator.host.format import UNKNOWN, known, significant

_WIDTH, _HEIGHT, _ROOM = 260, 90, 6  # of a curve, in pixels


def table_html(frame: pd.DataFrame, columns: Sequence[str]) -> str:
    """Returns some columns of a frame as an HTML table."""
    return "<p>no runs</p>" if frame.empty else _html(frame[list(columns)].astype(object), index=False)


def mapping_html(values: Mapping[str, Any]) -> str:
    """Returns names and values as an HTML table."""
    return _html(pd.DataFrame([[value] for value in values.values()], list(values), dtype=object), header=False)


def _html(frame: pd.DataFrame, **settings: Any) -> str:
    with pd.option_context("display.max_colwidth", None):
        return str(frame.map(shown).to_html(border=0, **settings))


def shown(value: Any) -> str:
    """Returns a number with four significant digits and thousands separators, a dash where nothing is known."""
    if value is None or (isinstance(value, float) and not known(value)):
        return UNKNOWN
    return significant(value, 4) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def curve_svg(x: Sequence[float], y: Sequence[float], title: str) -> str:
    """Returns a curve of the points that are finite, as SVG; nothing if there are fewer than two."""
    points = [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(a) and math.isfinite(b)]
    if len(points) < 2:
        return ""
    ends = [(min(each), max(each)) for each in zip(*points, strict=True)]
    size = (_WIDTH - 2 * _ROOM, _HEIGHT - 2 * _ROOM)
    shares = (
        [(value - low) / ((high - low) or 1.0) for value, (low, high) in zip(point, ends, strict=True)]
        for point in points
    )
    line = " ".join(f"{_ROOM + a * size[0]:.1f},{_ROOM + (1 - b) * size[1]:.1f}" for a, b in shares)
    caption = html.escape(f"{title}: {shown(points[0][1])} to {shown(points[-1][1])}")
    return (
        f'<figure style="margin:0"><svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{caption}">'
        f'<polyline fill="none" stroke="#0072B2" stroke-width="1.5" points="{line}"/></svg>'
        f"<figcaption>{caption}</figcaption></figure>"
    )
