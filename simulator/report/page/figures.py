"""Plotly figures of a page, as mappings of plain values: traces and layouts."""

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from simulator.host.format import perplexity, short_duration, significant
from simulator.report.axes import time_unit
from simulator.report.group_keys import one_line
from simulator.report.grouping import Group
from simulator.report.page.numbers import short, shortened, target_text
from simulator.report.page.rounds import SHARES, shares, staleness_by_worker, staleness_counts, timeline, workers_of
from simulator.report.style import COLORS, LOST, PHASES

_INK, _MUTED, _GRID, _PAPER = "#1b1e23", "#5a6472", "#e4e8ec", "#ffffff"
_AXIS = {
    "gridcolor": _GRID,
    "linecolor": _MUTED,
    "zerolinecolor": _GRID,
    "tickcolor": _MUTED,
    "automargin": True,
    "separatethousands": True,
    "exponentformat": "none",
    "title": {"font": {"size": 13, "color": _MUTED}},
}
TEMPLATE: Mapping[str, Any] = {
    "layout": {
        "paper_bgcolor": _PAPER,
        "plot_bgcolor": _PAPER,
        "font": {"size": 12.5, "color": _INK},
        "hoverlabel": {"bgcolor": _PAPER, "bordercolor": _MUTED, "font": {"color": _INK}, "align": "left"},
        "hovermode": "closest",
        "showlegend": False,
        "margin": {"l": 58, "r": 16, "t": 12, "b": 48},
        "legend": {
            "orientation": "h",
            "xref": "container",
            "x": 0,
            "y": 1,
            "yanchor": "bottom",
            "traceorder": "normal",
        },
        "barmode": "overlay",
        "bargap": 0,
        "xaxis": {**_AXIS, "showline": True, "ticks": "outside"},
        "yaxis": _AXIS,
    }
}
_DASHES = ("solid", "dash", "dot", "dashdot")
_SYMBOLS = (
    "circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "triangle-left", "triangle-right",
)  # fmt: skip


def looks(groups: Sequence[Group], first: Sequence[int]) -> list[dict[str, Any]]:
    """Returns the name, the line and the marker of each group's curves, no two alike among the first 36.

    Args:
        groups: All groups.
        first: Those that are shown at first.
    """
    places = {index: place for place, index in enumerate(dict.fromkeys([*first, *range(len(groups))]))}
    return [_look(places[index]) | {"name": html.escape(one_line(group.label))} for index, group in enumerate(groups)]


def _look(place: int) -> dict[str, Any]:
    color = COLORS[place % len(COLORS)]
    edge = {"width": 0.6, "color": _PAPER}
    marker = {"color": color, "symbol": _SYMBOLS[place % len(_SYMBOLS)], "size": 6, "line": edge}
    return {"line": {"color": color, "dash": _DASHES[place % len(_DASHES)], "width": 2}, "marker": marker}


def levels(groups: Sequence[Group], targets: Sequence[float]) -> list[dict[str, Any]]:
    """Returns horizontal lines: at the best possible perplexity, where it is known, and at the targets."""
    losses = [run["best_loss"] for group in groups for run in group.summaries if run["best_loss"] is not None]
    found = [(math.exp(min(losses)), "dot", f"best possible {perplexity(math.exp(min(losses)))}")] if losses else []
    found += [(target, "dash", f"target {target_text(target)}") for target in targets]
    return [
        {
            "type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": short(level), "y1": short(level),
            "line": {"color": _MUTED, "width": 1.2, "dash": dash},
            "label": {
                "text": text, "textposition": "start", "yanchor": "bottom",
                "font": {"color": _MUTED, "size": 11},
            },
        }
        for level, dash, text in found
    ]  # fmt: skip


def staleness_figure(group: Group) -> dict[str, Any] | None:
    """Returns the histogram of the staleness of a group's rounds, None where none arrived."""
    held = staleness_counts(group)
    width, rounds = held["width"], held["rounds"]
    if not rounds:
        return None
    names = [
        str(first) if width == 1 else f"{first} to {first + width - 1}"
        for first in range(0, width * len(rounds), width)
    ]
    return {
        "x": [place * width + (width - 1) / 2 for place in range(len(rounds))],
        "y": shortened([100 * count / sum(rounds) for count in rounds]),
        "customdata": [[name, f"{count:,}"] for name, count in zip(names, rounds, strict=True)],
    }


def details(group: Group) -> dict[str, Any]:
    """Returns the figures of one run of a group, the first in which a round arrived, by where they are drawn."""
    record = next(record for record in group.records if not record.rounds.empty)
    table = workers_of(record)
    return {
        "timeline-plot": _timeline(timeline(record, table)),
        "shares-plot": _shares(shares(table)),
        "by-worker-plot": _by_worker(staleness_by_worker(group)),
    }


