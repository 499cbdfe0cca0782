"""Pictures of finished runs: `plot`, `report` and `trace`."""

import functools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from rich.console import Console

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
    value: str,
    figure: list[str] | None,
    table: str | None,
) -> None:
    """Draws the figures that are asked for, and prints or writes their tables."""
    records = reports.read_runs(runs)
    groups = reports.group_records(records, by)
    curves, targets = heatmap is None or bool(figure), target or ()
    drawn: list[reports.Drawing] = []
    spent = None
    if curves:
        kinds = cast("Sequence[reports.FigureKind]", figure or reports.FIGURES)
        drawn += reports.drawings(groups, [against] if against else None, targets=targets, figures=kinds)
    if heatmap is not None:
        drawn += _heat_maps(records, heatmap, value, targets, by or ("variant",))
    if curves and targets:
        trained = only(groups, lambda record: record.summary["trainer"] != "null")
        spent = reports.time_to_target(trained, targets, baseline=baseline)
    if table == "print" or not curves:  # no table of results shows it
        note(reports.note_of_repeats(groups))
    if table == "print":
        tables = {drawing.name: drawing.table() for drawing in drawn} | ({} if spent is None else {_SPENT: spent})
        sys.stdout.write("\n".join(f"# {name}\n{reports.csv_text(rows)}" for name, rows in tables.items()))
        return
    folder, written = out or runs[0], []
    for drawing in drawn:
        written += reports.save(drawing.figure(), folder / drawing.name)
        written += [reports.save_table(drawing.table(), folder / f"{drawing.name}.{table}")] if table else []
    if spent is not None and table:
        written.append(reports.save_table(spent, folder / f"{_SPENT}.{table}"))
    console = Console()
    if curves:
        console.print(reports.results_tables(groups))
    if spent is not None:
        console.print("", reports.target_rich_table(spent, currency=reports.currency_of(records)))
    say("\n".join(str(path) for path in written))


def _heat_maps(
    records: Sequence[RunRecord], keys: tuple[str, str], value: str, targets: Sequence[float], by: Sequence[str]
) -> Iterator[reports.Drawing]:
    """Yields a heat map of a value, for every target where the value depends on one."""
    of_targets = targets if value in reports.TO_TARGET and targets else (None,)
    for target in of_targets:
        settings: dict[str, Any] = {"value": value, "target": target, "by": by}
        name = f"heat_map_{value}" + (f"_{target:g}" if len(of_targets) > 1 else "")
        figure = functools.partial(reports.heat_map, records, *keys, **settings)
        yield reports.Drawing(name, figure, functools.partial(reports.heat_map_table, records, *keys, **settings))


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
