"""The `tardigrad` command."""

import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from simulator.cores import use_cpu_cores
from simulator.experiment import (
    Document,
    Experiment,
    ExperimentError,
    Point,
    Problem,
    SimulationError,
    expand,
    load_document,
)
from simulator.folder import CHECKPOINTS, alone_in, finished, output_folder
from simulator.stopping import Interrupted, Stopped, StopSignals
from simulator.visible import visible

if TYPE_CHECKING:
    from simulator.engine import TrainerKind
    from simulator.experiment.data_schema import DocumentData
    from simulator.learning import Workshop
    from simulator.record import RunRecord

app = typer.Typer(
    help="Simulate heterogeneous clusters on one host, and train a real model as they would.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

data_app = typer.Typer(help="Prepare the text of an experiment file, and look at it.", no_args_is_help=True)
app.add_typer(data_app, name="data")

EXIT_BROKEN = 1
EXIT_BAD_INPUT = 2
EXIT_SIGNAL = 128  # and the signal's number

_MOST_VIOLATIONS = 20
File = Annotated[Path, typer.Argument(help="experiment file", show_default=False)]
Settings = Annotated[
    list[str] | None, typer.Argument(help="settings that win over the file, as key.path=value", show_default=False)
]
Against = Literal["simulated_s", "local_steps", "tokens", "bytes_sent"]
Variant = Annotated[str | None, typer.Option(help="only this variant of the file", show_default=False)]
_Data = Literal["all", "uneven", "none"]
"""Whose data are looked at; a timeline depends on those of uneven shards."""
Out = Annotated[Path | None, typer.Option(help="output folder; runs/NAME when absent", show_default=False)]


@contextlib.contextmanager
def _messages() -> Iterator[None]:
    """Ends the process with one clear message where the input or the disk is at fault."""
    try:
        yield
    except ExperimentError as error:
        _fail(str(error), EXIT_BAD_INPUT)
    except SimulationError as error:
        _fail(str(error), EXIT_BROKEN)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}", EXIT_BAD_INPUT)
    except Interrupted as interrupted:
        sys.stderr.write(f"tardigrad: {visible(str(interrupted))}\n")
        _leave(EXIT_SIGNAL + interrupted.number)
    except KeyboardInterrupt:
        sys.stderr.write("tardigrad: interrupted; what had been written down is kept\n")
        _leave(EXIT_SIGNAL + signal.SIGINT)
    except ValueError as error:
        from simulator.record import RecordError
        from simulator.report import ReportError

        if not isinstance(error, RecordError | ReportError):
            raise
        _fail(str(error), EXIT_BAD_INPUT)


def _say(text: str) -> None:
    sys.stdout.write(f"{visible(text)}\n")


def _fail(message: str, code: int) -> None:
    sys.stderr.write(f"tardigrad: {visible(message)}\n")
    sys.exit(code)


