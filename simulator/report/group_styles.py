"""Styles that tell groups of runs apart in a figure: looks of their own, or a scale if they differ in a number."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, LogNorm, Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from simulator.host.format import significant
from simulator.report.axes import log_ticks
from simulator.report.fonts import drawable
from simulator.report.group_keys import ABSENT, is_number
from simulator.report.grouping import Group, short_names
from simulator.report.style import COLORS, LINE_STYLES, MARKERS, Look, looks

_FEWEST_VALUES = 5  # of a number that makes a scale
_DARK_GREY = "#444444"


class Scale(NamedTuple):
    """A number by which curves are coloured.

    Attributes:
        name: Its label.
        norm: From the number to 0 and 1.
        colors: From 0 and 1 to colours.
    """

    name: str
    norm: Normalize
    colors: Colormap


class Dress(NamedTuple):
    """Styles of groups.

    Attributes:
        looks: One per group.
        entries: Of a legend: label and look; of a scale, what else tells groups apart.
        scale: None where every group has a look of its own.
    """

    looks: list[Look]
    entries: list[tuple[str, Look]]
    scale: Scale | None


def sequential(lightest: float = 0.9) -> Colormap:
    """Returns a colour map from dark to light that reads in grey too, up to a share of its full range."""
    colors = mpl.colormaps["viridis"]
    return ListedColormap([colors(lightest * step / 255) for step in range(256)])


def dress(groups: Sequence[Group]) -> Dress:
    """Returns the styles of groups.

    More groups than there are colours, which differ in a number, are coloured by it; what else tells them apart, four
    things at most, is the line style. Others have a line style and a marker of their own.

    Raises:
        ReportError: If there are more groups than can be told apart.
    """
    key = _number(groups)
    if key is None:
        own = looks(len(groups))
        return Dress(own, [(group.label, look) for group, look in zip(groups, own, strict=True)], None)
    numbers = [float(group.keys[key].value or 0.0) for group in groups]
    low, high = min(numbers), max(numbers)
    norm = LogNorm(low, high) if low > 0 and high >= 20 * low else Normalize(low, high)
    colors = sequential()
    rests = _rests(groups, key)
    styles = {rest: number for number, rest in enumerate(dict.fromkeys(rests))}
    own = [
        Look(to_hex(colors(norm(number))), LINE_STYLES[styles[rest]], MARKERS[styles[rest]])
        for number, rest in zip(numbers, rests, strict=True)
    ]
    entries = [(rest, Look(_DARK_GREY, LINE_STYLES[style], MARKERS[style])) for rest, style in styles.items() if rest]
    return Dress(own, entries, Scale(short_names([key])[0].replace("_", " "), norm, colors))


def is_scaled(groups: Sequence[Group]) -> bool:
    """Returns whether `dress` colours the groups by a number, so that any number of them can be shown."""
    return _number(groups) is not None


def draw_scale(figure: Figure, scale: Scale) -> None:
    """Draws the colour bar beside the axes."""
    bar = figure.colorbar(ScalarMappable(scale.norm, scale.colors), ax=figure.axes[0], pad=0.02, aspect=28)
    bar.set_label(drawable(scale.name))
    bar.outline.set_linewidth(0.5)
    low, high = float(scale.norm.vmin or 0.0), float(scale.norm.vmax or 1.0)
    if isinstance(scale.norm, LogNorm):
        bar.ax.yaxis.set_major_locator(FixedLocator(log_ticks(low, high)))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: significant(value, 3)))


def _number(groups: Sequence[Group]) -> str | None:
    """Returns the key whose number colours the groups, None where they have looks of their own."""
    if len(groups) <= len(COLORS):
        return None
    for key in dict.fromkeys(key for group in groups for key in group.keys):
        values = [group.keys[key].value if key in group.keys else None for group in groups]
        numbers = [value for value in values if is_number(value) and math.isfinite(float(value or 0.0))]
        if len(numbers) < len(values) or len(set(numbers)) < _FEWEST_VALUES:
            continue
        if len(set(_rests(groups, key))) <= len(LINE_STYLES):
            return key
    return None


def _rests(groups: Sequence[Group], key: str) -> list[str]:
    """Returns the values that tell each group from others besides a key; those that all have in common are left out."""
    others = [other for other in dict.fromkeys(name for group in groups for name in group.keys) if other != key]
    shown = {other: [group.keys.get(other, ABSENT).shown for group in groups] for other in others}
    differ = [other for other in others if len(set(shown[other])) > 1]
    names = dict(zip(differ, short_names(differ), strict=True))
    return [
        ", ".join(
            shown[other][number] if other in ("name", "variant") else f"{names[other]}={shown[other][number]}"
            for other in differ
        )
        for number in range(len(groups))
    ]
