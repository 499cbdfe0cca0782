"""Figures and tables of finished runs. Reads records only; changes no setting of matplotlib's.

Whatever a figure shows is a table too, which it draws:

| figure | table |
|---|---|
| `perplexity_curves(records, against=..., by=..., targets=...)` | `perplexity_table(records, against=..., by=...)` |
| `pareto(records, against=..., by=...)` | `pareto_table(records, against=..., by=...)` |
| `pseudo_gradients(records, by=...)` | `pseudo_gradients_table(records, by=...)` |
| `staleness(records, by=...)` | `staleness_table(records, by=...)` |
| `utilization(records, by=...)` | `utilization_table(records, by=...)` |
| `heat_map(records, x, y, value=..., target=..., by=...)` | `heat_map_table(records, x, y, ...)` |
| `value_curves(records, x, value=..., target=..., by=..., fit=...)` | `value_table(records, x, ...)` |
| `timeline(record)` | `timeline_table(record)` |

`time_to_target` and `money_table` say what it took to reach a perplexity and what runs cost, `power_law_table` how a
result goes with a key. `records` is one run or several. Runs that differ by their seed alone are one group, see
`group_records`; `by` is a list of dotted keys of the experiment, of axes of a sweep or of keys of the summary: then
runs that agree in all of them are.
"""

from simulator.record import Bill
from simulator.report.axes import Against
from simulator.report.baselines import baseline_of
from simulator.report.comparison import comparison, comparison_markdown, comparison_table
from simulator.report.curves import perplexity_curves
from simulator.report.figure_files import (
    FIGURES,
    Drawing,
    FigureKind,
    TableFormat,
    csv_text,
    drawings,
    file_names,
    save,
    save_table,
    write_figures,
)
from simulator.report.group_keys import ReportError
from simulator.report.grouping import Group, group_records, note_of_repeats
from simulator.report.heatmap import heat_map, heat_map_table
from simulator.report.money import currency_of, has_prices, money, money_table
from simulator.report.pareto import pareto, pareto_table
from simulator.report.perplexity import perplexity_table
from simulator.report.plan import (
    bandwidth_table,
    plan_cells,
    plan_figure,
    plan_markdown,
    plan_notes,
    plan_table,
    waiting_table,
)
from simulator.report.power_law import Fit
from simulator.report.pseudo_gradients import pseudo_gradients, pseudo_gradients_table
from simulator.report.run_values import TO_TARGET
from simulator.report.runs import Runs, read_runs
from simulator.report.sites import has_sites, site_rich_table, site_table
from simulator.report.spans import timeline_table
from simulator.report.staleness import staleness, staleness_table
from simulator.report.tables import losses_table, results_table, results_tables, worker_rich_table
from simulator.report.targets import target_rich_table, time_to_target
from simulator.report.timeline import timeline
from simulator.report.trace import trace_events, write_trace
from simulator.report.utilization import utilization, utilization_table
from simulator.report.value_curves import power_law_rich_table, power_law_table, value_curves, value_table

__all__ = [
    "FIGURES",
    "TO_TARGET",
    "Against",
    "Bill",
    "Drawing",
    "FigureKind",
    "Fit",
    "Group",
    "ReportError",
    "Runs",
    "TableFormat",
    "bandwidth_table",
    "baseline_of",
    "comparison",
    "comparison_markdown",
    "comparison_table",
    "csv_text",
    "currency_of",
    "drawings",
    "file_names",
    "group_records",
    "has_prices",
    "has_sites",
    "heat_map",
    "heat_map_table",
    "losses_table",
    "money",
    "money_table",
    "note_of_repeats",
    "pareto",
    "pareto_table",
    "perplexity_curves",
    "perplexity_table",
    "plan_cells",
    "plan_figure",
    "plan_markdown",
    "plan_notes",
    "plan_table",
    "power_law_rich_table",
    "power_law_table",
    "pseudo_gradients",
    "pseudo_gradients_table",
    "read_runs",
    "results_table",
    "results_tables",
    "save",
    "save_table",
    "site_rich_table",
    "site_table",
    "staleness",
    "staleness_table",
    "target_rich_table",
    "time_to_target",
    "timeline",
    "timeline_table",
    "trace_events",
    "utilization",
    "utilization_table",
    "value_curves",
    "value_table",
    "waiting_table",
    "worker_rich_table",
    "write_figures",
    "write_trace",
]
