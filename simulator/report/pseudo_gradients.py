"""Pseudo-gradients over simulated time: norm, cosines with the momentum and the aggregate, and drift of the workers."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from simulator.record import DIAGNOSTICS, RunRecord
from simulator.report.arguments import Records
from simulator.report.axes import axis_of, plain_ticks
from simulator.report.group_keys import ReportError
from simulator.report.grouping import Group, group_records, with_keys
from simulator.report.style import WIDE_IN, arrange_legend, draw_legend, line_styles, new_figure, styled

LABELS: Mapping[str, str] = {
    "norm": "norm",
    "momentum_cosine": "cosine with the outer momentum",
    "mean_cosine": "cosine with the meeting's aggregate",
    "drift": "distance from the server",
}
"""Label of each of `DIAGNOSTICS`."""
_BINS = 20


def has_diagnostics(record: RunRecord) -> bool:
    """Returns whether a run recorded diagnostics of its offers: it trained, and its record is not an older one."""
    return "norm" in record.updates and bool(record.updates["norm"].notna().any())


def pseudo_gradients(
    records: Records, *, by: Sequence[str] | None = None, size: tuple[float, float] | None = None
) -> Figure:
    """Returns what is known of the offers of each group over simulated time: `pseudo_gradients_table` drawn.

    Each diagnostic has a panel: the mean over the offers of a twentieth of the run's time. A group without an outer
    momentum, or whose offers meet nobody, has no curve there.

    Args:
        records: Runs that recorded diagnostics, one or several.
        by: Dotted keys that tell groups apart, see `group_records`.
        size: Width and height in inches.

    Raises:
        ReportError: As `pseudo_gradients_table`, or there are more groups than can be told apart.
    """
    groups = group_records(records, by)
    table = diagnostics_of(groups)
    shown = [name for name in DIAGNOSTICS if table[name].notna().any()]
    labels = [group.label for group in groups]
    styles = line_styles(len(groups))
    unit, time_label = axis_of("simulated_s", float(table["simulated_s"].max()))
    legend = arrange_legend(labels, "", size[0] if size else WIDE_IN)
    with styled(labels):
        rows = -(-len(shown) // 2)
        figure = new_figure(size or (WIDE_IN, 0.3 + 1.8 * rows + legend.height_in))
        for place, name in enumerate(shown, 1):
            axes = figure.add_subplot(rows, min(len(shown), 2), place)
            for label, style in zip(labels, styles, strict=True):
                own = table[table["group"] == label]
                line = {"color": style.color, "linestyle": style.linestyle, "marker": style.marker, "markersize": 3}
                axes.plot(own["simulated_s"] / unit.size, own[name], markevery=4, **line)
            axes.set_ylabel(LABELS[name])
            axes.set_xlabel(time_label if place > len(shown) - 2 else "")
            axes.grid(axis="y")
            plain_ticks(axes.xaxis)
            plain_ticks(axes.yaxis)
        handles = [Line2D([], [], color=each.color, linestyle=each.linestyle, marker=each.marker) for each in styles]
        draw_legend(figure, handles, legend)
    return figure


def pseudo_gradients_table(records: Records, *, by: Sequence[str] | None = None) -> pd.DataFrame:
    """Returns diagnostics of the offers of each group over simulated time, which `pseudo_gradients` draws.

    Args:
        records: Runs that recorded diagnostics, one or several.
        by: Dotted keys that tell groups apart, see `group_records`.

    Returns:
        One row per group and twentieth of the time of its longest run in which there were offers, of all its runs and
        places together. Columns group; the groups' keys; simulated_s, the middle of the time; offers, their number; and
        the means of `UPDATE_COLUMNS`' norm, momentum_cosine, mean_cosine and drift, NaN where no offer has any.

    Raises:
        ReportError: If there is no record, a key is unknown, or a run recorded no diagnostics.
    """
    groups = group_records(records, by)
    return with_keys(diagnostics_of(groups), groups)


def diagnostics_of(groups: Sequence[Group]) -> pd.DataFrame:
    """Returns `pseudo_gradients_table` of these groups without their keys.

    Raises:
        ReportError: If a run recorded no diagnostics.
    """
    tables = []
    for group in groups:
        without = next((record for record in group.records if not has_diagnostics(record)), None)
        if without is not None:
            raise ReportError(
                f"{group.label}: seed {without.summary['seed']} recorded no diagnostics of its offers: "
                "leave it out, or simulate it again with training"
            )
        updates = pd.concat([record.updates for record in group.records])
        end_s = max(float(record.summary["simulated_seconds"]) for record in group.records)
        width_s = (end_s or 1.0) / _BINS
        place = np.minimum((updates["update_s"] / width_s).astype("int64"), _BINS - 1)
        found = updates.groupby(place)
        means = found[list(DIAGNOSTICS)].mean()
        means.insert(0, "offers", found.size())
        means.insert(0, "simulated_s", (means.index + 0.5) * width_s)
        means.insert(0, "group", group.label)
        tables.append(means)
    return pd.concat(tables, ignore_index=True)
