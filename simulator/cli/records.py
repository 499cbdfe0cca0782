"""Commands that read records alone: `plot`, `report`, `trace`, `compare` and `verify`."""

import functools
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from simulator.cli.common import EXIT_BROKEN, fail, note, say
from simulator.host.text import plural

if TYPE_CHECKING:
    import pandas as pd

    from simulator.record import RunRecord
    from simulator.report import Drawing, Group


class Figure(StrEnum):
    """Kinds of figures; an enumeration, since typer takes no list of literals."""

    PERPLEXITY = "perplexity"
    STALENESS = "staleness"
    UTILIZATION = "utilization"
    TIMELINE = "timeline"


_SPENT = "time_to_target"
_MOST_VIOLATIONS = 20
Against = Literal["simulated_s", "local_steps", "tokens", "bytes_sent", "money"]
Table = Literal["print", "csv", "parquet"]


def plot(
    runs: Annotated[list[Path], typer.Argument(help="run folders, or folders that hold them", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="folder for the figures; the first of RUNS when absent", show_default=False)
    ] = None,
    against: Annotated[Against | None, typer.Option(help="draw perplexity against this", show_default=False)] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="key that tells groups of runs apart, such as inner.local_steps; several", show_default=False
        ),
    ] = None,
    target: Annotated[
        list[float] | None,
        typer.Option(help="perplexity to reach: lines, and a table of what that took; several", show_default=False),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="variant that this table compares with", show_default=False)
    ] = None,
    heatmap: Annotated[
        tuple[str, str] | None, typer.Option(help="two keys: a heat map, and no other figures", show_default=False)
    ] = None,
    value: Annotated[str, typer.Option(help="what it shows: a key of the summary, money, time_to_target, ...")] = (
        "final_perplexity"
    ),
    figure: Annotated[list[Figure] | None, typer.Option(help="only this; several", show_default=False)] = None,
    table: Annotated[
        Table | None, typer.Option(help="print the figures' tables alone, or write them too", show_default=False)
    ] = None,
) -> None:
    """Draw perplexity over time, steps, data or money, staleness, utilization, timelines, heat maps; tables of them."""
    from rich.console import Console

    from simulator import report

    records = report.read_runs(runs)
    groups = report.group_records(records, by)
    drawn, spent = _drawings(records, groups, against, by, target or (), baseline, heatmap, value, figure)
    if table == "print" or (heatmap is not None and not figure):  # no table of results shows it
        note(report.note_of_repeats(groups))
    if table == "print":
        tables = {drawing.name: drawing.table() for drawing in drawn} | ({} if spent is None else {_SPENT: spent})
        sys.stdout.write("\n".join(f"# {name}\n{report.csv_text(rows)}" for name, rows in tables.items()))
        return
    folder, written = out or runs[0], []
    for drawing in drawn:
        written += report.save(drawing.figure(), folder / drawing.name)
        written += [report.save_table(drawing.table(), folder / f"{drawing.name}.{table}")] if table else []
    if spent is not None and table:
        written.append(report.save_table(spent, folder / f"{_SPENT}.{table}"))
    console = Console()
    if heatmap is None or figure:
        console.print(report.results_tables(groups))
    if spent is not None:
        console.print("", report.target_rich_table(spent, currency=report.currency_of(records)))
    say("\n".join(str(path) for path in written))


def _drawings(
    records: "list[RunRecord]",
    groups: "list[Group]",
    against: Against | None,
    by: list[str] | None,
    targets: Sequence[float],
    baseline: str | None,
    heatmap: tuple[str, str] | None,
    value: str,
    figures: Sequence[Figure] | None,
) -> "tuple[list[Drawing], pd.DataFrame | None]":
    """Returns the requested figures, and the table of targets, if any."""
    from simulator.report import FIGURES, TO_TARGET, Drawing, drawings, heat_map, heat_map_table, time_to_target
    from simulator.report.grouping import only

    drawn: list[Drawing] = []
    if heatmap is None or figures:
        kinds = [kind for kind in FIGURES if not figures or kind in figures]
        drawn += drawings(groups, [against] if against else None, targets=targets, figures=kinds)
    if heatmap is not None:
        of_targets = targets if value in TO_TARGET and targets else (None,)
        for target in of_targets:
            settings: dict[str, Any] = {"value": value, "target": target, "by": by or ("variant",)}
            name = f"heat_map_{value}" + (f"_{target:g}" if len(of_targets) > 1 else "")
            figure = functools.partial(heat_map, records, *heatmap, **settings)
            drawn.append(Drawing(name, figure, functools.partial(heat_map_table, records, *heatmap, **settings)))
    if not targets or (heatmap is not None and not figures):
        return drawn, None
    trained = only(groups, lambda record: record.summary["trainer"] != "null")
    return drawn, time_to_target(trained, targets, baseline=baseline)


