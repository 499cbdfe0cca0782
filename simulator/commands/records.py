"""Commands that read records alone: `plot`, `trace`, `compare` and `verify`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from simulator.commands.shared import EXIT_BROKEN, fail, plural, say

_MOST_VIOLATIONS = 20
Against = Literal["simulated_s", "local_steps", "tokens", "bytes_sent"]


def plot(
    runs: Annotated[list[Path], typer.Argument(help="run folders, or folders that hold them", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="folder for the figures; the first of RUNS when absent", show_default=False)
    ] = None,
    against: Annotated[Against | None, typer.Option(help="draw perplexity against this", show_default=False)] = None,
) -> None:
    """Draw perplexity against time, steps, tokens or bytes, staleness and timelines of finished runs."""
    from rich.console import Console

    from simulator.record import read_runs
    from simulator.report import results_tables, write_figures

    records = read_runs(runs)
    folder = out or runs[0]
    figures = write_figures(records, folder, [against]) if against else write_figures(records, folder)
    console = Console()
    console.print(results_tables([record.summary for record in records]))
    say("\n".join(str(path) for path in figures))


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
    from simulator.record import read_runs
    from simulator.report import write_trace

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
    from simulator.record import read_summaries
    from simulator.report import comparison, comparison_markdown, comparison_table

    document = load_document(file, () if scale is None else (f"scale={scale}",))
    problems = list(document.problems)
    reference = read_reference(document, problems)
    if reference is None and not problems:
        missing = "is missing: the file names no published results to compare with"
        problems.append(document.problem(("reference",), missing))
    if reference is None or problems:
        raise ExperimentError(problems)
    published = reference.model_dump()
    rows = comparison(read_summaries(results), published, variants=document.tree.get("select"))
    if markdown:
        sys.stdout.write(comparison_markdown(rows, published))
    else:
        Console().print(comparison_table(rows, published))


def verify(
    runs: Annotated[list[Path], typer.Argument(help="run folders, or folders that hold them", show_default=False)],
) -> None:
    """Recompute from records alone what must be true of them, and say which row breaks which rule."""
    from simulator.record import RunRecord, run_folders
    from simulator.verify import unchecked
    from simulator.verify import verify as violations_of

    broken = 0
    for folder in run_folders(runs):
        record = RunRecord.read(folder)
        found = violations_of(record)
        broken += bool(found)
        amount = f"{plural(len(record.rounds), 'round')}, {plural(len(record.evaluations), 'evaluation')}"
        say(f"{folder}: {amount}: {plural(len(found), 'violation') if found else 'every rule holds'}")
        for violation in found[:_MOST_VIOLATIONS]:
            say(f"  {violation}")
        if len(found) > _MOST_VIOLATIONS:
            say(f"  and {len(found) - _MOST_VIOLATIONS:,} more")
        for note in unchecked(record):
            say(f"  {note}")
    if broken:
        fail(f"{plural(broken, 'run')} broke a rule", EXIT_BROKEN)
