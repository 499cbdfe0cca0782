"""Status of a sweep's points, from its output folder alone."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from rich.table import Table
from rich.text import Text

from simulator.host.format import count, percent, perplexity
from simulator.host.terminal_table import TerminalTable
from simulator.host.text import visible
from simulator.record import SUMMARY_FILE, TRIALS_FOLDER, RecordError, kept_updates, read_json
from simulator.record.file_models import Summary
from simulator.sweep.folder import CHECKPOINTS, SWEEP_FILE, taken
from simulator.sweep.outcomes import read_failure
from simulator.sweep.plan import read_sweep
from simulator.sweep.progress import SavedProgress, read_progress

State = Literal["finished", "running", "stopped", "failed", "waiting", "damaged"]
STATES: tuple[State, ...] = get_args(State)


@dataclasses.dataclass(frozen=True)
class PointStatus:
    """Status of a point.

    Attributes:
      label: of the point.
      state: "stopped" is one that nobody is at work on and that has a checkpoint to resume from, "damaged" one of which
        a file cannot be read.
      detail: its progress, its result, or its error.
    """

    label: str
    state: State
    detail: str = ""


def sweep_status(folder: Path) -> list[PointStatus]:
    """Returns the status of each point of a sweep, and before them of the trials of axes that are searched.

    Raises:
      RecordError: there is no sweep in the folder, or its list of points cannot be read.
    """
    at_work = taken(folder)
    batches = [file.parent for file in (folder / TRIALS_FOLDER).glob(f"*/{SWEEP_FILE}") if file.parent.name.isdecimal()]
    trials = [
        dataclasses.replace(status, label=f"trial: {status.label}")
        for batch in sorted(batches, key=lambda batch: int(batch.name))
        for status in _statuses(batch, at_work=at_work)
    ]
    searching = trials and not (folder / SWEEP_FILE).exists()  # the points are not known yet
    return trials if searching else [*trials, *_statuses(folder, at_work=at_work)]


def _statuses(folder: Path, *, at_work: bool) -> list[PointStatus]:
    return [_status(folder / point["folder"], point["label"], at_work) for point in read_sweep(folder)["points"]]


def _status(folder: Path, label: str, at_work: bool) -> PointStatus:
    try:
        return _read_status(folder, label, at_work)
    except RecordError as error:
        return PointStatus(label, "damaged", str(error))


def _read_status(folder: Path, label: str, at_work: bool) -> PointStatus:
    with contextlib.suppress(FileNotFoundError):
        summary = read_json(folder / SUMMARY_FILE, Summary, f"Remove {folder} and go on with `run --resume`")
        return PointStatus(label, "finished", f"perplexity {perplexity(summary['final_perplexity'])}")
    progress = read_progress(folder) if at_work else None
    if progress is not None:
        return PointStatus(label, "running", _how_far(progress))
    failure = read_failure(folder)
    if failure is not None:
        return PointStatus(label, "failed", failure["message"])
    updates = kept_updates(folder / CHECKPOINTS)
    if updates is None:
        return PointStatus(label, "waiting")
    return PointStatus(label, "waiting" if at_work else "stopped", f"checkpoint after {count(updates)} server updates")


def _how_far(progress: SavedProgress) -> str:
    if progress.pretraining is not None:
        steps, of, _ = progress.pretraining
        return f"pretraining: {steps:,} of {of:,} steps"
    if progress.simulation is None:
        return "preparing"
    known = progress.simulation
    parts = [percent(known.fraction), f"{count(known.server_updates)} server updates"]
    if not math.isnan(known.perplexity):
        parts.append(f"perplexity {perplexity(known.perplexity)}")
    return ", ".join(parts)


def status_table(statuses: list[PointStatus]) -> Table:
    """Returns a row per point."""
    table = TerminalTable()
    table.add_words("point")
    table.add_words("state", narrowest=max(map(len, STATES)))
    table.add_words("")
    for each in statuses:
        table.add_row(Text(visible(each.label)), Text(each.state), Text(visible(each.detail)))
    return table


def counted(statuses: list[PointStatus]) -> Iterator[str]:
    """Yields the number of points in each state that occurs."""
    for state in STATES:
        number = sum(each.state == state for each in statuses)
        if number:
            yield f"{number:,} {state}"
