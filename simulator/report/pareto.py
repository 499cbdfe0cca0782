"""Final perplexity against what it took, a panel for each cluster, and which methods no other one beats in both."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from simulator.report.arguments import Records
from simulator.report.axes import Against, axis_of, log_axis, log_perplexity_axis, plain_ticks
from simulator.report.fonts import drawable
from simulator.report.grouping import Group, group_records, with_keys
from simulator.report.money import currency_of, money
from simulator.report.perplexity import refuse_untrained
from simulator.report.seeds import spread
from simulator.report.style import (
    LineStyle,
    arrange_legend,
    draw_legend,
    line_styles,
    literal,
    new_figure,
    panels,
    styled,
    wrapped_title,
)

_COLUMNS, _PANEL_IN = 2, (3.4, 2.4)
_NAME = 0.35, 0.06  # share of a panel that a name takes
_MOST_EVEN = 5.0  # the largest cost over the smallest, beyond which the axis is logarithmic
_SUMMARY_KEYS: Mapping[Against, str] = {"simulated_s": "simulated_seconds"}


def pareto(
    records: Records,
    *,
    against: Against = "simulated_s",
    by: Sequence[str] | None = None,
    size: tuple[float, float] | None = None,
) -> Figure:
    """Returns the final perplexity of each group against what its runs took: `pareto_table` drawn.

    A marker is the mean of a group's runs, on a line from the smallest to the largest. Groups that differ in more than
    their variant have a panel for each combination of the rest. The line is the front: no other group of the panel has
    both a lower perplexity and a lower cost.

    Args:
        records: Runs that trained something, several.
        against: What is on the x axis: time, steps, tokens, data or money of whole runs.
        by: Dotted keys that tell groups apart, see `group_records`.
        size: Width and height in inches.

    Raises:
        ReportError: As `pareto_table`, or there are more variants than can be told apart.
    """
    groups = group_records(records, by)
    table = _table(groups, against)
    variants = list(dict.fromkeys(group.variant for group in groups))
    styles = dict(zip(variants, line_styles(len(variants)), strict=True))
    titles = list(dict.fromkeys(table["panel"]))
    columns = min(_COLUMNS, len(titles))
    width_in = size[0] if size else max(_PANEL_IN[0] * columns, 4.5)
    legend = arrange_legend(variants, "", width_in)
    unit, label = axis_of(against, float(table[against].max()), currency_of(groups))
    with styled([*variants, *titles, label]):
        rows = math.ceil(len(titles) / columns)
        figure = new_figure(size or (width_in, 0.4 + _PANEL_IN[1] * rows + legend.height_in))
        for title, axes in zip(titles, panels(figure, len(titles), columns, drawable(label), ""), strict=True):
            own = table[(table["panel"] == title) & table["final_perplexity"].notna()]
            _draw_panel(axes, own.assign(cost=own[against] / unit.size), styles)
            axes.set_title(wrapped_title(figure, title), fontsize=8)
        handles = [
            Line2D([], [], color=style.color, marker=style.marker, linestyle="none") for style in styles.values()
        ]
        draw_legend(figure, handles, legend)
    return figure


def _draw_panel(axes: Axes, table: pd.DataFrame, styles: Mapping[str, LineStyle]) -> None:
    """Draws groups, the front as steps, since nothing is known between its points, and the names of those on it."""
    axes.grid()
    if table.empty:
        return
    for row in table.to_dict("records"):
        style = styles[row["variant"]]
        axes.vlines(row["cost"], row["final_perplexity_low"], row["final_perplexity_high"], style.color, linewidth=0.8)
        axes.plot(row["cost"], row["final_perplexity"], style.marker, color=style.color, zorder=3)
    front = table[table["on_front"]].sort_values("cost")
    axes.step(front["cost"], front["final_perplexity"], where="post", color="#888888", linewidth=0.8, zorder=1)
    log_perplexity_axis(axes, 0.95 * table["final_perplexity_low"].min(), 1.03 * table["final_perplexity_high"].max())
    low, high = table["cost"].min(), table["cost"].max()
    if low > 0 and high > _MOST_EVEN * low:
        log_axis(axes.xaxis, 0.6 * low, 1.1 * high)
    else:
        axes.set_xlim(0, 1.05 * high)
        plain_ticks(axes.xaxis)
    _name_front(axes, front)


def _name_front(axes: Axes, front: pd.DataFrame) -> None:
    """Writes the names of the groups on the front below them, where no other name is."""
    taken: list[tuple[float, float]] = []
    for cost, perplexity, name in zip(front["cost"], front["final_perplexity"], front["variant"], strict=True):
        x, y = axes.transLimits.transform(axes.transScale.transform((cost, perplexity)))
        if any(abs(x - other) < _NAME[0] and abs(y - above) < _NAME[1] for other, above in taken):
            continue
        taken.append((x, y))
        place = ("left", (4, -3)) if x < _NAME[0] else ("right", (-4, -3))
        style: dict[str, Any] = {"textcoords": "offset points", "va": "top", "fontsize": 6.5, "color": "#333333"}
        axes.annotate(literal(name), (cost, perplexity), ha=place[0], xytext=place[1], **style)


def pareto_table(
    records: Records, *, against: Against = "simulated_s", by: Sequence[str] | None = None
) -> pd.DataFrame:
    """Returns the final perplexity of each group and what its runs took, which `pareto` draws.

    Args:
        records: Runs that trained something, several.
        against: What they took: a column of the result.
        by: Dotted keys that tell groups apart, see `group_records`.

    Returns:
        One row per group. Columns group; the groups' keys; variant; panel, what its label has besides the variant;
        runs; final_perplexity, the mean, with _low and _high, NaN where a run diverged; the mean of `against` over the
        whole runs; and on_front, whether no other group of its panel has both lower perplexity and lower cost.

    Raises:
        ReportError: If there is no record, one trained nothing, a key is unknown, or prices are missing.
    """
    groups = group_records(records, by)
    return with_keys(_table(groups, against), groups)


def _table(groups: Sequence[Group], against: Against) -> pd.DataFrame:
    rows = []
    for group in groups:
        for record in group.records:
            refuse_untrained(record, group.label)
        found = spread(run["final_perplexity"] for run in group.summaries)
        diverged = found.known < found.runs
        rows.append(
            {
                "group": group.label,
                "variant": group.variant,
                "panel": ", ".join(part for part in group.parts if part != group.variant),
                "runs": found.runs,
                "final_perplexity": math.nan if diverged else found.mean,
                "final_perplexity_low": math.nan if diverged else found.low,
                "final_perplexity_high": math.nan if diverged else found.high,
                against: float(np.mean([_cost(record, against) for record in group.records])),
            }
        )
    table = pd.DataFrame(rows)
    table["on_front"] = [_is_on_front(row, table, against) for row in table.to_dict("records")]
    return table


def _cost(record: Any, against: Against) -> float:
    if against == "money":
        return money(record).total
    return float(record.summary[_SUMMARY_KEYS.get(against, against)])


def _is_on_front(row: Mapping[Any, Any], table: pd.DataFrame, against: Against) -> bool:
    if math.isnan(row["final_perplexity"]):
        return False
    cost, loss = table[against], table["final_perplexity"]
    no_worse = (table["panel"] == row["panel"]) & (cost <= row[against]) & (loss <= row["final_perplexity"])
    return not bool((no_worse & ((cost < row[against]) | (loss < row["final_perplexity"]))).any())
