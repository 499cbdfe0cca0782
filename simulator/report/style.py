"""Style of figures: one private set of matplotlib settings, applied for as long as a figure is built or written.

Curves can be told apart without colour: each has its own pair of line style and marker.
"""

import io
import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from simulator.report.fonts import any_weight, drawable, families
from simulator.report.group_keys import ReportError

SINGLE_COLUMN_IN = 3.5
WIDE_IN = 5.5
_LONGEST_ROW = 60  # characters
_NOTEBOOK_DPI = 120

_SETTINGS: dict[Any, Any] = {  # Any: matplotlib's stubs list every key as a literal
    "font.size": 8.0,
    "text.parse_math": False,  # a dollar sign in a variant's name is a dollar sign
    "axes.labelsize": 8.0,
    "axes.titlesize": 9.0,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": "#d9d9d9",
    "grid.linewidth": 0.5,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.fontsize": 8.0,
    "legend.title_fontsize": 8.0,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "legend.columnspacing": 1.2,
    "legend.borderaxespad": 0.0,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.2,
    "lines.markeredgecolor": "white",
    "lines.markeredgewidth": 0.4,
    "hatch.linewidth": 0.5,
    "savefig.dpi": 200,
    "svg.hashsalt": "tardigrad",  # makes the ids in an SVG a function of its content
    "svg.fonttype": "path",
}

# Okabe and Ito's palette without its yellow, which is too light for a line on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.2, 1.2, 1.2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
LOST = "#b22222"
# what a worker does: face colour, edge colour and hatch; no two share a hatch, so they differ without colour too
PHASES = {
    "compute": ("#0072B2", "white", ""),
    "pull": ("#56B4E9", "#444444", "/////"),
    "push": ("#E69F00", "#444444", "\\\\\\\\\\"),
    "wait": ("#f2f2f2", "#444444", "...."),
    "absent": ("white", LOST, "xxxx"),
    "lost": ("#f3c9c2", LOST, "----"),
}
MESSAGE_COLORS = {"offer": ("#E69F00", "#9a6a00"), "answer": ("white", "#0072B2")}  # face and edge: full and empty
MOST_LINE_STYLES = 36  # the least common multiple of 4 line styles and 9 markers


class LineStyle(NamedTuple):
    """Style of the curve of one group of runs; the pair (linestyle, marker) is its own."""

    color: str
    linestyle: Any
    marker: str


def line_styles(count: int) -> list[LineStyle]:
    """Returns `count` styles, no two with the same line style and marker.

    Raises:
        ReportError: If that is more than can be told apart.
    """
    if count > MOST_LINE_STYLES:
        raise ReportError(
            f"{count} variants and sweep points in one figure, of which at most {MOST_LINE_STYLES} can be told apart: "
            "choose fewer runs"
        )
    return [
        LineStyle(COLORS[i % len(COLORS)], DASHES[i % len(DASHES)], MARKERS[i % len(MARKERS)]) for i in range(count)
    ]


@contextmanager
def styled(texts: Iterable[str] = ()) -> Iterator[None]:
    """Applies this package's settings, over matplotlib's own defaults, until the block ends.

    Args:
        texts: What the figure writes besides its own words: names from files, for which fonts have to be found.
    """
    with mpl.rc_context(), any_weight():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS | {"font.family": families(texts)})
        yield


class ShownFigure(Figure):
    """A figure that shows itself in notebooks, whether or not matplotlib's own inline backend is active."""

    def _repr_png_(self) -> bytes:
        image = io.BytesIO()
        with styled():
            self.savefig(image, format="png", dpi=_NOTEBOOK_DPI)
        return image.getvalue()


def new_figure(size: tuple[float, float]) -> Figure:
    """Returns a figure of (width, height) inches, laid out so that no label is cut off."""
    figure = ShownFigure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def new_axes(size: tuple[float, float]) -> tuple[Figure, Axes]:
    """Returns such a figure with one axes."""
    figure = new_figure(size)
    return figure, figure.add_subplot()


def panels(figure: Figure, count: int, columns: int, x_label: str, y_label: str) -> Iterator[Axes]:
    """Yields the axes of `count` panels, row by row; those at the left and at the bottom are labelled."""
    for number in range(count):
        axes = figure.add_subplot(math.ceil(count / columns), columns, number + 1)
        axes.set_xlabel(x_label if number >= count - columns else "")
        axes.set_ylabel(y_label if number % columns == 0 else "")
        yield axes


def phase_patch(name: str) -> Patch:
    """Returns the legend's entry of one of `PHASES`."""
    face, edge, hatch = PHASES[name]
    return Patch(facecolor=face, edgecolor="#444444" if edge == "white" else edge, linewidth=0.4, hatch=hatch)


def rows_figure(labels: Sequence[str], size: tuple[float, float] | None) -> tuple[Figure, Axes]:
    """Returns a figure with a row for each label, as wide and as high as the labels ask for unless a size is given."""
    wrapped = [textwrap.fill(literal(label), _LONGEST_ROW) for label in labels]
    lines = max(1 + label.count("\n") for label in wrapped)
    width_in = 3.0 + 0.064 * max(len(line) for label in wrapped for line in label.split("\n"))
    figure, axes = new_axes(size or (max(width_in, WIDE_IN), 0.9 + (0.07 + 0.12 * lines) * len(labels)))
    axes.set_yticks(range(len(labels)), wrapped)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    return figure, axes


class LegendText(NamedTuple):
    """A legend's words, arranged for a figure's width.

    Attributes:
        labels: One per entry, broken into lines.
        title: Broken into lines; empty without one.
        columns: Number of columns.
        height_in: About how high the legend will be, inches.
    """

    labels: list[str]
    title: str
    columns: int
    height_in: float


def arrange_legend(labels: Sequence[str], title: str, width_in: float) -> LegendText:
    """Returns the labels and the title in as many columns, and broken into as many lines, as the width asks for."""
    characters = int(width_in * 14.5)  # of the legend's font, in one line
    handle = 7  # characters that an entry's line and marker take
    columns = next((n for n in (4, 3, 2) if len(labels) >= n and max(map(len, labels)) <= characters // n - handle), 1)
    wrapped = [textwrap.fill(literal(label), characters // columns - handle) for label in labels]
    wrapped_title = textwrap.fill(title, characters)
    per_column = math.ceil(len(labels) / columns)
    lines = max(
        sum(1 + label.count("\n") for label in wrapped[start : start + per_column])
        for start in range(0, len(wrapped), per_column)
    )
    lines += 1 + wrapped_title.count("\n") if title else 0
    return LegendText(wrapped, wrapped_title, columns, 0.165 * lines)


def draw_legend(figure: Figure, handles: Sequence[Artist], text: LegendText, *, below: bool = False) -> None:
    """Puts the legend above or below the axes, where it covers no data."""
    figure.legend(
        handles,
        text.labels,
        title=text.title or None,
        ncols=text.columns,
        loc="outside lower center" if below else "outside upper center",
    )


def literal(text: str) -> str:
    """Returns the text so that it is shown: matplotlib hides labels that begin with an underscore."""
    text = drawable(text)
    return f" {text}" if text.startswith("_") else text


def wrapped_title(figure: Figure, text: str) -> str:
    """Returns the text broken into lines that fit the figure's width as a title."""
    return textwrap.fill(literal(text), int(figure.get_figwidth() * 9))
