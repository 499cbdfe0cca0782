"""Cluster that is fitted to what was measured: `calibrate`."""

from pathlib import Path

from rich.console import Console

from simulator import calibration as fits
from simulator.calibration.fragment import By, link_row, remarks, step_row
from simulator.cli.output import say
from simulator.host.errors import SettingError
from simulator.host.files import write_file
from simulator.host.terminal_table import TerminalTable
from simulator.host.text import plural


def calibrate(
    logs: list[Path], out: Path | None, by: By, local_steps: int | None, trace: Path | None, force: bool
) -> None:
    """Fits a cluster to runs and logs, prints the workers, and writes the section."""
    for option, path in (("--out", out), ("--trace", trace)):
        if path is not None and path.exists() and not force:
            raise SettingError(option, str(path), "is there already: give another name, or --force to replace it")
    observations = fits.observe(logs, local_steps)
    calibration = fits.calibrate(observations)
    rows = None if trace is None else fits.step_trace(observations)
    console = Console()
    for table in _tables(calibration):
        console.print(table, "")
    for line in remarks(calibration):
        say(line)
    if trace is not None and rows is not None:
        write_file(trace, rows)
        say(f"{trace}: step times of {plural(len(observations.rounds), 'round')} (cluster.devices.trace: {trace.name})")
    if out is not None:
        write_file(out, fits.fragment(calibration, by))
        say(f"{out}: a cluster section, which an experiment file can extend (extends: {out.name})")


def _tables(calibration: fits.Calibration) -> list[TerminalTable]:
    names, tables = calibration.observations.workers, []
    if calibration.steps:
        numbers = "rounds", "s/step", "jitter", "drift", "slow-downs"
        tables.append(TerminalTable("local steps", "s/step: median of rounds that are not slow", words=["worker"]))
        for header in numbers:
            tables[-1].add_numbers(header)
        for worker, name in enumerate(names):
            tables[-1].add_row(name, *step_row(calibration, worker))
    if calibration.links:
        tables.append(TerminalTable("links", words=["worker"]))
        for direction in calibration.links:
            for header in ("transfers", "latency", "bandwidth"):
                tables[-1].add_numbers(f"{direction}: {header}")
        for worker, name in enumerate(names):
            cells = [cell for links in calibration.links.values() for cell in link_row(links.get(worker))]
            tables[-1].add_row(name, *cells)
    return tables
