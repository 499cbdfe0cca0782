"""Plotly figures of a page, as mappings of plain values: traces and layouts."""

import html
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from simulator.host.format import perplexity, short_duration, significant
from simulator.host.nodes import SERVER
from simulator.host.text import one_line
from simulator.record import RunRecord
from simulator.report.axes import Unit, unit_of
from simulator.report.grouping import Group, only
from simulator.report.page.limits import STALENESS_BARS, TIMELINE_MESSAGES, TIMELINE_ROUNDS, TIMELINE_WORKERS, WORKERS
from simulator.report.page.numbers import short, shortened, target_text
from simulator.report.pseudo_gradients import LABELS, diagnostics_of, has_diagnostics
from simulator.report.rows import LANE, Rows, message_numbers, node_names, nodes_of, rows_of
from simulator.report.spans import (
    ABSENT,
    LOST,
    MEETING,
    MESSAGES,
    ROUND_LOST,
    SPANS,
    UPDATE,
    phases_of,
    readable_s,
    spans_of,
)
from simulator.report.staleness import staleness_by_bin
from simulator.report.style import COLORS, MESSAGE_COLORS, PHASES
from simulator.report.style import LOST as LOST_COLOR
from simulator.report.worker_bins import ALL, sample_workers, worker_labels, workers_of

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


