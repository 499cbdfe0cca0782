"""Thin bars of messages in a timeline, and their numbers."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.patches import Patch

from simulator.report.axes import Unit
from simulator.report.rows import LANE, Rows, message_numbers
from simulator.report.spans import MESSAGES
from simulator.report.style import MESSAGE_COLORS, WIDE_IN

_HALF = 0.36 * LANE
_FONT_PT = 5.5
_DIGIT_PT = 3.6  # of the width of a number
_MOST_NUMBERS = 600


def draw_messages(axes: Axes, spans: pd.DataFrame, rows: Rows, unit: Unit) -> dict[str, Artist]:
    """Draws each message in its lane; returns the legend's entries.

    Args:
        axes: Whose x is set.
        spans: That are shown.
        rows: Of their nodes.
        unit: Of x.
    """
    entries: dict[str, Artist] = {}
    numbers, _ = message_numbers(spans)
    for what in MESSAGES:
        own = spans[spans["what"] == what]
        if own.empty:
            continue
        face, edge = MESSAGE_COLORS[what]
        bars = rectangles(own, rows.lane[own.index].to_numpy(), _HALF, unit)
        style: dict[str, Any] = {"facecolor": face, "edgecolor": edge, "linewidth": 0.6}
        axes.add_collection(PolyCollection(bars, label=what, zorder=2, **style))
        entries[what] = Patch(**style)
    if len(numbers) <= _MOST_NUMBERS:
        for x, y, text, place in _numbers(axes, spans.loc[numbers.index], numbers, rows, unit):
            axes.text(x, y, text, ha=place, va="center_baseline", fontsize=_FONT_PT, clip_on=True, zorder=3)
    return entries


def number_moments(axes: Axes, x: npt.NDArray[np.float64], y: float, numbers: "pd.Series[int]") -> None:
    """Writes a number behind each mark in a row, where there is room before the next."""
    per_pt = _per_pt(axes)
    for each, after, number in zip(x, [*x[1:], np.inf], numbers.tolist(), strict=True):
        if after - each > (_DIGIT_PT * len(str(number)) + 2) * per_pt:
            style: dict[str, Any] = {"ha": "left", "va": "center_baseline", "fontsize": _FONT_PT, "clip_on": True}
            axes.text(each + 1.2 * per_pt, y, str(number), **style)


def rectangles(spans: pd.DataFrame, y: npt.NDArray[Any], half: float, unit: Unit) -> list[npt.NDArray[np.float64]]:
    """Returns the four corners of the bar of each span, in the units of the axes, shape (4, 2).

    Args:
        spans: That are drawn.
        y: Middle of each.
        half: Of a bar's height.
        unit: Of x.
    """
    left, right = spans["first_s"].to_numpy() / unit.size, spans["last_s"].to_numpy() / unit.size
    low, high = y - half, y + half
    corners = np.stack([left, left, right, right], axis=-1), np.stack([low, high, high, low], axis=-1)
    return list(np.stack(corners, axis=-1))


def _numbers(
    axes: Axes, messages: pd.DataFrame, numbers: "pd.Series[int]", rows: Rows, unit: Unit
) -> Iterator[tuple[float, float, str, str]]:
    """Yields x, y, text and alignment of numbers: inside of long bars, else behind or before them if there is room."""
    per_pt, (left, right) = _per_pt(axes), axes.get_xlim()
    lane = rows.lane[messages.index]
    table = pd.DataFrame({"first": messages["first_s"], "last": messages["last_s"], "y": lane, "number": numbers})
    for _, own in table.groupby("y"):
        y = float(own["y"].iloc[0])
        first, last = own["first"].to_numpy() / unit.size, own["last"].to_numpy() / unit.size
        before = -np.inf
        for x, end, after, number in zip(first, last, [*first[1:], np.inf], own["number"].tolist(), strict=True):
            text, wide = str(number), (_DIGIT_PT * len(str(number)) + 1) * per_pt
            low, high = max(x, left), min(end, right)
            used = end
            if high - low >= wide:
                yield (low + high) / 2, y, text, "center"
            elif after - end >= wide:
                yield end + per_pt, y, text, "left"
                used = end + wide
            elif x - before >= wide:
                yield x - per_pt, y, text, "right"
            before = used


def _per_pt(axes: Axes) -> float:
    """Returns about how much of x a point of the figure is."""
    left, right = axes.get_xlim()
    figure = axes.get_figure(root=True)
    return (right - left) / (0.78 * 72 * (figure.get_figwidth() if figure is not None else WIDE_IN))
