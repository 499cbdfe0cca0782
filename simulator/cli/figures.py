"""Pictures of finished runs: `plot`, `report` and `trace`."""

import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pandas as pd
from rich.console import Console, RenderableType

from simulator import report as reports
from simulator.cli.output import note, say
from simulator.host.text import plural
from simulator.record import TRIALS_FOLDER, RunRecord
from simulator.report.grouping import only
from simulator.report.page import write_report
from simulator.sweep.folder import SWEEP_FILE
from simulator.sweep.status import sweep_status

_SPENT = "time_to_target"


def plot(
    runs: list[Path],
    out: Path | None,
    against: reports.Against | None,
    by: list[str] | None,
    target: list[float] | None,
    baseline: str | None,
    heatmap: tuple[str, str] | None,
    x: str | None,
    value: str,
    fit: reports.Fit | None,
    figure: list[str] | None,
    table: str | None,
) -> None:
    """Draws the figures that are asked for, and prints or writes their tables."""
    records = reports.read_runs(runs)
    groups = reports.group_records(records, by)
    curves, targets = (heatmap is None and x is None) or bool(figure), target or ()
    drawn: list[reports.Drawing] = []
    spent = None
    if curves:
        kinds = cast("Sequence[reports.FigureKind]", figure or reports.FIGURES)
        drawn += reports.drawings(groups, [against] if against else None, targets=targets, figures=kinds)
    of_values, laws = _of_values(records, heatmap, x, fit, value, targets, by or ("variant",))
    drawn += of_values
    if curves and targets:
        trained = only(groups, lambda record: record.summary["trainer"] != "null")
        spent = reports.time_to_target(trained, targets, baseline=baseline)
    without_figure = laws | ({} if spent is None else {_SPENT: spent})
    if table == "print" or not curves:  # no table of results shows it
        note(reports.note_of_repeats(groups))
    if table == "print":
        tables = {drawing.name: drawing.table() for drawing in drawn} | without_figure
        sys.stdout.write("\n".join(f"# {name}\n{reports.csv_text(rows)}" for name, rows in tables.items()))
        return
    folder, written = out or runs[0], []
    for drawing in drawn:
        written += reports.save(drawing.figure(), folder / drawing.name)
        written += [reports.save_table(drawing.table(), folder / f"{drawing.name}.{table}")] if table else []
    for name, rows in without_figure.items() if table else ():
        written.append(reports.save_table(rows, folder / f"{name}.{table}"))
    shown: list[RenderableType] = [reports.results_tables(groups)] if curves else []
    if spent is not None:
        shown.append(reports.target_rich_table(spent, currency=reports.currency_of(records)))
    shown += [reports.power_law_rich_table(rows, str(x), value) for rows in laws.values()]
    console = Console()
    for number, each in enumerate(shown):
        console.print(*[""] * bool(number), each)
    say("\n".join(str(path) for path in written))


def _of_values(
    records: Sequence[RunRecord],
    heatmap: tuple[str, str] | None,
    x: str | None,
    fit: reports.Fit | None,
    value: str,
    targets: Sequence[float],
    by: Sequence[str],
) -> tuple[list[reports.Drawing], dict[str, pd.DataFrame]]:
    """Returns the figures of a value over keys, and the tables of its laws, for every target where it depends on one.

    Raises:
        ReportError: A fit is asked for, and no key along which.
    """
    if fit is not None and x is None:
        raise reports.ReportError(f"--fit {fit} needs a key along which: give it, such as --x parameters")
    drawn: list[reports.Drawing] = []
    laws: dict[str, pd.DataFrame] = {}
    of_targets = targets if value in reports.TO_TARGET and targets else (None,)
    for target in of_targets:
        settings: dict[str, Any] = {"value": value, "target": target, "by": by}
        name = value + (f"_{target:g}" if len(of_targets) > 1 else "")
        if heatmap is not None:
            figure = functools.partial(reports.heat_map, records, *heatmap, **settings)
            table = functools.partial(reports.heat_map_table, records, *heatmap, **settings)
            drawn.append(reports.Drawing(f"heat_map_{name}", figure, table))
        if x is not None:
            figure = functools.partial(reports.value_curves, records, x, fit=fit, **settings)
            table = functools.partial(reports.value_table, records, x, fit=fit, **settings)
            [along] = reports.file_names([x.rsplit(".", 1)[-1]])
            drawn.append(reports.Drawing(f"{name}_vs_{along.replace('-', '_')}", figure, table))
            laws |= {f"power_law_{name}": reports.power_law_table(records, x, **settings)} if fit else {}
    return drawn, laws


def report(runs: list[Path], out: Path | None, target: list[float] | None) -> None:
    """Writes one page about finished runs."""
    records = reports.read_runs(runs)
    sweeps = [
        file.parent
        for path in runs
        for file in sorted(path.rglob(SWEEP_FILE))
        if TRIALS_FOLDER not in file.relative_to(path).parts
    ]
    points = [point for folder in dict.fromkeys(sweeps) for point in sweep_status(folder)]
    unfinished = [
        ": ".join(filter(None, (point.label, point.state, point.detail)))
        for point in points
        if point.state != "finished"
    ]
    file = out or runs[0] / "report.html"
    replaced = write_report(records, file, targets=target or (), unfinished=unfinished)
    size = f"{file.stat().st_size / 1e6:.1f} MB"
    say(f"{file}: {plural(len(records), 'run')}, {size}{', in place of an earlier report' if replaced else ''}")
    if unfinished:
        say(f"{plural(len(unfinished), 'point')} not finished: the page names what there is to know")


def trace(runs: list[Path], out: Path | None) -> None:
    """Writes who did what when as a trace."""
    path = out or runs[0] / "trace.json.gz"
    records = reports.read_runs(runs)
    count = reports.write_trace(records, path)
    say(f"{count:,} events of {plural(len(records), 'run')} in {path}: open it at https://ui.perfetto.dev")
