"""One self-contained page about finished runs, which a browser opens offline. Reads records only."""

from simulator.report.page.document import report_page, write_report

__all__ = ["report_page", "write_report"]
