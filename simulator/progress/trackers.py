"""Trackers: TensorBoard and Weights & Biases are sent simulations while they run, and their results.

Every value is logged with three axes: simulated seconds, local steps (over all workers) and tokens. What is logged
follows from the record alone: a simulation that was stopped and has resumed is logged as one that was not.
"""

import contextlib
import importlib
import math
import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, NamedTuple, Protocol

from simulator.experiment import Experiment, ExperimentError, Point, Problem
from simulator.experiment.problems import nearest
from simulator.host.files import naming
from simulator.progress.observer import Observer, Progress
from simulator.record import RunRecord

KINDS = ("tensorboard", "wandb")
_FLUSHED_EVERY_S = 30.0


class At(NamedTuple):
    """Place of a value on the axes."""

    simulated_s: float
    local_steps: int
    tokens: int


class Tracker(Protocol):
    """Follows simulations."""

    def open_log(self, name: str, point: Point) -> "Log":
        """Returns the log of a simulation that starts.

        Args:
          name: of the run, as a file name.
          point: to simulate.
        """


class Log(Protocol):
    """Log of one simulation. Values that are not finite are left out before."""

    def write(self, group: str, values: Mapping[str, float], at: At) -> None:
        """Logs values of one moment. `group` is "update", "evaluation" or "pretraining" (`at` has its steps then)."""

    def restart(self) -> None:
        """Discards the log, whose beginning is incomplete: all of it will be logged once more."""

    def close(self, record: RunRecord | None) -> None:
        """Logs the summary and ends; there is no record where the simulation failed."""


class TrackingObserver:
    """Observer of one simulation that notifies trackers, and another observer. Use it as a context.

    Args:
      logs: of the trackers.
      observer: notified of everything too.
    """

    def __init__(self, logs: Sequence[Log], observer: Observer | None = None):
        self._logs, self._observer = logs, observer
        self._record: RunRecord | None = None
        self._first: int | None = None  # local steps of the first update that was seen
        self._latest: At | None = None  # of the last one, whose training loss is not known yet
        self._evaluated: set[tuple[float, int]] = set()

    def __enter__(self) -> "TrackingObserver":
        """Starts; the logs are open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the logs."""
        for log in self._logs:
            log.close(self._record)

    def pretrained(self, steps: int, of: int, loss: float) -> None:
        """Logs the progress of pretraining."""
        if self._observer is not None:
            self._observer.pretrained(steps, of, loss)
        self._write("pretraining", {"loss": loss}, At(0.0, steps, 0))

    def advanced(self, progress: Progress) -> None:
        """Logs an update, the training loss of the one before it, and an evaluation that is known by now."""
        if self._observer is not None:
            self._observer.advanced(progress)
        if self._latest is not None:
            self._write("update", {"train_loss": progress.train_loss}, self._latest)
        self._latest = At(progress.simulated_s, progress.local_steps, progress.tokens)
        if self._first is None:
            self._first = progress.local_steps
        known = {"staleness": progress.staleness, "server_updates": progress.server_updates}
        self._write("update", known, self._latest)
        if progress.evaluation is not None:
            self._evaluate(progress.evaluation)

    def finished(self, record: RunRecord) -> None:
        """Logs the rest of the record. Call it once, at the end."""
        self._record = record
        if not self._logs:
            return
        updates = list(_updates(record))
        if updates and self._first != updates[0][0].local_steps:  # it has resumed from a checkpoint
            for log in self._logs:
                log.restart()
            self._latest = None
            self._evaluated.clear()
        done = -1 if self._latest is None else self._latest.local_steps
        for at, known, train_loss in updates:
            if at.local_steps > done:
                self._write("update", known, at)
            if at.local_steps >= done:
                self._write("update", {"train_loss": train_loss}, at)
        for row in record.evaluations.to_dict("records"):
            self._evaluate({str(name): value for name, value in row.items()})

    def _evaluate(self, row: Mapping[str, float]) -> None:
        at = At(row["simulated_s"], int(row["local_steps"]), int(row["tokens"]))
        if at[:2] in self._evaluated:
            return
        self._evaluated.add(at[:2])
        shards = {name: value for name, value in row.items() if name.startswith("loss_shard_")}
        known = {name: row[name] for name in ("loss", "perplexity", "bytes_sent")}
        self._write("evaluation", known | shards, at)

    def _write(self, group: str, values: Mapping[str, float], at: At) -> None:
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        if finite:
            for log in self._logs:
                log.write(group, finite, at)


