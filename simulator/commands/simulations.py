"""Commands that simulate: `run` and `timeline`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simulator.commands.shared import File, Out, Plugin, Settings, Variant, plural, read_points, say, use_plugins
from simulator.visible import visible

if TYPE_CHECKING:
    from simulator.engine import TrainerKind
    from simulator.experiment import Point
    from simulator.learning import Workshop
    from simulator.profiling import Profile
    from simulator.record import RunRecord
    from simulator.tracking import Tracker


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
    profile: Annotated[
        bool, typer.Option("--profile", help="trace a few rounds with JAX's profiler, into the output folder")
    ] = False,
    plugin: Plugin = None,
    tracker: Annotated[
        list[str] | None,
        typer.Option(help="also log to this: tensorboard or wandb; with simulated time as an axis", show_default=False),
    ] = None,
) -> None:
    """Simulate and train every variant and sweep point of an experiment file."""
    from rich.console import Console

    from simulator.compiled import keep_compiled_programs
    from simulator.experiment.reference import reference_of
    from simulator.folder import alone_in, output_folder
    from simulator.record import write_summary
    from simulator.report import comparison, comparison_table, results_tables, write_figures

    keep_compiled_programs()
    use_plugins(plugin)
    document, points, workshop = read_points(file, settings, variant)
    folder = output_folder(out, points[0].experiment.name, resume=resume)
    records: list[RunRecord] = []
    with alone_in(folder):
        traced = _profile(folder) if profile else None
        told = _trackers(tracker, folder)
        for record in _simulate(points, workshop, folder, reuse=reuse, profile=traced, trackers=told):
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
    if traced is not None:
        say(traced.report())


def timeline(
    file: File, settings: Settings = None, out: Out = None, variant: Variant = None, plugin: Plugin = None
) -> None:
    """Simulate the cluster alone, training nothing: utilisation, staleness, bytes, Gantt pictures."""
    from rich.console import Console

    from simulator.folder import output_folder
    from simulator.record import write_summary
    from simulator.report import results_tables, worker_rich_table, write_figures

    use_plugins(plugin)
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
    points: "Sequence[Point]",
    workshop: "Workshop",
    folder: Path,
    trainer: "TrainerKind | None" = None,
    *,
    reuse: bool,
    profile: "Profile | None" = None,
    trackers: "Sequence[Tracker]" = (),
) -> "Iterator[RunRecord]":
    """Simulates the points that are not finished, one after another; each record is written as soon as it is there."""
    import shutil
    from contextlib import nullcontext

    from rich.console import Console

    from simulator.engine import sharing, simulate
    from simulator.experiment import SimulationError
    from simulator.folder import CHECKPOINTS, finished
    from simulator.live import LiveView
    from simulator.report import file_names
    from simulator.reuse import Reuse
    from simulator.stopping import Interrupted, Stopped, StopSignals
    from simulator.tracking import track

    labels = [_label(point) for point in points]
    digits = len(str(len(points)))
    with LiveView(Console(stderr=True), len(points)) as view, StopSignals() as stop, profile or nullcontext():
        plan = sharing([point.experiment for point in points], labels, workshop) if reuse else Reuse()
        for index, (point, label, name) in enumerate(zip(points, labels, file_names(labels), strict=True)):
            observer = view.begin(label)
            of_run = folder / f"{index + 1:0{digits}d}-{name}"  # plots keep the order of the file
            record, share = finished(of_run, point.experiment.model_dump(mode="json")), plan.share(index)
            if record is None:
                shown = observer if profile is None else profile.of(label, observer)
                try:
                    with track(trackers, of_run.name, point, shown) as told:
                        record = simulate(
                            point.experiment,
                            trainer=trainer,
                            observer=told,
                            workshop=workshop,
                            overrides=point.overrides,
                            checkpoints=of_run / CHECKPOINTS,
                            share=share,
                            stop=stop,
                        )
                        told.finished(record)
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


def _trackers(kinds: "Sequence[str] | None", folder: Path) -> "list[Tracker]":
    """Returns the trackers that are asked for, each once."""
    if not kinds:
        return []
    from simulator.tracking import tracker

    return [tracker(kind, folder) for kind in dict.fromkeys(kinds)]


def _profile(folder: Path) -> "Profile":
    from simulator.profiling import Profile

    return Profile(folder / "profile")


def _label(point: "Point") -> str:
    return visible(", ".join([point.variant, *(f"{path}={value}" for path, value in point.overrides.items())]))