def report(
    runs: Annotated[list[Path], typer.Argument(help="run folders, or folders that hold them", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="file to write; report.html in the first of RUNS when absent", show_default=False
        ),
    ] = None,
    target: Annotated[
        list[float] | None,
        typer.Option(help="perplexity to reach; what the baseline reaches when absent; several", show_default=False),
    ] = None,
) -> None:
    """Write one page about finished runs that opens offline in a browser, in place of an earlier report."""
    from simulator.record import TRIALS_FOLDER
    from simulator.report.page import write_report
    from simulator.report.runs import read_runs
    from simulator.sweep.folder import SWEEP_FILE
    from simulator.sweep.status import sweep_status

    records = read_runs(runs)
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


def trace(
    runs: Annotated[list[Path], typer.Argument(help="run folders, or folders that hold them", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="file to write, .json or .json.gz; trace.json.gz in the first of RUNS when absent",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write who did what when as a trace, to look at in Perfetto or chrome://tracing."""
    from simulator.report import read_runs, write_trace

    path = out or runs[0] / "trace.json.gz"
    records = read_runs(runs)
    count = write_trace(records, path)
    say(f"{count:,} events of {plural(len(records), 'run')} in {path}: open it at https://ui.perfetto.dev")


def compare(
    file: Annotated[Path, typer.Argument(help="experiment file with a `reference`", show_default=False)],
    results: Annotated[
        list[Path], typer.Argument(help="folders with a summary.json, or such files", show_default=False)
    ],
    scale: Annotated[str | None, typer.Option(help="scale of the file that was run", show_default=False)] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="print a Markdown table")] = False,
) -> None:
    """Lay results of a file's variants beside the published ones, as ratios to a baseline over all seeds."""
    from rich.console import Console

    from simulator.experiment import ExperimentError, load_document
    from simulator.experiment.reference import read_reference
    from simulator.learning import as_used
    from simulator.record import read_results
    from simulator.report import comparison, comparison_markdown, comparison_table, note_of_repeats
    from simulator.report.grouping import group_results
    from simulator.verify.settings import other_settings

    document = load_document(file, () if scale is None else (f"scale={scale}",))
    problems = list(document.problems)
    reference = read_reference(document, problems)
    if reference is None and not problems:
        missing = "is missing: the file names no published results to compare with"
        problems.append(document.problem(("reference",), missing))
    if reference is None or problems:
        raise ExperimentError(problems)
    published = reference.model_dump()
    select = document.tree.get("select")
    found = [run for run in read_results(results) if not select or run.summary["variant"] in select]
    rows = comparison(found, published, variants=select)
    if markdown:
        sys.stdout.write(comparison_markdown(rows, published))
    else:
        Console().print(comparison_table(rows, published))
    note(note_of_repeats(group_results(found)))
    for text in other_settings(document, found, as_used):
        note(text)


def verify(
    runs: Annotated[list[Path], typer.Argument(help="run folders, or folders that hold them", show_default=False)],
) -> None:
    """Recompute from records alone what must be true of them, and say which row breaks which rule."""
    from simulator.record import EXPERIMENT_FILE, RecordError, RunRecord, run_folders
    from simulator.verify import unchecked
    from simulator.verify import verify as violations_of

    broken = 0
    for folder in run_folders(runs):
        record = RunRecord.read(folder)
        try:
            found = violations_of(record)
        except RecordError as error:
            message = f"{error}. Remove the run's folder and simulate it again"
            raise RecordError(f"{folder / EXPERIMENT_FILE}: {message}") from error
        broken += bool(found)
        amount = f"{plural(len(record.rounds), 'round')}, {plural(len(record.evaluations), 'evaluation')}"
        say(f"{folder}: {amount}: {plural(len(found), 'violation') if found else 'every rule holds'}")
        for violation in found[:_MOST_VIOLATIONS]:
            say(f"  {violation}")
        if len(found) > _MOST_VIOLATIONS:
            say(f"  and {len(found) - _MOST_VIOLATIONS:,} more")
        for text in unchecked(record):
            say(f"  {text}")
    if broken:
        fail(f"{plural(broken, 'run')} broke a rule", EXIT_BROKEN)