def _updates(record: RunRecord) -> Iterator[tuple[At, Mapping[str, float], float]]:
    """Yields each update's place on the axes, its values, and its mean training loss."""
    rounds = record.rounds
    applied = rounds["outcome"] == "applied"
    together = applied & applied.shift(fill_value=False) & (rounds["version"] == rounds["version"].shift())
    updates = rounds.groupby((~together).cumsum())
    steps = updates["local_steps"].sum().cumsum()
    batches = (rounds["local_steps"] * rounds["micro_batches"]).groupby((~together).cumsum()).sum().cumsum()
    tokens = batches * (record.summary["tokens"] / max(batches.iloc[-1], 1)) if len(batches) else batches
    columns = (updates["update_s"].last(), steps, tokens, updates["staleness"].mean(), updates["version"].last())
    losses = updates["train_loss"].mean()
    for time_s, done, trained_on, staleness, version, loss in zip(*columns, losses, strict=True):
        at = At(float(time_s), int(done), round(trained_on))
        yield at, {"staleness": float(staleness), "server_updates": float(version)}, float(loss)


def tracker(kind: str, folder: Path) -> "Tracker":
    """Returns a tracker by its name.

    Args:
      kind: "tensorboard" or "wandb".
      folder: where it writes.

    Raises:
      ExperimentError: there is none of this name, or it is not installed.
    """
    if kind not in KINDS:
        raise ExperimentError([Problem("--tracker", f"no such tracker; {nearest(kind, KINDS)}", kind)])
    return TensorBoard(folder / kind) if kind == "tensorboard" else WeightsAndBiases(folder)


def _needed(module: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        message = f"needs {module}, which is not installed: pip install 'tardigrad[{extra}]'"
        raise ExperimentError([Problem("--tracker", message, extra)]) from error


class TensorBoard:
    """Writes event files for TensorBoard, a folder for each run: `tensorboard --logdir FOLDER`.

    The step of a value is its number of local steps and its wall time is the simulated one in seconds, so that
    TensorBoard's axis "relative" is simulated time. Under `over_tokens/` the same values have tokens as their step. An
    earlier run of the same name is replaced.

    Args:
      folder: holds the runs' folders.

    Raises:
      ExperimentError: tensorboardX is not installed.
    """

    def __init__(self, folder: str | Path):
        self._folder = Path(folder)
        self._library = _needed("tensorboardX", "tensorboard")

    def open_log(self, name: str, point: Point) -> Log:
        """Returns the log of a simulation that begins."""
        return _TensorBoardLog(self._library, self._folder / name, point)


class _TensorBoardLog:
    def __init__(self, library: ModuleType, folder: Path, point: Point):
        self._library, self._folder, self._point = library, folder, point
        self._stale = self._files()  # of an earlier attempt, which shows until this one is complete
        with naming(folder):
            self._open()

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("events.out.tfevents.*"))

    def _open(self) -> None:
        """Opens a file that this thread writes to: the library's own would end at an error, and be waited for."""
        self._folder.mkdir(parents=True, exist_ok=True)
        own = uuid.uuid4().hex[:8]  # else files of one second have one name
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{own}"
        self._file = self._library.record_writer.RecordWriter(str(self._folder / name))
        self._flushed_s = time.monotonic()
        self._write(file_version="brain.Event:2", wall_time=time.time())
        settings = self._point.experiment.to_yaml()
        self._add(self._library.summary.text("experiment", f"```yaml\n{settings}```"), 0, 0.0)

    def _write(self, **event: Any) -> None:
        self._file.write(self._library.proto.event_pb2.Event(**event).SerializeToString())

    def _add(self, summary: Any, step: int, walltime_s: float) -> None:
        self._write(summary=summary, step=step, wall_time=walltime_s)
        if time.monotonic() >= self._flushed_s + _FLUSHED_EVERY_S:
            self._file.flush()
            self._flushed_s = time.monotonic()

    def write(self, group: str, values: Mapping[str, float], at: At) -> None:
        """Logs values of one moment."""
        scalar = self._library.summary.scalar
        with naming(self._folder):
            for name, value in values.items():
                self._add(scalar(f"{group}/{name}", value), at.local_steps, at.simulated_s)
                if group != "pretraining":
                    self._add(scalar(f"over_tokens/{group}_{name}", value), at.tokens, at.simulated_s)

    def restart(self) -> None:
        """Starts the log over."""
        with naming(self._folder):
            self._file.close()
            for file in self._files():
                file.unlink()
            self._stale = []
            self._open()

    def close(self, record: RunRecord | None) -> None:
        """Logs the summary and ends."""
        with naming(self._folder), contextlib.closing(self._file):
            if record is not None:
                self._summarize(record)
                for file in self._stale:
                    file.unlink()

    def _summarize(self, record: RunRecord) -> None:
        library, scalars = self._library.summary, _scalars(record.summary)
        lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in scalars.items())]
        steps, last_s = record.summary["local_steps"], float(record.summary["simulated_seconds"])
        self._add(library.text("summary", "\n".join(lines)), steps, last_s)
        settings = {"variant": self._point.variant, "seed": self._point.experiment.seed}
        settings |= {name: _plain(value) for name, value in self._point.overrides.items()}
        metrics = {f"summary/{name}": value for name, value in scalars.items() if isinstance(value, int | float)}
        for name, value in metrics.items():
            self._add(library.scalar(name, value), steps, last_s)
        for part in library.hparams(settings, metrics):
            self._add(part, 0, last_s)


