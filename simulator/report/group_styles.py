"""Line styles that tell groups of runs apart in a figure, or a scale of colours if they differ in a number."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.colors import Colormap, ListedColormap, Normalize, to_hex

from simulator.report.axes import color_norm
from simulator.report.group_keys import ABSENT, is_number
from simulator.report.grouping import Group, short_names
from simulator.report.style import COLORS, DASHES, MARKERS, LineStyle, line_styles

_FEWEST_VALUES = 5  # of a number that makes a scale
_LIGHTEST = 0.9  # share of the full range of a colour map, beyond which lines on white are too light
_DARK_GREY = "#444444"


class Scale(NamedTuple):
    """A number by which curves are coloured.

    Attributes:
        name: Its label.
        norm: From the number to 0 and 1.
        colors: From 0 and 1 to colours, which read in grey too.
    """

    name: str
    norm: Normalize
    colors: Colormap


class GroupStyles(NamedTuple):
    """Styles of groups.

    Attributes:
        lines: One per group.
        entries: Of a legend: label and style; of a scale, what else tells groups apart.
        scale: None where every group has a style of its own.
    """

    lines: list[LineStyle]
    entries: list[tuple[str, LineStyle]]
    scale: Scale | None


def group_styles(groups: Sequence[Group]) -> GroupStyles:
    """Returns the styles of groups.

    More groups than there are colours, which differ in a number, are coloured by it; what else tells them apart, four
    things at most, is the line style. Others have a line style and a marker of their own.

    Raises:
        ReportError: If there are more groups than can be told apart.
    """
    key = _number(groups)
    if key is None:
        own = line_styles(len(groups))
        return GroupStyles(own, [(group.label, style) for group, style in zip(groups, own, strict=True)], None)
    numbers = [float(group.keys[key].value or 0.0) for group in groups]
    norm, viridis = color_norm(np.array(numbers)), mpl.colormaps["viridis"]
    colors = ListedColormap([viridis(_LIGHTEST * step / 255) for step in range(256)])
    differences = _other_differences(groups, key)
    place = {text: number for number, text in enumerate(dict.fromkeys(differences))}
    own = [
        LineStyle(to_hex(colors(norm(number))), DASHES[place[text]], MARKERS[place[text]])
        for number, text in zip(numbers, differences, strict=True)
    ]
    entries = [(text, LineStyle(_DARK_GREY, DASHES[i], MARKERS[i])) for text, i in place.items() if text]
    return GroupStyles(own, entries, Scale(short_names([key])[0].replace("_", " "), norm, colors))


def is_scaled(groups: Sequence[Group]) -> bool:
    """Returns whether `group_styles` colours the groups by a number, so that any number of them can be shown."""
    return _number(groups) is not None


def _number(groups: Sequence[Group]) -> str | None:
    """Returns the key whose number colours the groups, None where they have styles of their own."""
    if len(groups) <= len(COLORS):
        return None
    for key in dict.fromkeys(key for group in groups for key in group.keys):
        values = [group.keys[key].value if key in group.keys else None for group in groups]
        numbers = [value for value in values if is_number(value) and math.isfinite(float(value or 0.0))]
        if len(numbers) < len(values) or len(set(numbers)) < _FEWEST_VALUES:
            continue
        if len(set(_other_differences(groups, key))) <= len(DASHES):
            return key
    return None


def _other_differences(groups: Sequence[Group], key: str) -> list[str]:
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
