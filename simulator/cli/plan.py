"""Plan of a cluster without training: `plan`."""

from pathlib import Path

from rich.console import Console

from simulator.cli.output import say
from simulator.cli.reading import read_for_the_clock
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
    _, points, cache, _ = read_for_the_clock(file, settings, variant, plugin)
    for point in (each for each in points if each.experiment.inner.has_growing_batches):
        say(f"note: {visible(point.label)} is left out: its times depend on what is trained (inner.micro_batches)")
    points = [each for each in points if not each.experiment.inner.has_growing_batches] or points  # the clock says it
    planned = list(plan_of(points, cache))
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