def _leave(code: int) -> None:
    """Ends the process at once: the interpreter cannot be torn down safely while JAX's threads still compute."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    """Entry point: mistakes end in one message on standard error and a non-zero exit code."""
    use_cpu_cores()
    app()


@app.command()
@_messages()
def run(
    file: File,
    settings: Settings = None,
    out: Out = None,
    variant: Variant = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on in the output folder: what is finished there is not run again")
    ] = False,
) -> None:
    """Simulate and train every variant and sweep point of an experiment file."""
    from simulator.experiment.reference import reference_of
    from simulator.record import write_summary
    from simulator.report import comparison, comparison_table, results_tables, write_figures

    document, points, workshop = _points(file, settings, variant)
    folder = output_folder(out, points[0].experiment.name, resume=resume)
    records: list[RunRecord] = []
    with alone_in(folder):
        for record in _simulate(points, workshop, folder, None):
            records.append(record)
            write_summary(folder / "summary.json", [done.summary for done in records])
    console = Console()
    summaries = [record.summary for record in records]
    console.print(results_tables(summaries, title=points[0].experiment.name))
    reference = reference_of(document)
    if reference is not None and reference.baseline in [point.variant for point in points]:
        published = reference.model_dump()
        console.print("", comparison_table(comparison(summaries, published), published))
    figures = write_figures(records, folder)
    _say(f"\n{_plural(len(records), 'run')}, summary.json and {len(figures)} figures in {folder}")


@app.command()
@_messages()
def timeline(file: File, settings: Settings = None, out: Out = None, variant: Variant = None) -> None:
    """Simulate the cluster alone, training nothing: utilisation, staleness, bytes, Gantt pictures."""
    from simulator.record import write_summary
    from simulator.report import results_tables, worker_rich_table, write_figures

    _, points, workshop = _points(file, settings, variant, data="uneven")
    folder = output_folder(out, f"{points[0].experiment.name}-timeline")
    records = list(_simulate(points, workshop, folder, "null"))
    write_summary(folder / "summary.json", [record.summary for record in records])
    console = Console()
    for record in records:
        console.print(worker_rich_table(record), "")
    console.print(results_tables([record.summary for record in records], title=points[0].experiment.name))
    figures = write_figures(records, folder)
    _say(f"\n{_plural(len(records), 'timeline')} and {len(figures)} figures in {folder}")


@app.command()
@_messages()
def plot(
    runs: Annotated[list[Path], typer.Argument(help="run folders, or folders that hold them", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="folder for the figures; the first of RUNS when absent", show_default=False)
    ] = None,
    against: Annotated[Against | None, typer.Option(help="draw perplexity against this", show_default=False)] = None,
) -> None:
    """Draw perplexity against time, steps, tokens or bytes, staleness and timelines of finished runs."""
    from simulator.record import read_runs
    from simulator.report import results_tables, write_figures

    records = read_runs(runs)
    folder = out or runs[0]
    figures = write_figures(records, folder, [against]) if against else write_figures(records, folder)
    console = Console()
    console.print(results_tables([record.summary for record in records]))
    _say("\n".join(str(path) for path in figures))


@app.command()
@_messages()
def compare(
    file: Annotated[Path, typer.Argument(help="experiment file with a `reference`", show_default=False)],
    results: Annotated[
        list[Path], typer.Argument(help="folders with a summary.json, or such files", show_default=False)
    ],
    scale: Annotated[str | None, typer.Option(help="scale of the file that was run", show_default=False)] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="print a Markdown table")] = False,
) -> None:
    """Lay results of a file's variants beside the published ones, as ratios to a baseline over all seeds."""
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


@app.command()
@_messages()
def validate(
    file: File,
    settings: Settings = None,
    variant: Variant = None,
    data: Annotated[bool, typer.Option(help="look at the data too, of the scale that is chosen")] = True,
) -> None:
    """Report every mistake of an experiment file at once, with its line and the nearest valid name."""
    document, points, _ = _points(file, settings, variant, data="all" if data else "none")
    others = () if settings else document.scales  # settings may be meant for one scale only
    for scale in others:
        if scale != points[0].experiment.scale:  # which has been checked, with its data
            _points(file, [f"scale={scale}"], variant, data="none")
    variants = dict.fromkeys(point.variant for point in points)
    _say(f"{file}: valid; {_plural(len(points), 'simulation')} of {_plural(len(variants), 'variant')}")


@data_app.command()
@_messages()
def prepare(file: File, settings: Settings = None, variant: Variant = None) -> None:
    """Turn the text of an experiment file into tokens, once; `run` does the same where it is missing."""
    from simulator.data import token_store

    stores = {store.folder: store for store in (token_store(data) for data, _, _ in _texts(file, settings, variant))}
    for store in stores.values():
        _say(f"{store.meta['documents']:,} documents, {store.meta['tokens']:,} tokens in {store.folder}")


@data_app.command()
@_messages()
def info(file: File, settings: Settings = None, variant: Variant = None) -> None:
    """Show how much text there is, how it is divided into shards and how unlike they are, and how documents begin."""
    from simulator.corpus import corpus_report
    from simulator.data import corpus_info

    for data, shards, context in _texts(file, settings, variant):
        Console().print(corpus_report(corpus_info(data, shards=shards, context=context)), "")


@app.command()
@_messages()
def schema(
    out: Annotated[Path | None, typer.Option(help="write it to this file", show_default=False)] = None,
) -> None:
    """Print the JSON Schema of experiment files, for editors."""
    from simulator.experiment.json_schema import file_schema

    text = json.dumps(file_schema(), indent=2, ensure_ascii=False) + "\n"
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text, encoding="utf-8")


