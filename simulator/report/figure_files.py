"""Figures and their tables as files."""

import io
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import pandas as pd
from matplotlib.figure import Figure

from simulator.host.files import atomic_path
from simulator.report.arguments import Records
from simulator.report.axes import Against
from simulator.report.curves import perplexity_curves
from simulator.report.group_keys import ReportError
from simulator.report.group_styles import is_scaled
from simulator.report.grouping import Group, group_records, only
from simulator.report.money import has_prices
from simulator.report.pareto import pareto, pareto_table
from simulator.report.perplexity import perplexity_table
from simulator.report.pseudo_gradients import has_diagnostics, pseudo_gradients, pseudo_gradients_table
from simulator.report.spans import timeline_table
from simulator.report.staleness import staleness, staleness_table
from simulator.report.style import MOST_LINE_STYLES, styled
from simulator.report.timeline import timeline
from simulator.report.utilization import utilization, utilization_table
from simulator.report.worker_bins import MOST_ROWS

FigureKind = Literal["perplexity", "pareto", "pseudo_gradients", "staleness", "utilization", "timeline"]
FIGURES: tuple[FigureKind, ...] = tuple(kind for kind in get_args(FigureKind) if kind != "pareto")
"""Kinds of figures that are made where none is named."""
TableFormat = Literal["csv", "parquet"]

_LONGEST_NAME = 60
_NAMES = {"simulated_s": "time"}


class Drawing(NamedTuple):
    """A figure that can be drawn, and the table that it draws.

    Attributes:
        name: Of its files, without a suffix.
        figure: Returns the figure.
        table: Returns the table.
    """

    name: str
    figure: Callable[[], Figure]
    table: Callable[[], pd.DataFrame]


def save(figure: Figure, path_without_suffix: str | Path) -> list[Path]:
    """Writes the figure as PNG (200 dots per inch) and SVG, each atomically, and returns their paths.

    Equal figures give equal bytes: no date is written, and ids in the SVG follow from its content.
    """
    written, base = [], Path(path_without_suffix)
    for suffix in ("png", "svg"):
        path = base.with_name(f"{base.name}.{suffix}")
        with styled(), atomic_path(path) as temporary:
            figure.savefig(temporary, format=suffix, metadata={"Date": None} if suffix == "svg" else None)
        written.append(path)
    return written


def save_table(table: pd.DataFrame, path: str | Path) -> Path:
    """Writes a table atomically as CSV or Parquet, whichever the path ends in, and returns the path.

    The index is written only where it has names, as that of a pivot table has.

    Raises:
        ReportError: If the path ends in something else.
    """
    path = Path(path)
    if path.suffix not in (".csv", ".parquet"):
        raise ReportError(f"{path}: a table is written to a file whose name ends in .csv or .parquet")
    with atomic_path(path) as temporary:
        if path.suffix == ".parquet":
            flat(table).to_parquet(temporary, index=False)
        else:
            temporary.write_text(csv_text(table), encoding="utf-8")
    return path


def csv_text(table: pd.DataFrame) -> str:
    """Returns a table as CSV, with a header; unknown values are empty."""
    text = io.StringIO()
    flat(table).to_csv(text, index=False)
    return text.getvalue()