def _timeline(held: Mapping[str, Any]) -> dict[str, Any]:
    unit, count = time_unit(held["first_s"]), len(held["workers"])

    def scaled(values: Sequence[float]) -> list[Any]:
        return shortened([value / unit.size for value in values])

    traces = [
        _bars(phase, row, scaled(length), unit.unit, base=scaled(start), customdata=number)
        for phase, (row, start, length, number) in held["bars"].items()
    ]
    row, start, length = held["absent"]
    traces.append(_bars("absent", row, scaled(length), unit.unit, base=scaled(start)))
    row, time = held["lost"]
    mark = {"symbol": "x", "size": 8, "color": LOST, "line": {"width": 1, "color": _PAPER}}
    traces.append(_marks("round lost", row, scaled(time), unit.unit, mark))
    tick = {"symbol": "line-ns-open", "size": 13, "color": _INK, "line": {"width": 1.2, "color": _INK}}
    traces.append(_marks("server update", [count] * len(held["updates"]), scaled(held["updates"]), unit.unit, tick))
    layout = _rows([*_names(held["workers"]), "server"])
    layout["xaxis"] = {
        "title": {"text": f"simulated time ({unit.unit})"},
        "range": scaled([0, held["first_s"]]),
        "minallowed": 0,
        "maxallowed": held["until_s"] / unit.size,
    }
    said = f"Seed {held['seed']}. Shown at first: {short_duration(held['first_s'])} of {short_duration(held['end_s'])}"
    more = "; drag or zoom for the rest."
    if held["until_s"] < held["end_s"]:
        more = f"; drag to the right for more, up to {short_duration(held['until_s'])}, which is what this page holds."
    rows = "Rows are workers, with their measured seconds per local step. Blank: a round that never arrived."
    note = " ".join(filter(None, [said + more, _sampled(count, held["of"]), rows]))
    return {"traces": traces, "layout": layout, "note": note}


def _shares(held: Mapping[str, Any]) -> dict[str, Any]:
    names = {name: "lost or absent" if name == "lost" else name for name in SHARES if any(held[name])}
    rows = list(range(len(held["worker"])))
    traces = [
        _bars(key, rows, shortened([share and 100 * share for share in held[key]]), "%", name=name)
        for key, name in names.items()
    ]
    layout = _rows(_names(zip(held["worker"], held["step_s"], strict=True))) | {"barmode": "stack"}
    layout["xaxis"] = {"title": {"text": "share of the time (%)"}, "range": [0, 100], "fixedrange": True}
    return {"traces": traces, "layout": layout, "note": _sampled(len(rows), held["of"])}


def _by_worker(held: Mapping[str, Any]) -> dict[str, Any]:
    labels, spread = held["labels"], held["spread"]
    texts = [
        f"middle half {significant(first)} to {significant(third)}, all {significant(low)} to {significant(high)}"
        for low, first, _, third, high in spread
    ]
    means = {
        "type": "scatter", "mode": "markers", "x": labels, "y": [each[2] for each in spread], "customdata": texts,
        "marker": {"color": COLORS[0], "size": 8, "line": {"width": 1, "color": _PAPER}},
        "hovertemplate": "<b>%{x}</b><br>mean %{y:.3g}<br>%{customdata}<extra></extra>",
    }  # fmt: skip
    layout = {
        "height": 320,
        "margin": {"l": 58, "r": 16, "t": 12, "b": 60},
        "xaxis": {"showgrid": False, "zeroline": False, "fixedrange": True, "type": "category"},
        "yaxis": {"title": {"text": "staleness"}, "rangemode": "tozero"},
    }
    return {"traces": [_spans(held, 0, 4, 1.5, 1), _spans(held, 1, 3, 9, 0.45), means], "layout": layout}


def _spans(held: Mapping[str, Any], low: int, high: int, width: float, opacity: float) -> dict[str, Any]:
    """Returns a vertical line for each worker or tenth, from one number of its spread to another."""
    x = [place for label in held["labels"] for place in (label, label, None)]
    y = [end for each in held["spread"] for end in (each[low], each[high], None)]
    line = {"color": COLORS[0], "width": width}
    return {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "x": x, "y": y, "line": line, "opacity": opacity}


def _bars(phase: str, row: Sequence[int], length: Sequence[Any], unit: str, **further: Any) -> dict[str, Any]:
    """Returns horizontal bars in the colour and hatch of a phase; `base` is where they start, customdata the round."""
    face, ink, hatch = PHASES[phase]
    pattern = {"shape": hatch[:1], "fgcolor": ink, "bgcolor": face, "fillmode": "replace", "size": 5, "solidity": 0.22}
    start = "from %{base:,.4~r} to " if "base" in further else ""
    number = "<br>round %{customdata}" if "customdata" in further else ""
    return {
        "type": "bar", "orientation": "h", "name": phase, "y": row, "x": length, "width": 0.74,
        "marker": {"color": face, "line": {"width": 0}, "pattern": pattern},
        "hovertemplate": f"<b>%{{fullData.name}}</b> {start}%{{x:,.4~r}} {unit}{number}<extra></extra>",
        **further,
    }  # fmt: skip


def _marks(name: str, row: Sequence[int], time: Sequence[Any], unit: str, marker: Mapping[str, Any]) -> dict[str, Any]:
    hover = f"<b>{name}</b> at %{{x:,.4~r}} {unit}<extra></extra>"
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "y": row,
        "x": time,
        "marker": marker,
        "hovertemplate": hover,
    }


def _rows(names: Sequence[str]) -> dict[str, Any]:
    """Returns the layout of bars in named rows, the first one above."""
    rows = list(range(len(names)))
    axis = {"range": [len(rows) - 0.4, -0.6], "tickvals": rows, "ticktext": names}
    return {
        "height": 100 + 26 * len(rows),
        "showlegend": True,
        "margin": {"l": 92, "r": 16, "t": 28, "b": 48},
        "yaxis": {**axis, "fixedrange": True, "showgrid": False, "zeroline": False},
    }


def _names(workers: Iterable[Sequence[Any]]) -> list[str]:
    return [str(worker) if step_s is None else f"{worker}  ·  {significant(step_s)} s" for worker, step_s in workers]


def _sampled(count: int, of: int) -> str:
    return f"{count} of {of:,} workers, evenly spaced from fastest to slowest." if count < of else ""
