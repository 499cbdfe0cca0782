"""Axes of a sweep that are searched: trials on one seed for every method, then all seeds with the best value."""

import dataclasses
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pydantic

from simulator.experiment import ExperimentError, Point, Problem, SimulationError
from simulator.experiment.sweep import Search
from simulator.host.signals import Interrupted
from simulator.host.text import plural
from simulator.record import TRIALS_FOLDER, failure, read_json, write_json
from simulator.sweep.outcomes import Outcome, PointFinished

TUNING_FILE = "tuning.json"
AT_ONCE = 4
"""Trials of a study that are simulated before the next are chosen, however many processes there are."""

Simulate: TypeAlias = Callable[[Sequence[Point], Path], list[Outcome]]
"""Simulates points into a folder; returns the outcome of each, in their order."""

_SEED = "seed"
_DIGITS = 4


class _Tried(pydantic.BaseModel):
    values: dict[str, Any]
    final_loss: float | None
    error: str = ""


class _Searched(pydantic.BaseModel):
    variant: str
    overrides: dict[str, Any]
    trials: list[_Tried]


@dataclasses.dataclass(frozen=True)
class Trial:
    """A trial: values to evaluate in a search.

    Attributes:
      values: path to value.
      point: to simulate.
      handle: Optuna's.
    """

    values: Mapping[str, Any]
    point: Point
    handle: Any