def flat(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the table with its named index as columns, and all columns named by text.

    Columns of text and numbers together, which no Parquet file can hold, are text.
    """
    if any(name is not None for name in table.index.names):
        table = table.reset_index()
    table = table.set_axis([str(name) for name in table.columns], axis=1)
    for name, column in table.items():
        if len({isinstance(value, str) for value in column.dropna()}) > 1:
            table[name] = column.map(str, na_action="ignore")
    return table


def write_figures(
    records: Records,
    folder: str | Path,
    against: Sequence[Against] | None = None,
    *,
    by: Sequence[str] | None = None,
    targets: Sequence[float] = (),
    figures: Sequence[FigureKind] = FIGURES,
    tables: TableFormat | None = None,
) -> list[Path]:
    """Writes every figure of a finished experiment, see `drawings`, and returns their paths.

    Args:
        records: The runs, one or several.
        folder: For the files.
        against: See `drawings`.
        by: Dotted keys that tell groups apart, see `group_records`.
        targets: Perplexities to draw lines at.
        figures: Kinds of figures.
        tables: Write the table that each figure draws beside it, in this format.

    Raises:
        ReportError: If there is no record, a key is unknown, or `against` is money and an experiment gives no prices.
    """
    written = []
    for drawing in drawings(records, against, by=by, targets=targets, figures=figures):
        written += save(drawing.figure(), Path(folder) / drawing.name)
        if tables is not None:
            written.append(save_table(drawing.table(), Path(folder) / f"{drawing.name}.{tables}"))
    return written


def drawings(
    records: Records,
    against: Sequence[Against] | None = None,
    *,
    by: Sequence[str] | None = None,
    targets: Sequence[float] = (),
    figures: Sequence[FigureKind] = FIGURES,
) -> Iterator[Drawing]:
    """Yields every figure of a finished experiment.

    Perplexity of the runs that trained something, one figure for each of `against`; where asked for, pareto of the
    same, against time, data and, where all experiments give prices, money unless others are given; pseudo_gradients of
    those that recorded diagnostics; staleness and utilization of those in which a round arrived; and one
    timeline_<group> for each group of these, of its first run. Where there are more groups than one figure can tell
    apart, figures are numbered: staleness_1, staleness_2.

    Args:
        records: The runs, one or several.
        against: What perplexity is drawn against; simulated time, local steps and, where all experiments give prices,
            money when absent.
        by: Dotted keys that tell groups apart, see `group_records`.
        targets: Perplexities to draw lines at.
        figures: Kinds of figures.

    Raises:
        ReportError: If there is no record, or a key is unknown.
    """
    groups = group_records(records, by)
    trained = only(groups, lambda record: record.summary["trainer"] != "null")
    arrived = only(groups, lambda record: not record.rounds.empty)
    priced = bool(trained) and all(has_prices(record) for group in trained for record in group.records)
    axes = against or ("simulated_s", "local_steps", *(("money",) if priced else ()))
    if "perplexity" in figures:
        most = len(trained) if is_scaled(trained) else MOST_LINE_STYLES
        for number, part in _numbered(trained, most):
            for axis in axes:
                yield Drawing(
                    f"perplexity_vs_{_NAMES.get(axis, axis)}{number}",
                    partial(perplexity_curves, part, against=axis, targets=targets),
                    partial(perplexity_table, part, against=axis),
                )
    if "pareto" in figures:
        for axis in against or ("simulated_s", "bytes_sent", *(("money",) if priced else ())):
            yield Drawing(
                f"pareto_vs_{_NAMES.get(axis, axis)}",
                partial(pareto, trained, against=axis),
                partial(pareto_table, trained, against=axis),
            )
    diagnosed = only(groups, has_diagnostics)
    for kind, of_kind, most, figure, table in (
        ("pseudo_gradients", diagnosed, MOST_LINE_STYLES, pseudo_gradients, pseudo_gradients_table),
        ("staleness", arrived, MOST_ROWS, staleness, staleness_table),
        ("utilization", arrived, MOST_ROWS, utilization, utilization_table),
    ):
        for number, part in _numbered(of_kind, most) if kind in figures else ():
            yield Drawing(f"{kind}{number}", partial(figure, part), partial(table, part))
    if "timeline" in figures:
        for group, name in zip(arrived, file_names([group.label for group in arrived]), strict=True):
            run = group.records[0]
            yield Drawing(f"timeline_{name}", partial(timeline, run, title=group.label), partial(timeline_table, run))


def _numbered(groups: Sequence[Group], most: int) -> Iterator[tuple[str, Sequence[Group]]]:
    """Yields parts of at most so many groups, and the endings of their file names."""
    for first in range(0, len(groups), most or 1):
        yield (f"_{first // most + 1}" if len(groups) > most else ""), groups[first : first + most]


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
