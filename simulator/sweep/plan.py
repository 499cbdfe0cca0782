"""The points of a sweep as they travel, the tasks that they make, and the list of them in the output folder."""

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic

from simulator.experiment import Experiment, Point, SimulationError
from simulator.record import RecordError, check_kind, read_json, write_json
from simulator.sweep.folder import SWEEP_FILE

_FORMAT = 1


class _ListedPoint(pydantic.BaseModel):
    label: str
    folder: str


class _Listed(pydantic.BaseModel):
    points: list[_ListedPoint]


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """A point of a sweep, of which another process or machine can make the simulation.

    Attributes:
      index: its place among the points, from 0.
      label: the variant and the sweep's settings.
      folder: name of its folder in the output folder.
      experiment: resolved, as JSON.
      overrides: what the sweep set.
      tuned: values that a search has found for it.
    """

    index: int
    label: str
    folder: str
    experiment: Mapping[str, Any]
    overrides: Mapping[str, Any]
    tuned: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Task:
    """Points that one process simulates, one after another.

    Attributes:
      runs: the points, in order.
      reuse: whether each reuses the training of those before it.
      start: equal for tasks that begin with the same parameters, which a process makes once.
      attempt: number of processes lost with it.
      known: places of the points that are finished already, whose training the others may reuse.
    """

    runs: tuple[PlannedRun, ...]
    reuse: bool = True
    start: str = ""
    attempt: int = 0
    known: frozenset[int] = frozenset()


def planned_runs(points: Sequence[Point]) -> list[PlannedRun]:
    """Returns the points in the form in which they travel; their folders sort as the points do."""
    digits = len(str(len(points)))
    return [
        PlannedRun(
            index,
            point.label,
            f"{index + 1:0{digits}d}-{name}",
            point.experiment.model_dump(mode="json"),
            dict(point.overrides),
            dict(point.tuned),
        )
        for index, (point, name) in enumerate(zip(points, names_of(points), strict=True))
    ]


def names_of(points: Sequence[Point]) -> list[str]:
    """Returns a file name for each point: its variant and the sweep's settings, by the last parts of clear paths."""
    from simulator.report import file_names  # loads matplotlib, which processes that simulate tasks do without
    from simulator.report.grouping import short_names  # loads matplotlib

    labels = []
    for point in points:
        names = short_names(list(point.overrides))
        values = zip(names, point.overrides.values(), strict=True)
        labels.append(" ".join([point.variant, *(f"{name} {value}" for name, value in values)]))
    return file_names(labels)


def experiment_of(run: PlannedRun) -> Experiment:
    """Returns the experiment, checked again."""
    try:
        return Experiment.model_validate(run.experiment)
    except pydantic.ValidationError as error:
        first = error.errors()[0]["msg"]
        message = "this process cannot read the experiment, which names something that was registered in another: put "
        message += "what registers it into a file, and name that with --plugin or import_plugins([file])"
        raise SimulationError(f"{message} ({first})") from error


def point_of(run: PlannedRun) -> Point:
    """Returns the point as which it was planned."""
    experiment = experiment_of(run)
    return Point(experiment.variant or experiment.name, run.overrides, experiment, tuned=run.tuned)


def tasks_of(
    runs: Sequence[PlannedRun], groups: Sequence[Sequence[int]], done: Collection[int] = (), *, reuse: bool = True
) -> list[Task]:
    """Returns a task for each group of points, in the order of their first points.

    Args:
      runs: all points.
      groups: points that share training, each in order; every point is in one.
      done: the points that are finished. They stay in the tasks of others, which may reuse their training.
      reuse: whether training is reused.
    """
    tasks = []
    for group in groups:
        known = frozenset(group) & frozenset(done)
        if len(known) < len(group):
            members = tuple(runs[index] for index in group)
            tasks.append(Task(members, reuse and len(group) > 1, start_of(members[0]), known=known))
    return tasks


def start_of(run: PlannedRun) -> str:
    """Returns the settings that decide the parameters that a simulation begins with."""
    what = [run.experiment[section] for section in ("model", "data", "seed", "pretrain")]
    trained = run.experiment["inner"] if run.experiment["pretrain"]["steps"] else None
    return json.dumps([*what, trained], sort_keys=True)


def write_sweep(folder: Path, name: str, runs: Sequence[PlannedRun]) -> None:
    """Saves the list of a sweep's points for `read_sweep`.

    Raises:
      OSError: it cannot be written.
    """
    points = [{"label": run.label, "folder": run.folder, "overrides": dict(run.overrides)} for run in runs]
    write_json(folder / SWEEP_FILE, {"format": _FORMAT, "name": name, "points": points})


def where_they_were(runs: Sequence[PlannedRun], folder: Path) -> list[PlannedRun]:
    """Returns the points with their folders in the existing sweep, so that their records are found.

    Points are known by their labels: a sweep may have got further ones, or another order. A list that is not there, or
    cannot be read, is written anew.
    """
    try:
        listed = [(point["label"], point["folder"]) for point in read_sweep(folder)["points"]]
    except RecordError:
        return list(runs)
    places = {label: name for label, name in listed if Path(name).name == name}
    if len(places) < len(listed) or len({run.label for run in runs}) < len(runs):
        return list(runs)  # labels do not tell points apart
    taken, found = set(places.values()), []
    for run in runs:
        name, number = places.get(run.label, run.folder), 1
        while run.label not in places and name in taken:
            number += 1
            name = f"{run.folder}-{number}"
        taken.add(name)
        found.append(dataclasses.replace(run, folder=name))
    return found


def read_sweep(folder: Path) -> dict[str, Any]:
    """Returns the list that `write_sweep` saved: the name, and for each of the points its label, folder and overrides.

    Raises:
      RecordError: there is no sweep in the folder, or its list cannot be read.
    """
    file = folder / SWEEP_FILE
    if not folder.is_dir():
        raise RecordError(f"{folder}: no such folder: give the output folder of `tardigrad run`")
    remedy = "Go on with `tardigrad run --resume`, which writes it"
    try:
        found: dict[str, Any] = read_json(file, dict[str, Any], remedy)
    except FileNotFoundError as error:
        message = "no sweep here: give the output folder of `tardigrad run`"
        raise RecordError(f"{file}: {message}") from error
    if found.get("format") != _FORMAT:
        raise RecordError(f"{file}: was written by another version (its format is not {_FORMAT}). {remedy}")
    check_kind(found, _Listed, file, remedy)
    return found