def staleness(group: Group) -> dict[str, Any] | None:
    """Returns the histogram of the staleness of a group's rounds, in few enough bars, None where none arrived."""
    stale = np.concatenate([record.rounds["staleness"].to_numpy() for record in group.records])
    if not len(stale):
        return None
    width = -(-(int(stale.max()) + 1) // STALENESS_BARS)
    rounds = np.bincount(stale // width)
    first = np.arange(len(rounds)) * width
    names = [f"{low}" if width == 1 else f"{low} to {low + width - 1}" for low in first]
    return {
        "x": shortened(first + (width - 1) / 2),
        "y": shortened(100 * rounds / len(stale)),
        "customdata": [[name, f"{count:,}"] for name, count in zip(names, rounds, strict=True)],
    }


def offers(group: Group) -> dict[str, Any] | None:
    """Returns the diagnostics of a group's offers over simulated minutes, None where a run recorded none."""
    if not all(map(has_diagnostics, group.records)):
        return None
    table = diagnostics_of([group])
    return {"x": shortened(table["simulated_s"] / 60)} | {name: shortened(table[name]) for name in LABELS}


def details(group: Group) -> dict[str, Any]:
    """Returns the figures of one run of a group, the first in which a round arrived, by where they are drawn."""
    arrived = only([group], lambda record: not record.rounds.empty)
    record = arrived[0].records[0]
    table = workers_of(record)
    return {
        "timeline-plot": timeline(record, table),
        "shares-plot": shares(table),
        "by-worker-plot": staleness_by_worker(arrived[0]),
    }


def timeline(record: RunRecord, table: pd.DataFrame) -> dict[str, Any]:
    """Returns what some workers did, from the start for as long as the rounds are few enough.

    Args:
        record: A run in which at least one round arrived.
        table: Of its workers.
    """
    end_s = float(record.summary["simulated_seconds"])
    shown = sample_workers(table, TIMELINE_WORKERS)
    rounds = record.rounds[record.rounds["worker"].isin(shown)].sort_values("ready_s", kind="stable")
    until_s = end_s if len(rounds) <= TIMELINE_ROUNDS else float(rounds["ready_s"].iloc[TIMELINE_ROUNDS])
    if until_s <= 0:  # more workers' first rounds than are held
        until_s = float(rounds["arrival_s"].iloc[:TIMELINE_ROUNDS].max())
    first_s = min(until_s, readable_s(rounds))
    unit = unit_of("time", first_s)
    spans = spans_of(record, shown, until_s)
    nodes = nodes_of(record, shown)
    rows = rows_of(nodes, spans[spans["first_s"] < until_s])
    moments = spans[spans["first_s"] <= until_s]
    spans = spans[spans["first_s"] < until_s].assign(length_s=np.minimum(spans["last_s"], until_s) - spans["first_s"])
    messages = spans[spans["what"].isin(MESSAGES)].sort_values("first_s", kind="stable")
    traces = []
    for what in (*phases_of(spans), ABSENT):
        part = spans[spans["what"] == what]
        own = {"base": shortened(part["first_s"] / unit.size)}
        own |= {"customdata": record.rounds["round"][part["row"]].tolist()} if what in SPANS else {}
        traces.append(_bars(what, rows.place[part["worker"]], part["length_s"] / unit.size, unit.unit, **own))
    for what in MESSAGES:
        part = messages.head(TIMELINE_MESSAGES)
        part = part[part["what"] == what]
        if len(part):
            traces.append(_thin_bars(what, rows.lane[part.index], part, unit, node_names(record, nodes)))
    cross = {"symbol": "x", "size": 8, "color": LOST_COLOR, "line": {"width": 1, "color": _PAPER}}
    tick = {"symbol": "line-ns-open", "size": 13, "color": _INK, "line": {"width": 1.2, "color": _INK}}
    for what, marker in ((ROUND_LOST, cross), (UPDATE, tick), (MEETING, tick | {"size": 20})):
        part = moments[moments["what"] == what]
        if what != ROUND_LOST:
            part = part.sort_values("first_s", kind="stable").head(TIMELINE_ROUNDS)
        if len(part) or what == ROUND_LOST or (what == UPDATE and SERVER in nodes):
            traces.append(_marks(what, shortened(rows.place[part["worker"]]), part["first_s"], unit, marker))
    bounds = {"range": [0, first_s / unit.size], "minallowed": 0, "maxallowed": until_s / unit.size}
    labels = dict(zip(shown, _names(table, shown), strict=True))
    name = node_names(record, nodes)
    names = [labels.get(node) or name(node) for node in nodes]
    layout = _rows(names, f"simulated time ({unit.unit})", bounds, rows)
    more = "drag or zoom for the rest."
    if until_s < end_s:
        more = f"drag to the right for more, up to {short_duration(until_s)}, which is what this page holds."
    said = (
        f"Seed {record.summary['seed']}. Shown at first: {short_duration(first_s)} of {short_duration(end_s)}; {more}"
    )
    of_rows = ["Rows are workers, with their measured seconds per local step. Blank: a round that never arrived."]
    if len(messages):
        numbered = message_numbers(messages)[1]
        of_rows.append(f"Thin bars: messages on their way{numbered and f', numbered by {numbered}'}.")
    if len(messages) > TIMELINE_MESSAGES:
        of_rows.append(f"Of these the page holds the first {TIMELINE_MESSAGES:,}.")
    return {"traces": traces, "layout": layout, "note": " ".join([said, *_sampled(shown, table), *of_rows])}


def shares(table: pd.DataFrame) -> dict[str, Any]:
    """Returns the shares of the time of a run's workers, of which `table` has a row each."""
    shown = sample_workers(table, WORKERS)
    workers = table.set_index("worker").loc[shown]
    rows = pd.Series(range(len(shown)))
    traces = [
        _bars(what, rows, 100 * workers[what], "%", name="lost or absent" if what == LOST else what)
        for what in ("compute", "pull", "push", "wait", LOST)
        if workers[what].any()
    ]
    layout = _rows(_names(table, shown), "share of the time (%)", {"range": [0, 100], "fixedrange": True})
    return {"traces": traces, "layout": layout | {"barmode": "stack"}, "note": " ".join(_sampled(shown, table))}


def staleness_by_worker(group: Group) -> dict[str, Any]:
    """Returns the staleness of each worker's rounds, or, of many workers, of each tenth of them by speed.

    Args:
        group: Runs in each of which a round arrived.
    """
    rows, bins = staleness_by_bin([group])
    rows = rows[rows["place"] != ALL]
    full_names = dict(zip(bins.names, bins.full_names, strict=True))
    x = [full_names[place] for place in rows["place"]]

    numbers = rows[["min", "first_quartile", "mean", "third_quartile", "max"]].to_numpy(float)

    def between(low: int, high: int, width: float, opacity: float) -> dict[str, Any]:
        ends = np.column_stack([numbers[:, [low, high]], np.full(len(numbers), np.nan)])
        places = [place for name in x for place in (name, name, None)]
        style = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "line": {"color": COLORS[0], "width": width}}
        return {"x": places, "y": shortened(ends.ravel()), "opacity": opacity, **style}

    texts = [
        f"middle half {significant(first)} to {significant(third)}, all {significant(low)} to {significant(high)}"
        for low, first, _, third, high in numbers.tolist()
    ]
    means = {
        "type": "scatter", "mode": "markers", "x": x, "y": shortened(numbers[:, 2]), "customdata": texts,
        "marker": {"color": COLORS[0], "size": 8, "line": {"width": 1, "color": _PAPER}},
        "hovertemplate": "<b>%{x}</b><br>mean %{y:.3g}<br>%{customdata}<extra></extra>",
    }  # fmt: skip
    traces = [between(0, 4, 1.5, 1), between(1, 3, 9, 0.45), means]
    layout = {
        "height": 320,
        "margin": {"l": 58, "r": 16, "t": 12, "b": 60},
        "xaxis": {"showgrid": False, "zeroline": False, "fixedrange": True, "type": "category"},
        "yaxis": {"title": {"text": "staleness"}, "rangemode": "tozero"},
    }
    return {"traces": traces, "layout": layout}


def _bars(what: str, row: "pd.Series[int]", length: "pd.Series[float]", unit: str, **further: Any) -> dict[str, Any]:
    """Returns horizontal bars in the colour and hatch of a phase; `base` is where they start, customdata the round."""
    face, ink, hatch = PHASES[what]
    pattern = {"shape": hatch[:1], "fgcolor": ink, "bgcolor": face, "fillmode": "replace", "size": 5, "solidity": 0.22}
    start = "from %{base:,.4~r} to " if "base" in further else ""
    number = "<br>round %{customdata}" if "customdata" in further else ""
    return {
        "type": "bar", "orientation": "h", "name": what, "y": shortened(row), "x": shortened(length), "width": 0.74,
        "marker": {"color": face, "line": {"width": 0}, "pattern": pattern},
        "hovertemplate": f"<b>%{{fullData.name}}</b> {start}%{{x:,.4~r}} {unit}{number}<extra></extra>",
        **further,
    }  # fmt: skip


def _thin_bars(
    what: str, lane: "pd.Series[float]", messages: pd.DataFrame, unit: Unit, name: Callable[[int], str]
) -> dict[str, Any]:
    """Returns bars of messages in their lanes, with their numbers; customdata is which."""
    face, edge = MESSAGE_COLORS[what]
    several = bool((messages["fragment"] > 0).any())
    numbers, _ = message_numbers(messages)
    ends = messages[["sender", "receiver", "fragment"]].astype("int64").itertuples(index=False)
    which = [
        f"{name(sender)} to {name(receiver)}" + (f", fragment {fragment}" if several else "")
        for sender, receiver, fragment in ends
    ]
    return {
        "type": "bar", "orientation": "h", "name": what, "width": 0.72 * LANE, "y": shortened(lane),
        "x": shortened(messages["length_s"] / unit.size), "base": shortened(messages["first_s"] / unit.size),
        "marker": {"color": face, "line": {"width": 1, "color": edge}},
        "customdata": which, "text": numbers.astype(str).tolist(), "textfont": {"size": 9, "color": _INK},
        "textposition": "auto", "textangle": 0, "insidetextanchor": "middle", "constraintext": "none",
        "hovertemplate": f"<b>{what}</b> from %{{base:,.4~r}} to %{{x:,.4~r}} {unit.unit}<br>%{{customdata}}"
        "<extra></extra>",
    }  # fmt: skip


def _marks(
    what: str, row: Sequence[float | None], time_s: "pd.Series[float]", unit: Unit, marker: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "markers", "name": what, "y": row, "x": shortened(time_s / unit.size),
        "marker": marker, "hovertemplate": f"<b>{what}</b> at %{{x:,.4~r}} {unit.unit}<extra></extra>",
    }  # fmt: skip


def _rows(names: Sequence[str], title: str, bounds: Mapping[str, Any], rows: Rows | None = None) -> dict[str, Any]:
    """Returns the layout of bars in named rows, the first one above; they are of equal height if no other is given."""
    places, height = (range(len(names)), len(names)) if rows is None else (rows.place, rows.height)
    axis = {"range": [height - 0.4, -0.6], "tickvals": shortened(places), "ticktext": names}
    return {
        "height": round(100 + 26 * height),
        "showlegend": True,
        "margin": {"l": 92, "r": 16, "t": 28, "b": 48},
        "xaxis": {"title": {"text": title}, **bounds},
        "yaxis": {**axis, "fixedrange": True, "showgrid": False, "zeroline": False},
    }


def _names(table: pd.DataFrame, shown: list[int]) -> list[str]:
    labels = worker_labels(table.set_index("worker", drop=False).loc[shown])
    return [label.removeprefix("worker ") for label in labels]


def _sampled(shown: Sequence[int], table: pd.DataFrame) -> Iterable[str]:
    if len(shown) < len(table):
        yield f"{len(shown)} of {len(table):,} workers, evenly spaced from fastest to slowest."
