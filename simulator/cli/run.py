"""Commands that simulate: `run` and `timeline`."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from simulator.cli.output import say
from simulator.cli.plugins import use_plugins
from simulator.cli.reading import Reading, few_windows, read_file, read_for_the_clock, say_size
from simulator.experiment import Document, ExperimentError, Problem
from simulator.experiment.reference import reference_of
from simulator.experiment.schema.units import Size
from simulator.host.compile_cache import keep_compiled_programs
from simulator.host.output import outlast_readers
from simulator.host.text import plural
from simulator.progress.profiler import Profile
from simulator.progress.trackers import tracker as tracker_of
from simulator.record import RunRecord
from simulator.report import (
    FIGURES,
    comparison,
    comparison_table,
    group_records,
    has_sites,
    results_tables,
    site_rich_table,
    worker_rich_table,
    write_figures,
)
from simulator.report.grouping import run_labels
from simulator.sweep.engines import Engine, Local, OnRay
from simulator.sweep.estimate import estimate, estimate_table, read_rate
from simulator.sweep.executors.environment import leave_memory_to_others
from simulator.sweep.folder import check_output_folder, output_folder, output_path
from simulator.sweep.outcomes import PointsFailedError
from simulator.sweep.search import TUNING_FILE, failed_trials, number_of_trials
from simulator.sweep.sweep import Sweep

_MOST_TIMELINES = 36  # that are drawn without being asked for


def run(
    file: Path,
    settings: list[str] | None,
    out: Path | None,
    variant: str | None,
    *,
    resume: bool,
    reuse: bool,
    profile: bool,
    plugin: list[str] | None,
    tracker: list[str] | None,
    dry_run: bool,
    rate: str | None,
    **executor: Any,
) -> None:
    """Simulates and trains every point of a file; `executor` has the options of `_engine`."""
    outlast_readers()
    engine = _engine(**executor)
    here = engine == Local(1, executor["retries"])
    _refuse_together(profile=profile, dry_run=dry_run, rate=rate, here=here)
    if out is not None and not dry_run:
        check_output_folder(out, resume=resume)  # now: to read the points can take a while
    if not here:
        leave_memory_to_others()
    keep_compiled_programs()
    use_plugins(plugin)
    memory = 1.0 if isinstance(engine, Local) else math.inf  # of the cluster's machines nothing is known yet
    reading = read_file(file, settings, variant, train=True, trains=True, memory=memory)
    document, points, cache, shortages = reading
    if shortages:
        raise ExperimentError(
            document.problem(tuple(each.key.split(".")), each.message, each.value) for each in shortages
        )
    say_size(file, reading, few_windows(reading))
    if dry_run:
        folder = output_path(out, points[0].experiment.name, resume=True) if resume else None
        _estimate(reading, rate, reuse=reuse, folder=folder)
        return
    with output_folder(out, points[0].experiment.name, resume=resume) as folder:
        traced = Profile(folder / "profile") if profile else None
        trackers = [tracker_of(kind, folder) for kind in dict.fromkeys(tracker or ())]
        sweep = Sweep(points, cache, folder, engine, reuse=reuse, profile=traced, trackers=trackers)
        records, failures = sweep.run()
        if records:
            _report(document, [point.variant for point in points], records, folder)
    if traced is not None:
        say(traced.report())
    if failures:
        raise PointsFailedError(failures, records, folder)


def timeline(
    file: Path, settings: list[str] | None, out: Path | None, variant: str | None, plugin: list[str] | None
) -> None:
    """Simulates the cluster alone."""
    _, points, cache, _ = read_for_the_clock(file, settings, variant, plugin)
    name = points[0].experiment.name
    with output_folder(out, f"{name}-timeline", resume=None) as folder:
        records, failures = Sweep(points, cache, folder, trainer="null", reuse=False).run()
    console = Console()
    for record, label in zip(records, run_labels(records) if records else (), strict=True):
        console.print(worker_rich_table(record, title=label), "")
        if has_sites(record):
            console.print(site_rich_table(record, title=label), "")
    if records:
        console.print(results_tables(records, title=name))
        figures = _write_figures(records, folder)
        say(f"\n{plural(len(records), 'timeline')} and {len(figures)} figures in {folder}")
    if failures:
        raise PointsFailedError(failures, records)


def _engine(
    engine: str,
    jobs: int | None,
    retries: int,
    address: str | None,
    cpus: float | None,
    gpus: float | None,
    memory: str | None,
) -> Engine:
    """Returns the executor, unless an option belongs to the other one or has no such value."""
    problems = []
    if engine == "ray" and jobs is not None:
        message = "is for local processes: leave it out, as many points run on the cluster as it has room for"
        problems.append(Problem("--jobs", message, jobs))
    if engine == "local":
        of_ray = {"--address": address, "--cpus": cpus, "--gpus": gpus, "--memory": memory}
        message = "is for a cluster: add --engine ray, or leave it out"
        problems += [Problem(name, message, value) for name, value in of_ray.items() if value is not None]
    for name, number in (("--cpus", cpus), ("--gpus", gpus)):
        if number is not None and (number < 0 or (number > 1 and number != int(number))):
            problems.append(Problem(name, "expected a whole number, or a part of 1", number))
    size = None
    try:
        size = None if memory is None else TypeAdapter(Size).validate_python(memory)
    except ValidationError as error:
        problems.append(Problem("--memory", error.errors()[0]["msg"].removeprefix("Value error, "), memory))
    if problems:
        raise ExperimentError(problems)
    return OnRay(address, cpus, gpus or 0.0, size, retries) if engine == "ray" else Local(jobs or 1, retries)


def _refuse_together(*, profile: bool, dry_run: bool, rate: str | None, here: bool) -> None:
    problems = []
    if profile and not here:
        problems.append(Problem("--profile", "traces this process alone: leave it out, or --jobs and --engine"))
    if rate is not None and not dry_run:
        problems.append(Problem("--rate", "is for an estimate: add --dry-run, or leave it out", rate))
    if problems:
        raise ExperimentError(problems)


def _write_figures(records: Sequence[RunRecord], folder: Path) -> list[Path]:
    """Draws the figures, of many groups without a timeline for each."""
    groups = group_records(records)
    if len(groups) <= _MOST_TIMELINES:
        return write_figures(groups, folder)
    say(f"\nmore than {_MOST_TIMELINES} timelines are not drawn: name runs to tardigrad plot --figure timeline")
    return write_figures(groups, folder, figures=[kind for kind in FIGURES if kind != "timeline"])


def _report(document: Document, variants: Sequence[str], records: Sequence[RunRecord], folder: Path) -> None:
    """Prints the results and draws the figures."""
    console = Console()
    summaries = [record.summary for record in records]
    console.print(results_tables(records, title=records[0].experiment["name"]))
    reference = reference_of(document)
    if reference is not None and reference.baseline in variants:
        published = reference.model_dump()
        console.print("", comparison_table(comparison(records, published), published))
    figures = _write_figures(records, folder)
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


def _estimate(reading: Reading, rate: str | None, *, reuse: bool, folder: Path | None) -> None:
    points = reading.points
    found = estimate(points, reading.cache, read_rate(rate), reuse=reuse, folder=folder)
    if len(found.points) < len(points):
        say(f"finished in {folder}: {len(points) - len(found.points)} of {plural(len(points), 'point')}")
    Console().print(estimate_table(found))
    for line in found.lines():
        say(line)
    if any(point.searches for point in points):
        trials = number_of_trials(points)
        about = f", about {trials / len(points):.1f} times as much" if trials else ""
        say(f"not counted: {plural(trials, 'trial')} of the axes that are searched, before these{about}")
