"""Figures as files."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from simulator.record import RunRecord, atomic_path
from simulator.report.curves import perplexity_curves
from simulator.report.grouping import group_records
from simulator.report.staleness import staleness
from simulator.report.style import styled
from simulator.report.timeline import timeline

_LONGEST_NAME = 60


def save(figure: Figure, path_without_suffix: Path) -> list[Path]:
    """Writes the figure as PNG (200 dots per inch) and SVG, each atomically, and returns their paths.

    Equal figures give equal bytes: no date is written, and ids in the SVG follow from its content.
    """
    written = []
    for suffix in ("png", "svg"):
        path = path_without_suffix.with_name(f"{path_without_suffix.name}.{suffix}")
        with styled(), atomic_path(path) as temporary:
            figure.savefig(temporary, format=suffix, metadata={"Date": None} if suffix == "svg" else None)
        written.append(path)
    return written


def write_figures(records: Sequence[RunRecord], folder: Path) -> list[Path]:
    """Writes every figure of a finished experiment and returns their paths.

    perplexity_vs_time and perplexity_vs_local_steps of the runs that trained something, staleness of all, and one
    timeline_<variant> for each variant and sweep point, of its first run.

    Raises:
        ReportError: If there is no record, or one cannot be drawn.
    """
    groups = group_records(records)
    trained = [record for record in records if record.summary["trainer"] != "null"]
    written = []
    if trained:
        written += save(perplexity_curves(trained, against="simulated_s"), folder / "perplexity_vs_time")
        written += save(perplexity_curves(trained, against="local_steps"), folder / "perplexity_vs_local_steps")
    written += save(staleness(records), folder / "staleness")
    for group, name in zip(groups, file_names([group.label for group in groups]), strict=True):
        written += save(timeline(group.records[0]), folder / f"timeline_{name}")
    return written


def file_names(labels: Sequence[str]) -> list[str]:
    """Returns a safe file name for each label: a-z, 0-9 and hyphens, at most 60 and a number, no two alike."""
    names: list[str] = []
    for label in labels:
        ascii_only = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode()
        slug = re.sub(r"[^a-z0-9]+", "-", ascii_only.lower()).strip("-")[:_LONGEST_NAME].rstrip("-") or "run"
        name, number = slug, 1
        while name in names:
            number += 1
            name = f"{slug}-{number}"
        names.append(name)
    return names
