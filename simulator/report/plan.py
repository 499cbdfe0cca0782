"""Tables and figure of a plan, from its rows as `tardigrad plan --out` writes them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter
from rich.table import Table
from rich.text import Text

from simulator.host import format as human
from simulator.host.terminal_table import TerminalTable
from simulator.host.text import markdown_table
from simulator.report.group_keys import ReportError
from simulator.report.style import PHASES, WIDE_IN, arrange_legend, draw_legend, new_figure, phase_patch, styled

Row = Mapping[str, Any]
_PHASE_OF = {"compute": "compute", "communicate": "push", "wait": "wait"}  # colours of a timeline
_ROW_IN, _PANEL_IN = 0.32, 1.9


def plan_cells(row: Row) -> dict[str, str]:
    """Returns what the table of a plan says of a variant, by header."""
    totals, stale = row["totals"], row["staleness"]
    about = "~" if row["extrapolated"] else ""
    workers = sum(group["workers"] for group in row["groups"])
    cells = {
        "simulated\ntime": about + human.duration(totals["simulated_time"]),
        "utili-\nzation": human.percent(row["utilization"]),
        "tokens": about + human.short_count(totals["tokens"]),
        "data up": about + human.byte_count(totals["bytes_up"]),
        "data down": about + human.byte_count(totals["bytes_down"]),
        "data of a\nworker": about + human.byte_count((totals["bytes_up"] + totals["bytes_down"]) / workers),
        "staleness\nmean / max": human.UNKNOWN if stale is None else f"{human.decimal(stale[0])} / {stale[1]}",
    }
    if totals["money"] is not None:
        cells[f"money\n{row['currency']}".strip()] = about + human.amount(totals["money"])
    if row["fits"]:
        tightest = max(row["fits"], key=lambda fit: _needed(fit) / fit["memory"])
        sizes = f"{human.byte_count(_needed(tightest))} of\n{human.byte_count(tightest['memory'])}"
        cells["memory\nneeded"] = f"{sizes}, {tightest['name']}"
    return cells


def bandwidth_cells(row: Row) -> dict[str, str]:
    """Returns the bandwidth that shares of time spent computing need, by share."""
    low, high = (8e-9 * each for each in row["base"])  # Gbit/s
    cells = {}
    for share, factor in row["bandwidth"].items():
        header = f"{100 * float(share):g} %"
        if not factor:
            cells[header] = "not reached" if factor is None else "any"
            continue
        span = [human.significant(each * factor, 2) for each in ((low,) if low == high else (low, high))]
        multiple = [human.ratio(factor)] if row["is_limited"] else []
        cells[header] = "\n".join([*multiple, f"{' to '.join(span)} Gbit/s"])
    return cells


def plan_table(rows: Sequence[Row], *, title: str | None = None, caption: str | None = None) -> Table:
    """Returns a row per variant: time, utilization, data, money and memory.

    Args:
        rows: Of a plan.
        title: Above the table.
        caption: Below it.
    """
    return _table([(row["label"], plan_cells(row)) for row in rows], title, caption)


def bandwidth_table(rows: Sequence[Row]) -> Table:
    """Returns the bandwidth that each variant needs for shares of the workers' time spent computing."""
    title = "bandwidth of the links, as a multiple of what they have, for a utilization of"
    rounds = sorted({row["searched_rounds"] for row in rows})
    within = max(row["within"] for row in rows) - 1
    span = " to ".join(map(str, dict.fromkeys([rounds[0], rounds[-1]])))
    caption = f"found within {100 * within:.0f} %, on {span} rounds of each worker, the first of which does not count"
    return _table([(row["label"], bandwidth_cells(row)) for row in rows], title, caption)


def waiting_table(rows: Sequence[Row]) -> Table:
    """Returns where the time of each group of workers goes, and who is waited for."""
    title = "where the time of workers goes, and for whom others wait"
    caption = "waiting: for other workers, and for messages that are not the worker's own pull or push"
    table = TerminalTable(title, caption, words=["variant", "workers"], keys=2)
    for header in (
        "how\nmany",
        "com-\nputing",
        "communi-\ncating",
        "waiting",
        "data up\nof each",
        "data down\nof each",
    ):
        table.add_numbers(header)
    table.add_numbers("last, others\nwait for it")
    for row in rows:
        for number, group in enumerate(row["groups"]):
            shares = (human.percent(group[name]) for name in _PHASE_OF)
            sizes = (human.byte_count(group[name]) for name in ("bytes_up", "bytes_down"))
            label = Text("" if number else row["label"])
            last = human.percent(group["last"])
            table.add_row(label, Text(group["label"]), str(group["workers"]), *shares, *sizes, last)
    return table