@app.command()
@_messages()
def verify(
    runs: Annotated[list[Path], typer.Argument(help="run folders, or folders that hold them", show_default=False)],
) -> None:
    """Recompute from records alone what must be true of them, and say which row breaks which rule."""
    from simulator.record import RunRecord, run_folders
    from simulator.verify import verify as violations_of

    broken = 0
    for folder in run_folders(runs):
        record = RunRecord.read(folder)
        found = violations_of(record)
        broken += bool(found)
        amount = f"{_plural(len(record.rounds), 'round')}, {_plural(len(record.evaluations), 'evaluation')}"
        _say(f"{folder}: {amount}: {_plural(len(found), 'violation') if found else 'every rule holds'}")
        for violation in found[:_MOST_VIOLATIONS]:
            _say(f"  {violation}")
        if len(found) > _MOST_VIOLATIONS:
            _say(f"  and {len(found) - _MOST_VIOLATIONS:,} more")
    if broken:
        _fail(f"{_plural(broken, 'run')} broke a rule", EXIT_BROKEN)


@app.command()
@_messages()
def profiles() -> None:
    """List the heterogeneity profiles and the accelerators that a file can name."""
    from simulator.catalogue import accelerators_table, profiles_table

    Console().print(profiles_table(), "", accelerators_table())


@app.command(name="models")
@_messages()
def list_models() -> None:
    """List the model presets that a file can name."""
    from simulator.catalogue import presets_table

    Console().print(presets_table())


def _points(
    file: Path, settings: Sequence[str] | None, variant: str | None, *, data: _Data = "all"
) -> tuple[Document, list[Point], "Workshop"]:
    """Reads a file and reports everything that is wrong, with the data too if asked, before anything is simulated."""
    document = load_document(file, settings or ())
    from simulator.engine import check
    from simulator.learning import Workshop
    from simulator.live import PreparationView

    def problems(experiment: Experiment) -> list[Problem]:
        even = getattr(getattr(experiment, "data", None), "even", True)
        return check(experiment, workshop, data=data == "all" or (data == "uneven" and not even))

    with PreparationView(Console(stderr=True)) as view:
        workshop = Workshop(view)
        points = expand(document, variant=variant, check=problems)
    return document, points, workshop


def _texts(
    file: Path, settings: Sequence[str] | None, variant: str | None
) -> "Iterator[tuple[DocumentData, int, int]]":
    """Yields every text of a file, prepared, with its number of shards and the context, each combination once."""
    from simulator.experiment.data_schema import TextSource
    from simulator.learning.modeling import context_of

    _, points, _ = _points(file, settings, variant)
    texts = {}
    for experiment in (point.experiment for point in points):
        context = context_of(experiment)
        if isinstance(experiment.data, TextSource) and context is not None:
            text = experiment.data, experiment.shards, context
            texts[repr(text)] = text
    if not texts:
        source = points[0].experiment.data.source
        raise ExperimentError([Problem("data.source", "is drawn, not read: there is nothing to prepare", source, file)])
    yield from texts.values()


def _simulate(
    points: Sequence[Point], workshop: "Workshop", folder: Path, trainer: "TrainerKind | None"
) -> "Iterator[RunRecord]":
    """Simulates the points that are not finished, one after another; each record is written as soon as it is there."""
    from simulator.engine import simulate
    from simulator.live import LiveView
    from simulator.report import file_names

    labels = [_label(point) for point in points]
    digits = len(str(len(points)))
    with LiveView(Console(stderr=True), len(points)) as view, StopSignals() as stop:
        for number, (point, label, name) in enumerate(zip(points, labels, file_names(labels), strict=True), 1):
            observer = view.begin(label)
            of_run = folder / f"{number:0{digits}d}-{name}"  # plots keep the order of the file
            record = finished(of_run, point.experiment.model_dump(mode="json"))
            if record is None:
                try:
                    record = simulate(
                        point.experiment,
                        trainer=trainer,
                        observer=observer,
                        workshop=workshop,
                        overrides=point.overrides,
                        checkpoints=of_run / CHECKPOINTS,
                        stop=stop,
                    )
                except Stopped as stopped:
                    assert stop.received is not None
                    stands = f"{label} stands after {_plural(stopped.updates, 'server update')}"
                    raise Interrupted(stop.received, f"{stands}: go on with --resume --out {folder}") from stopped
                except SimulationError as error:
                    raise SimulationError(f"{label}: {error}") from error
                record.write(of_run)
            shutil.rmtree(of_run / CHECKPOINTS, ignore_errors=True)
            observer.finished()
            yield record


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _label(point: Point) -> str:
    return visible(", ".join([point.variant, *(f"{path}={value}" for path, value in point.overrides.items())]))
