"""Commands that simulate: `run` and `timeline`."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simulator.cli.common import (
    File,
    Out,
    Plugin,
    Settings,
    Variant,
    few_windows,
    read_points,
    say,
    say_what,
    use_plugins,
)
from simulator.cli.executor_options import Address, Cpus, EngineOption, Gpus, Jobs, Memory, Retries, engine_of
from simulator.host.output import outlast_readers
from simulator.host.text import plural

if TYPE_CHECKING:
    from simulator.experiment import Document, Point
    from simulator.learning import Cache
    from simulator.progress.profiler import Profile
    from simulator.progress.trackers import Tracker
    from simulator.record import RunRecord

ProfileOption = Annotated[
    bool, typer.Option("--profile", help="trace a few rounds with JAX's profiler, into the output folder")
]
TrackerOption = Annotated[
    list[str] | None,
    typer.Option(help="also log to this: tensorboard or wandb; with simulated time as an axis", show_default=False),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="show the points and an estimate of what they cost; simulate nothing")
]
Rate = Annotated[
    str | None,
    typer.Option(help="dry run: speed of training, such as 5TFLOP/s; measured when absent", show_default=False),
]


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
    profile: ProfileOption = False,
    plugin: Plugin = None,
    tracker: TrackerOption = None,
    jobs: Jobs = None,
    engine: EngineOption = "local",
    address: Address = None,
    cpus: Cpus = None,
    gpus: Gpus = None,
    memory: Memory = None,
    retries: Retries = 2,
    dry_run: DryRun = False,
    rate: Rate = None,
) -> None:
    """Simulate and train every variant and sweep point of an experiment file."""
    from simulator.host.compile_cache import keep_compiled_programs
    from simulator.sweep.executors.environment import leave_memory_to_others
    from simulator.sweep.folder import output_folder
    from simulator.sweep.outcomes import PointsFailedError
    from simulator.sweep.sweep import Local, Sweep

    outlast_readers()
    where = engine_of(engine, jobs, retries, address, cpus, gpus, memory)
    here = where == Local(1, retries)
    _refuse_together(profile=profile, dry_run=dry_run, rate=rate, here=here)
    if not here:
        leave_memory_to_others()
    keep_compiled_programs()
    use_plugins(plugin)
    memory_here = 1.0 if isinstance(where, Local) else math.inf  # of the cluster's machines nothing is known yet
    document, points, cache = read_points(file, settings, variant, train=True, memory=memory_here)
    _say_what(file, points, cache)
    if dry_run:
        _estimate(points, cache, rate, reuse=reuse)
        return
    with output_folder(out, points[0].experiment.name, resume=resume) as folder:
        traced = _profile(folder) if profile else None
        trackers = _trackers(tracker, folder)
        sweep = Sweep(points, cache, folder, where, reuse=reuse, profile=traced, trackers=trackers)
        records, failures = sweep.run()
        if records:
            _report(document, [point.variant for point in points], records, folder)
    if traced is not None:
        say(traced.report())
    if failures:
        raise PointsFailedError(failures, records, folder)


def timeline(
    file: File, settings: Settings = None, out: Out = None, variant: Variant = None, plugin: Plugin = None
) -> None:
    """Simulate the cluster alone, training nothing: utilisation, staleness, bytes, Gantt pictures."""
    from rich.console import Console

    from simulator.report import results_tables, worker_rich_table, write_figures
    from simulator.report.grouping import run_labels
    from simulator.sweep.folder import output_folder
    from simulator.sweep.outcomes import PointsFailedError
    from simulator.sweep.sweep import Sweep

    outlast_readers()
    use_plugins(plugin)
    _, points, cache = read_points(file, settings, variant, data="uneven")
    _say_what(file, points, cache, trains=False)
    for path, search in points[0].searches.items():
        say(f"{path} is searched: these are timelines at {search.ends[0]}")
    points = [dataclasses.replace(point, searches={}) for point in points]
    with output_folder(out, f"{points[0].experiment.name}-timeline", resume=None) as folder:
        records, failures = Sweep(points, cache, folder, trainer="null", reuse=False).run()
    console = Console()
    for record, label in zip(records, run_labels(records) if records else (), strict=True):
        console.print(worker_rich_table(record, title=label), "")
    if records:
        console.print(results_tables(records, title=points[0].experiment.name))
        figures = write_figures(records, folder)
        say(f"\n{plural(len(records), 'timeline')} and {len(figures)} figures in {folder}")
    if failures:
        raise PointsFailedError(failures, records)


def _say_what(file: Path, points: "Sequence[Point]", cache: "Cache", *, trains: bool = True) -> None:
    """Prints the simulations to run, and a note if there are fewer windows to evaluate on than requested."""
    from simulator.learning import Setup

    parameters = (Setup(point.experiment, cache).costs.parameters for point in points)
    say_what(file, points, parameters, few_windows(points, cache) if trains else ())


def _refuse_together(*, profile: bool, dry_run: bool, rate: str | None, here: bool) -> None:
    """Refuses options that do not go together.

    Raises:
      ExperimentError: some do not.
    """
    from simulator.experiment import ExperimentError, Problem

    problems = []
    if profile and not here:
        problems.append(Problem("--profile", "traces this process alone: leave it out, or --jobs and --engine"))
    if rate is not None and not dry_run:
        problems.append(Problem("--rate", "is for an estimate: add --dry-run, or leave it out", rate))
    if problems:
        raise ExperimentError(problems)


def _report(document: "Document", variants: "Sequence[str]", records: "Sequence[RunRecord]", folder: Path) -> None:
    """Prints the results and draws the figures."""
    from rich.console import Console

    from simulator.experiment.reference import reference_of
    from simulator.report import comparison, comparison_table, results_tables, write_figures
    from simulator.sweep.search import TUNING_FILE, failed_trials

    console = Console()
    summaries = [record.summary for record in records]
    console.print(results_tables(records, title=records[0].experiment["name"]))
    reference = reference_of(document)
    if reference is not None and reference.baseline in variants:
        published = reference.model_dump()
        console.print("", comparison_table(comparison(records, published), published))
    figures = write_figures(records, folder)
    say(f"\n{plural(len(records), 'run')}, summary.json and {len(figures)} figures in {folder}")
    if any(summary.get("tuned") for summary in summaries):
        failed = failed_trials(folder)
        of_them = f"; {plural(len(failed), 'trial')} failed (the first: {failed[0]})" if failed else ""
        say(f"searched: what was tried and chosen is in {folder / TUNING_FILE}{of_them}")
    reused = [summary for summary in summaries if summary.get("reused")]
    if reused:
        steps = sum(summary["reused"]["local_steps"] for summary in reused)
        of_all = f"{steps:,} of {sum(summary['local_steps'] for summary in summaries):,} local steps"
        say(f"{plural(len(reused), 'run')} took over what others had trained, {of_all}: `reused` in summary.json")


def _estimate(points: Any, cache: Any, rate: str | None, *, reuse: bool) -> None:
    """Prints the points and their estimated cost."""
    from rich.console import Console

    from simulator.sweep.estimate import estimate, estimate_table, read_rate

    found = estimate(points, cache, read_rate(rate), reuse=reuse)
    Console().print(estimate_table(found))
    for line in found.lines():
        say(line)
    if any(point.searches for point in points):
        from simulator.sweep.search import number_of_trials

        trials = number_of_trials(points)
        about = f", about {trials / len(points):.1f} times as much" if trials else ""
        say(f"not counted: {plural(trials, 'trial')} of the axes that are searched, before these{about}")


def _trackers(kinds: "Sequence[str] | None", folder: Path) -> "list[Tracker]":
    """Returns the requested trackers, each once."""
    if not kinds:
        return []
    from simulator.progress.trackers import tracker

    return [tracker(kind, folder) for kind in dict.fromkeys(kinds)]


def _profile(folder: Path) -> "Profile":
    from simulator.progress.profiler import Profile

    return Profile(folder / "profile")
