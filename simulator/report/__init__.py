"""Figures and tables of finished runs. Reads records only; changes no setting of matplotlib's."""

from simulator.report.comparison import comparison, comparison_markdown, comparison_table
from simulator.report.curves import perplexity_curves
from simulator.report.files import file_names, save, write_figures
from simulator.report.grouping import ReportError
from simulator.report.staleness import staleness
from simulator.report.tables import losses_table, results_table, results_tables, worker_rich_table
from simulator.report.timeline import timeline
from simulator.report.trace import trace_events, write_trace

__all__ = [
    "ReportError",
    "comparison",
    "comparison_markdown",
    "comparison_table",
    "file_names",
    "losses_table",
    "perplexity_curves",
    "results_table",
    "results_tables",
    "save",
    "staleness",
    "timeline",
    "trace_events",
    "worker_rich_table",
    "write_figures",
    "write_trace",
]
