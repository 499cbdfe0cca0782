"""Results beside published ones: `compare`."""

import sys
from pathlib import Path

from rich.console import Console

from simulator.cli.output import note
from simulator.experiment import ExperimentError, load_document
from simulator.experiment.reference import read_reference
from simulator.learning import as_used
from simulator.record import read_results
from simulator.report import comparison, comparison_markdown, comparison_table, note_of_repeats
from simulator.report.grouping import group_results
from simulator.verify.settings import other_settings


def compare(file: Path, results: list[Path], scale: str | None, *, markdown: bool) -> None:
    """Prints the ratios of a file's variants to a baseline, of the results and of the published ones."""
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
