"""Figures as files."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from simulator.record import RunRecord, atomic_path
from simulator.report.curves import Against, perplexity_curves
from simulator.report.grouping import group_records
from simulator.report.staleness import staleness
from simulator.report.style import MOST_LOOKS, styled
from simulator.report.timeline import timeline

_LONGEST_NAME = 60
_NAMES = {"simulated_s": "time"}


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


def write_figures(
    records: Sequence[RunRecord], folder: Path, against: Sequence[Against] = ("simulated_s", "local_steps")
) -> list[Path]:
    """Writes every figure of a finished experiment and returns their paths.

    Perplexity of the runs that trained something, one figure for each column of evaluations in `against`; staleness of
    those in which a round arrived; and one timeline_<variant> for each variant and sweep point, of its first such run.
    Where there are more variants and sweep points than one figure can tell apart, figures are numbered: staleness_1,
    staleness_2.

    Raises:
        ReportError: If there is no record.
    """
    group_records(records)  # refuses none
    trained = [record for record in records if record.summary["trainer"] != "null"]
    arrived = [record for record in records if not record.rounds.empty]
    written = []
    for number, part in _legible(trained):
        for axis in against:
            written += save(
                perplexity_curves(part, against=axis), folder / f"perplexity_vs_{_NAMES.get(axis, axis)}{number}"
            )
    for number, part in _legible(arrived):
        written += save(staleness(part), folder / f"staleness{number}")
    groups = group_records(arrived) if arrived else []
    for group, name in zip(groups, file_names([group.label for group in groups]), strict=True):
        written += save(timeline(group.records[0]), folder / f"timeline_{name}")
    return written


def _legible(records: Sequence[RunRecord]) -> Iterator[tuple[str, list[RunRecord]]]:
    """As few parts as can each be told apart in one figure, and what their file names end in."""
    groups = group_records(records) if records else []
    for first in range(0, len(groups), MOST_LOOKS):
        part = [record for group in groups[first : first + MOST_LOOKS] for record in group.records]
        yield (f"_{first // MOST_LOOKS + 1}" if len(groups) > MOST_LOOKS else ""), part


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
