"""Axes with units that suit the data and tick labels in plain numbers."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from simulator.host.format import significant

Against = Literal["simulated_s", "local_steps", "tokens", "bytes_sent", "money"]
"""What perplexity is drawn against: columns of the evaluations, or money spent by then, see `money`."""

_UNITS: Mapping[str, Sequence[tuple[float, float, str]]] = {  # of values up to a limit: size, name
    "time": ((180.0, 1.0, "s"), (3 * 3600.0, 60.0, "min"), (72 * 3600.0, 3600.0, "h"), (math.inf, 86400.0, "days")),
    "bytes": ((1e3, 1.0, "bytes"), (1e6, 1e3, "kB"), (1e9, 1e6, "MB"), (1e12, 1e9, "GB"), (math.inf, 1e12, "TB")),
    "tokens": ((1e6, 1.0, ""), (1e9, 1e6, "millions"), (math.inf, 1e9, "billions")),
    "percent": ((math.inf, 0.01, "%"),),
    "number": ((math.inf, 1.0, ""),),
}
_LABELS: Mapping[str, tuple[str, str]] = {  # of axes, with the kind of their units
    "simulated_s": ("simulated time", "time"),
    "bytes_sent": ("data sent", "bytes"),
    "tokens": ("tokens", "tokens"),
    "money": ("money spent", "number"),
    "local_steps": ("local steps (over all workers)", "number"),
}

# Within a decade, from dense to sparse: the densest set with few enough ticks is used.
_LOG_STEPS = ((1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0), (1.0, 2.0, 3.0, 5.0), (1.0, 2.0, 5.0), (1.0, 3.0), (1.0,))
_MOST_LOG_TICKS = 7


class Unit(NamedTuple):
    """Unit of an axis: values are divided by `size` and named `unit`."""

    size: float
    unit: str


def unit_of(kind: str, largest: float) -> Unit:
    """Returns the unit in which `largest` is a handy number; for kinds see `_UNITS`; of time in seconds."""
    return next(Unit(size, name) for limit, size, name in _UNITS[kind] if not largest >= limit)


def axis_of(against: Against, largest: float, currency: str = "") -> tuple[Unit, str]:
    """Returns the unit and the label of an axis that ends at `largest`."""
    label, kind = _LABELS[against]
    unit = unit_of(kind, largest)
    within = currency if against == "money" else unit.unit
    return unit, f"{label} ({within})" if within else label


def plain_ticks(axis: Axis, *, most: int = 6, integer: bool = False) -> None:
    """Labels a linear axis in plain numbers with thousands separators."""
    axis.set_major_locator(MaxNLocator(nbins=most, integer=integer, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: significant(round(value, 10), 4)))


def log_ticks(low: float, high: float) -> list[float]:
    """Returns round numbers from `low` to `high`, at most eight and where possible at least three."""
    if high / low < 2.5:  # within such a range even steps look even, and round numbers are rare
        values = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        return [float(value) for value in values if low <= value <= high]
    decades = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    for steps in _LOG_STEPS:
        inside = [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]
        if len(inside) <= _MOST_LOG_TICKS:
            return inside
    every = math.ceil(len(decades) / _MOST_LOG_TICKS)
    return [10.0**decade for decade in decades if decade % every == 0 and low <= 10.0**decade <= high]


def log_perplexity_axis(axes: Axes, low: float, high: float) -> None:
    """Makes y logarithmic over [low, high], every tick labelled in plain numbers."""
    log_axis(axes.yaxis, low, high)
    axes.set_ylabel("validation perplexity")


def log_axis(axis: Axis, low: float, high: float, show: Callable[[float], str] = significant) -> None:
    """Makes an axis logarithmic over [low, high], every tick labelled by `show`."""
    name = "x" if axis is axis.axes.xaxis else "y"
    axis.axes.set(**{f"{name}scale": "log", f"{name}lim": (low, high)})
    axis.set_major_locator(FixedLocator(log_ticks(low, high)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: show(value)))
    axis.set_minor_locator(NullLocator())


def color_norm(values: np.ndarray) -> Normalize:
    """Returns the norm of a scale of colours for all finite values: logarithmic if they differ more than tenfold."""
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if low == high:
        low, high = low - 0.05 * (abs(low) or 1.0), high + 0.05 * (abs(low) or 1.0)
    return LogNorm(low, high) if low > 0 and high > 10 * low else Normalize(low, high)


def draw_color_bar(figure: Figure, norm: Normalize, colors: Colormap, label: str, unit: Unit) -> None:
    """Draws the scale of colours beside all axes, labelled in plain numbers of a unit."""
    bar = figure.colorbar(ScalarMappable(norm, colors), ax=figure.axes, pad=0.02, aspect=24)
    bar.outline.set_linewidth(0.5)
    low, high = (float(end or 0.0) / unit.size for end in (norm.vmin, norm.vmax))
    ticks = log_ticks(low, high) if isinstance(norm, LogNorm) else MaxNLocator(5).tick_values(low, high)
    inside = [tick for tick in ticks if low <= tick <= high]
    bar.set_ticks([tick * unit.size for tick in inside], labels=[significant(tick, 3) for tick in inside])
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.set_label(f"{label} ({unit.unit})" if unit.unit else label)
