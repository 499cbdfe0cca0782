"""Plan of a cluster without training: `plan`."""

import dataclasses
from pathlib import Path

from rich.console import Console

from simulator.cli.output import say
from simulator.cli.plugins import use_plugins
from simulator.cli.reading import read_file, say_size
from simulator.experiment import Point
from simulator.host.output import outlast_readers
from simulator.host.text import visible
from simulator.record import write_json
from simulator.report import bandwidth_table, plan_figure, plan_notes, plan_table, save, waiting_table
from simulator.sweep.folder import output_folder
from simulator.sweep.plan import planned_runs
from simulator.sweep.planning import PLAN_FILE, plan_of, terms_of


def plan(
    file: Path,
    settings: list[str] | None,
    out: Path | None,
    figure: Path | None,
    variant: str | None,
    plugin: list[str] | None,
) -> None:
    """Prints what a cluster takes for every point of a file, by its clock alone."""
    outlast_readers()
    use_plugins(plugin)
    reading = read_file(file, settings, variant, data="uneven")
    say_size(file, reading)
    points = [dataclasses.replace(point, searches={}) for point in reading.points]
    for point in (each for each in points if _needs_training(each)):
        say(f"note: {visible(point.label)} is left out: its times depend on what is trained (inner.micro_batches)")
    points = [point for point in points if not _needs_training(point)] or points  # of which the clock says it
    planned = list(plan_of(points, reading.cache))
    rows = [each.as_json() for each in planned]
    console, terms = Console(), terms_of([point.experiment for point in points])
    console.print(plan_table(rows, title=points[0].experiment.name, caption=terms), "")
    console.print(bandwidth_table(rows), "")
    console.print(waiting_table(rows), "")
    for note in plan_notes(rows):
        say(f"note: {visible(note)}")
    if figure is not None:
        say(f"figures: {', '.join(map(str, save(plan_figure(rows), figure.with_suffix(''))))}")
    if out is not None:
        with output_folder(out, points[0].experiment.name, resume=None) as folder:
            for run, each in zip(planned_runs(points), planned, strict=True):
                each.record.write(folder / run.folder)
            write_json(folder / PLAN_FILE, {"name": points[0].experiment.name, "terms": terms, "variants": rows})
            save(plan_figure(rows), folder / "plan")
            say(f"the plan, its figure, and what was simulated of each variant are in {folder}")


def _needs_training(point: Point) -> bool:
    several = point.experiment.inner.micro_batches
    return several is not None and several.threshold is not None
