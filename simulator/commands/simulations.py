"""Commands that simulate: `run` and `timeline`."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from simulator.commands.shared import File, Out, Settings, Variant, plural, read_points, say
from simulator.experiment import Point, SimulationError
from simulator.folder import CHECKPOINTS, alone_in, finished, output_folder
from simulator.stopping import Interrupted, Stopped, StopSignals
from simulator.visible import visible

if TYPE_CHECKING:
    from simulator.engine import TrainerKind
    from simulator.learning import Workshop
    from simulator.record import RunRecord


def run(
    file: File,
    settings: Settings = None,
    out: Out = None,
    variant: Variant = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on in the output folder: what is finished there is not run again")
    ] = False,
    reuse: Annotated[
        bool, typer.Option(help="take over what a simulation with the same order of events has trained")
    ] = True,
) -> None:
    """Simulate and train every variant and sweep point of an experiment file."""
    from simulator.experiment.reference import reference_of
    from simulator.record import write_summary
    from simulator.report import comparison, comparison_table, results_tables, write_figures

    document, points, workshop = read_points(file, settings, variant)
    folder = output_folder(out, points[0].experiment.name, resume=resume)
    records: list[RunRecord] = []
    with alone_in(folder):
        for record in _simulate(points, workshop, folder, reuse=reuse):
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
    say(f"\n{plural(len(records), 'run')}, summary.json and {len(figures)} figures in {folder}")
    reused = [summary for summary in summaries if summary.get("reused")]
    if reused:
        steps = sum(summary["reused"]["local_steps"] for summary in reused)
        of_all = f"{steps:,} of {sum(summary['local_steps'] for summary in summaries):,} local steps"
        say(f"{plural(len(reused), 'run')} took over what others had trained, {of_all}: `reused` in summary.json")


def timeline(file: File, settings: Settings = None, out: Out = None, variant: Variant = None) -> None:
    """Simulate the cluster alone, training nothing: utilisation, staleness, bytes, Gantt pictures."""
    from simulator.record import write_summary
    from simulator.report import results_tables, worker_rich_table, write_figures

    _, points, workshop = read_points(file, settings, variant, data="uneven")
    folder = output_folder(out, f"{points[0].experiment.name}-timeline")
    records = list(_simulate(points, workshop, folder, "null", reuse=False))
    write_summary(folder / "summary.json", [record.summary for record in records])
    console = Console()
    for record in records:
        console.print(worker_rich_table(record), "")
    console.print(results_tables([record.summary for record in records], title=points[0].experiment.name))
    figures = write_figures(records, folder)
    say(f"\n{plural(len(records), 'timeline')} and {len(figures)} figures in {folder}")


def _simulate(
    points: Sequence[Point], workshop: "Workshop", folder: Path, trainer: "TrainerKind | None" = None, *, reuse: bool
) -> "Iterator[RunRecord]":
    """Simulates the points that are not finished, one after another; each record is written as soon as it is there."""
    from simulator.engine import sharing, simulate
    from simulator.live import LiveView
    from simulator.report import file_names
    from simulator.reuse import Reuse

    labels = [_label(point) for point in points]
    digits = len(str(len(points)))
    with LiveView(Console(stderr=True), len(points)) as view, StopSignals() as stop:
        plan = sharing([point.experiment for point in points], labels, workshop) if reuse else Reuse()
        for index, (point, label, name) in enumerate(zip(points, labels, file_names(labels), strict=True)):
            observer = view.begin(label)
            of_run = folder / f"{index + 1:0{digits}d}-{name}"  # plots keep the order of the file
            record, share = finished(of_run, point.experiment.model_dump(mode="json")), plan.share(index)
            if record is None:
                try:
                    record = simulate(
                        point.experiment,
                        trainer=trainer,
                        observer=observer,
                        workshop=workshop,
                        overrides=point.overrides,
                        checkpoints=of_run / CHECKPOINTS,
                        share=share,
                        stop=stop,
                    )
                except Stopped as stopped:
                    assert stop.received is not None
                    stands = f"{label} stands after {plural(stopped.updates, 'server update')}"
                    raise Interrupted(stop.received, f"{stands}: go on with --resume --out {folder}") from stopped
                except SimulationError as error:
                    raise SimulationError(f"{label}: {error}") from error
                record.write(of_run)
            plan.done(index, record, share.kept)
            shutil.rmtree(of_run / CHECKPOINTS, ignore_errors=True)
            observer.finished()
            yield record


def _label(point: Point) -> str:
    return visible(", ".join([point.variant, *(f"{path}={value}" for path, value in point.overrides.items())]))