class WeightsAndBiases:
    """Logs every simulation as a run of Weights & Biases, in a project that has the experiment's name.

    wandb's own settings hold: `WANDB_PROJECT`, `WANDB_ENTITY`, and `WANDB_MODE=offline` to write files only.

    Args:
      folder: where wandb writes its files.

    Raises:
      ExperimentError: wandb is not installed.
    """

    def __init__(self, folder: str | Path):
        self._folder = Path(folder)
        self._library = _needed("wandb", "wandb")

    def open_log(self, name: str, point: Point) -> Log:
        """Returns the log of a simulation that begins."""
        return _WandbLog(self._library, self._folder, name, point)


class _WandbLog:
    def __init__(self, library: ModuleType, folder: Path, name: str, point: Point):
        from simulator.learning import as_used  # loads JAX

        folder.mkdir(parents=True, exist_ok=True)
        config = as_used(point.experiment) | {"overrides": dict(point.overrides)}
        project = os.environ.get("WANDB_PROJECT") or point.experiment.name
        self._run = library.init(project=project, name=name, group=point.variant, dir=str(folder), config=config)
        for axis in At._fields:
            self._run.define_metric(axis, hidden=True)
        self._run.define_metric("pretraining/steps", hidden=True)
        self._run.define_metric("pretraining/*", step_metric="pretraining/steps")
        for group in ("update", "evaluation"):
            self._run.define_metric(f"{group}/*", step_metric="simulated_s")

    def write(self, group: str, values: Mapping[str, float], at: At) -> None:
        """Logs values of one moment."""
        axes = {"pretraining/steps": at.local_steps} if group == "pretraining" else at._asdict()
        self._run.log({f"{group}/{name}": value for name, value in values.items()} | axes)

    def restart(self) -> None:
        """Does nothing: runs are not written over, and each process has its own."""

    def close(self, record: RunRecord | None) -> None:
        """Logs the summary and ends."""
        if record is not None:
            self._run.summary.update(_scalars(record.summary))
        self._run.finish(exit_code=0 if record is not None else 1)


def _scalars(summary: Mapping[str, Any]) -> dict[str, int | float | str]:
    """Returns the entries of a summary that are finite numbers or text."""
    return {
        name: value
        for name, value in summary.items()
        if isinstance(value, str) or (isinstance(value, int | float) and math.isfinite(value))
    }


def _plain(value: Any) -> bool | int | float | str:
    return value if isinstance(value, bool | int | float | str) else str(value)


def track(
    trackers: Sequence[Tracker], name: str, simulated: Point | Experiment, observer: Observer | None = None
) -> TrackingObserver:
    """Returns the observer of a simulation that notifies all trackers, as a context.

    Inside it, `simulate(experiment, observer=...)` is given the observer, and its record to the observer's `finished`.

    Args:
      trackers: to notify.
      name: of the run, as a file name.
      simulated: the simulation.
      observer: notified of everything too.
    """
    if isinstance(simulated, Experiment):
        simulated = Point(simulated.variant or simulated.name, {}, simulated)
    return TrackingObserver([each.open_log(name, simulated) for each in trackers], observer)