def plan_notes(rows: Sequence[Row]) -> Iterator[str]:
    """Yields what has to be said of rows: extrapolations, shares that no bandwidth reaches, and parts not counted."""
    for row in rows:
        label = row["label"]
        if row["extrapolated"]:
            yield f"{label}: extrapolated from {human.count(row['simulated_rounds'])} rounds; ~ marks the numbers"
        missed = [f"{100 * float(share):g} %" for share, factor in row["bandwidth"].items() if factor is None]
        if missed:
            compute, communicate, wait = map(human.percent, row["unlimited"])
            awaited = max(row["groups"], key=lambda group: group["last"])
            whom = f", for {awaited['label']} most often" if awaited["last"] else ""
            yield (
                f"{label}: {', '.join(missed)} not reached: with unlimited links workers compute {compute} of the "
                f"time, wait {wait}{whom}, and communicate {communicate}, which is latency"
            )
        if any("activations" not in fit["needs"]["parts"] for fit in row["fits"]):
            yield f"{label}: memory of activations is not counted: give model.width"
    if any(not row["is_limited"] for row in rows):
        yield "no link is limited: bandwidths are those that all workers' links would need"


def plan_markdown(rows: Sequence[Row]) -> str:
    """Returns the tables of a plan's variants in Markdown."""
    parts = []
    for cells_of in (plan_cells, bandwidth_cells):
        cells = [(row["label"], cells_of(row)) for row in rows]
        headers = list(dict.fromkeys(header for _, each in cells for header in each))
        lines = [["variant", *(" ".join(header.replace("-\n", "").split()) for header in headers)]]
        lines.append([":--", *("--:" for _ in headers)])
        lines += [[label, *(each.get(header, "").replace("\n", " ") for header in headers)] for label, each in cells]
        parts.append(markdown_table(lines))
    return "\n".join(parts)


def plan_figure(rows: Sequence[Row], *, size: tuple[float, float] | None = None) -> Figure:
    """Returns a figure with a row per variant: time, where the workers' time goes, data, and money if there is any.

    Args:
        rows: Of a plan.
        size: Width and height in inches.

    Raises:
        ReportError: If there are none.
    """
    if not rows:
        raise ReportError("there is no variant in the plan: choose a file that has one")
    labels = [row["label"] for row in rows]
    paid = all(row["totals"]["money"] is not None for row in rows)
    place = np.arange(len(rows))
    with styled(labels):
        columns = 4 if paid else 3
        width_in = max(WIDE_IN, 0.064 * max(map(len, labels)) + _PANEL_IN * columns)
        figure = new_figure(size or (width_in, 1.1 + _ROW_IN * len(rows)))
        axes = figure.subplots(1, columns, sharey=True, squeeze=False)[0]
        hours = [row["totals"]["simulated_time"] / 3600 for row in rows]
        axes[0].barh(place, hours, 0.7, color=PHASES["compute"][0])
        axes[0].set_xlabel("simulated time, h")
        axes[0].set_yticks(place, labels)
        axes[0].set_ylim(len(rows) - 0.4, -0.6)
        _draw_shares(axes[1], rows)
        data = np.array([[row["totals"][name] / 1e12 for row in rows] for name in ("bytes_up", "bytes_down")])
        for way, name, before in ((0, "push", np.zeros(len(rows))), (1, "pull", data[0])):
            face, edge, hatch = PHASES[name]
            axes[2].barh(place, data[way], 0.7, left=before, color=face, edgecolor=edge, hatch=hatch, linewidth=0.4)
        axes[2].set_xlabel("data up and down, TB")
        if paid:
            axes[3].barh(place, [row["totals"]["money"] for row in rows], 0.7, color="#666666")
            axes[3].set_xlabel(f"money, {rows[0]['currency']}".removesuffix(", "))
        names = ["computing", "communicating, and data up", "waiting", "data down"]
        handles = [phase_patch(name) for name in (*_PHASE_OF.values(), "pull")]
        draw_legend(figure, handles, arrange_legend(names, "", figure.get_figwidth()))
    return figure


def _draw_shares(axes: Any, rows: Sequence[Row]) -> None:
    before = np.zeros(len(rows))
    for name, phase in _PHASE_OF.items():
        face, edge, hatch = PHASES[phase]
        own = np.array([_mean(row, name) for row in rows])
        axes.barh(np.arange(len(rows)), own, 0.7, left=before, color=face, edgecolor=edge, hatch=hatch, linewidth=0.4)
        before = before + own
    axes.set_xlabel("share of the workers' time")
    axes.xaxis.set_major_locator(FixedLocator([0, 0.5, 1]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    axes.set_xlim(0, 1)


def _mean(row: Row, name: str) -> float:
    """Returns a share of the time of all workers."""
    workers = sum(group["workers"] for group in row["groups"])
    return float(sum(group["workers"] * group[name] for group in row["groups"]) / workers)


def _needed(fit: Mapping[str, Any]) -> float:
    return float(sum(fit["needs"]["parts"].values()))


def _table(rows: Sequence[tuple[str, Mapping[str, str]]], title: str | None, caption: str | None = None) -> Table:
    headers = list(dict.fromkeys(header for _, cells in rows for header in cells))
    table = TerminalTable(title, caption, words=["variant"], numbers=headers, leading=1)
    for label, cells in rows:
        table.add_row(Text(label), *(cells.get(header, "") for header in headers))
    return table