class Study:
    """Searches for the values with which one variant, at one point of the listed axes, has the smallest final loss.

    A trial fails that ends with an error, or whose loss says nothing of its values because it has diverged. The values
    follow from the seed and from the results of the trials before (a tree-structured Parzen estimator, Bergstra et al.,
    2011), so that a resumed search asks for the same.

    Args:
      points: of all seeds.
      before: trials before the search was stopped, in the form of `tried`.

    Attributes:
      label: its name.
      trials: number of trials.
      tried: results: for each trial its values, its seed, and its loss or its error.

    Raises:
      ExperimentError: Optuna is not installed.
    """

    def __init__(self, points: Sequence[Point], before: Sequence[Mapping[str, Any]] = ()):
        self.points, self._before = points, before
        first = points[0]
        self._searches = first.searches
        given: Search = next(iter(self._searches.values()))
        self.trials = given.trials
        self._seed = first.experiment.seed if given.seed is None else given.seed
        self._base = dataclasses.replace(first, overrides=_listed(first))
        self.label = self._base.label
        self._optuna = _optuna(next(iter(self._searches)))
        with warnings.catch_warnings():  # that settings are experimental, which every version of Optuna has pinned
            warnings.simplefilter("ignore", self._optuna.exceptions.ExperimentalWarning)
            sampler = self._optuna.samplers.TPESampler(
                seed=self._seed,
                n_startup_trials=max(AT_ONCE, self.trials // 3),
                multivariate=len(self._searches) > 1,
                constant_liar=True,
            )
        self._study = self._optuna.create_study(sampler=sampler)
        self._asked = 0
        self.tried: list[dict[str, Any]] = []

    def ask(self) -> Iterator[Trial]:
        """Yields the next trials, none when there have been enough.

        Optuna is given the results of known trials, and the errors of invalid ones, at once, with the others of their
        batch.
        """
        known_results: list[tuple[Any, dict[str, Any]]] = []
        some = False
        while self._asked < self.trials and not some:
            for _ in range(min(AT_ONCE, self.trials - self._asked)):
                handle = self._study.ask(self._distributions())
                self._asked += 1
                values = {path: _rounded(value, self._searches[path]) for path, value in handle.params.items()}
                known = next((trial for trial in self._before if trial["values"] == values), None)
                if known is not None:
                    known_results.append((handle, dict(known)))
                    continue
                try:
                    point = self._base.at({_SEED: self._seed, **values})
                except pydantic.ValidationError as error:
                    failed = {"values": values, "seed": self._seed, "final_loss": None}
                    known_results.append((handle, failed | {"error": error.errors()[0]["msg"]}))
                    continue
                some = True
                yield Trial(values, point, handle)
            for handle, found in known_results:
                self._note(handle, found)
            known_results.clear()

    def tell(self, trial: Trial, loss: float | None, *, folder: str | None = None, error: str | None = None) -> None:
        """Records the result of a trial.

        Args:
          trial: as `ask` yielded it.
          loss: in the end, nats per token; None where the trial has failed.
          folder: of its record, if there is one.
          error: what went wrong.
        """
        known = {"folder": folder, "error": error}
        found = {"final_loss": loss, **{name: text for name, text in known.items() if text is not None}}
        self._note(trial.handle, {"values": dict(trial.values), "seed": self._seed, **found})

    def _note(self, handle: Any, found: dict[str, Any]) -> None:
        self._study.tell(handle, math.inf if found["final_loss"] is None else found["final_loss"])
        self.tried.append(found)

    def chosen(self) -> Mapping[str, Any]:
        """Returns the best values.

        Raises:
          SimulationError: every trial has failed.
        """
        finite = [trial for trial in self.tried if trial["final_loss"] is not None]
        if not finite:
            why = next(trial["error"] for trial in self.tried if "error" in trial)
            ranges = ", ".join(f"sweep.{path}" for path in self._searches)
            message = f"none of {plural(len(self.tried), 'trial')} has succeeded ({why}): change {ranges}"
            raise SimulationError(f"{self.label}: {message}")
        best: Mapping[str, Any] = min(finite, key=lambda trial: float(trial["final_loss"]))["values"]
        return best

    def facts(self) -> dict[str, Any]:
        """Returns the search and its results, to be saved as JSON."""
        finite = any(trial["final_loss"] is not None for trial in self.tried)
        chosen = self.chosen() if finite and len(self.tried) == self.trials else None
        searched = {path: search.model_dump(mode="json", exclude_none=True) for path, search in self._searches.items()}
        overrides = dict(self._base.overrides)
        return {
            "variant": self._base.variant,
            "overrides": overrides,
            "searched": searched,
            "trials": self.tried,
            "chosen": chosen and dict(chosen),
        }

    def _distributions(self) -> dict[str, Any]:
        kinds = self._optuna.distributions
        found = {}
        for path, search in self._searches.items():
            if search.values is not None:
                found[path] = kinds.CategoricalDistribution(search.values)
            elif search.search == "integer":
                found[path] = kinds.IntDistribution(*map(int, search.ends))
            else:
                found[path] = kinds.FloatDistribution(*search.ends, log=search.search == "log")
        return found


def tuned(points: Sequence[Point], folder: Path, simulate: Simulate) -> tuple[list[Point], dict[int, SimulationError]]:
    """Simulates the trials of a sweep's searched axes.

    Trials are kept in `tuning/` in the sweep's folder, a folder for every few; trials and choices in `tuning.json`,
    from which a search resumes: a trial that has failed is not tried again.

    Returns:
      The points with the values that were best, without those of which every trial has failed, and these by their
      places, with the reason.

    Raises:
      ExperimentError: Optuna is not installed.
      Interrupted: a signal has come.
      OSError: something cannot be written.
    """
    studies = _studies(points, _read(folder))
    try:
        while trials := [(study, trial) for study in studies for trial in study.ask()]:
            done = sum(1 for study in studies for _ in study.tried)
            _simulate(trials, folder, f"{TRIALS_FOLDER}/{done + 1}", simulate)
            _write(folder, studies)
    except Interrupted as stopped:
        raise Interrupted(stopped.number, f"a search goes on with --resume --out {folder}") from stopped
    study_of = {id(point): study for study in studies for point in study.points}
    settled, hopeless = [], {}
    for place, point in enumerate(points):
        if id(point) not in study_of:
            settled.append(point)
            continue
        try:
            settled.append(_settled(point, study_of[id(point)].chosen()))
        except SimulationError as error:
            hopeless[place] = error
    return settled, hopeless


def number_of_trials(points: Sequence[Point]) -> int:
    """Returns the number of simulations that the search takes before the points themselves are simulated."""
    return sum(study.trials for study in _studies(points, []))


def _settled(point: Point, chosen: Mapping[str, Any]) -> Point:
    """Returns a point with the best values. They are not among its overrides: every method has its own."""
    return dataclasses.replace(point.at(chosen), overrides=point.overrides, tuned=chosen)


def _studies(points: Sequence[Point], before: Sequence[Mapping[str, Any]]) -> list[Study]:
    tried = {_key(study["variant"], study["overrides"]): study["trials"] for study in before}
    alike: dict[str, list[Point]] = {}
    for point in points:
        if point.searches:
            alike.setdefault(_key(point.variant, _listed(point)), []).append(point)
    return [Study(members, tried.get(key, ())) for key, members in alike.items()]


def _key(variant: str, overrides: Mapping[str, Any]) -> str:
    return json.dumps([variant, overrides], sort_keys=True, default=str)


def _listed(point: Point) -> dict[str, Any]:
    return {path: value for path, value in point.overrides.items() if path != _SEED}


def _simulate(trials: Sequence[tuple[Study, Trial]], folder: Path, name: str, simulate: Simulate) -> None:
    """Simulates trials, and gives their results to their studies in order."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    outcomes = simulate([trial.point for _, trial in trials], folder / name)
    for (study, trial), outcome in zip(trials, outcomes, strict=True):
        if isinstance(outcome, PointFinished):
            summary = outcome.record.summary
            why = failure(summary)
            loss = None if why else summary["final_loss"]
            study.tell(trial, loss, folder=f"{name}/{outcome.run.folder}", error=why)
        else:
            study.tell(trial, None, error=outcome.message)


def _write(folder: Path, studies: Sequence[Study]) -> None:
    write_json(folder / TUNING_FILE, [study.facts() for study in studies])


def _read(folder: Path) -> list[dict[str, Any]]:
    """Returns the content that `_write` has saved, nothing if it has not.

    Raises:
      RecordError: it cannot be read.
    """
    try:
        found: list[dict[str, Any]] = read_json(
            folder / TUNING_FILE, list[_Searched], "Remove it: the search is made again"
        )
    except FileNotFoundError:
        return []
    return found


def failed_trials(folder: Path) -> list[str]:
    """Returns the failures of the trials of the search in a folder."""
    return [trial["error"] for study in _read(folder) for trial in study["trials"] if "error" in trial]


def _rounded(value: Any, search: Search) -> Any:
    """Returns a number of the range with few digits, so that it can be read and written."""
    if not isinstance(value, float) or search.low is None or search.high is None:
        return value
    if search.search == "linear":
        few = round(value, _DIGITS - 1 - math.floor(math.log10(search.high - search.low)))
    else:
        few = float(f"{value:.{_DIGITS}g}")
    return min(max(few, search.low), search.high)


def _optuna(path: str) -> Any:
    try:
        import optuna  # an extra
    except ImportError as error:
        message = "a search needs the library Optuna: install it with `pip install 'tardigrad[tune]'`"
        raise ExperimentError([Problem(f"sweep.{path}", message)]) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
