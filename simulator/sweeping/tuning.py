"""Axes of a sweep that are searched: trials on one seed for every method, then all seeds with the best value."""

import dataclasses
import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator.experiment import ExperimentError, Point, Problem, SimulationError
from simulator.experiment.search import Search
from simulator.record import TRIALS_FOLDER, atomic_path, to_json
from simulator.stopping import Interrupted
from simulator.sweeping.plan import planned_runs
from simulator.visible import plural

if TYPE_CHECKING:
    from simulator.sweeping.sweep import Sweep

TUNING_FILE = "tuning.json"
AT_ONCE = 4
"""Trials of a study that are simulated before the next are chosen, however many processes there are."""

_SEED = "seed"
_DIGITS = 4


@dataclasses.dataclass(frozen=True)
class Trial:
    """Values that are tried.

    Attributes:
      values: path to value.
      point: what is simulated.
      handle: Optuna's.
    """

    values: Mapping[str, Any]
    point: Point
    handle: Any


class Study:
    """Searches for the values with which one variant, at one point of the listed axes, has the smallest final loss.

    The values follow from the seed and from what the trials before have found (a tree-structured Parzen estimator,
    Bergstra et al., 2011), so that a search that is gone on with asks for the same.

    Args:
      points: of all seeds.

    Attributes:
      label: what to call it.
      trials: how many there will be.
      tried: what was found: for each trial its values, its seed, and its loss or what went wrong.

    Raises:
      ExperimentError: Optuna is not installed.
    """

    def __init__(self, points: Sequence[Point]):
        self.points = points
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
        """Yields the next trials, none when there have been enough."""
        for _ in range(min(AT_ONCE, self.trials - self._asked)):
            self._asked += 1
            handle = self._study.ask(self._distributions())
            values = {path: _rounded(value) for path, value in handle.params.items()}
            yield Trial(values, self._base.at({_SEED: self._seed, **values}), handle)

    def tell(self, trial: Trial, loss: float | None, where: str) -> None:
        """Notes what a trial has found.

        Args:
          trial: which.
          loss: in the end, nats per token; None where the simulation has failed.
          where: its folder, or what went wrong.
        """
        finite = loss is not None and math.isfinite(loss)
        self._study.tell(trial.handle, loss if finite else math.inf)
        found = {"final_loss": loss if finite else None, "folder" if loss is not None else "error": where}
        self.tried.append({"values": dict(trial.values), "seed": self._seed, **found})

    def chosen(self) -> Mapping[str, Any]:
        """Returns the best values.

        Raises:
          SimulationError: no trial has ended with a finite loss.
        """
        finite = [trial for trial in self.tried if trial["final_loss"] is not None]
        if not finite:
            why = next((trial["error"] for trial in self.tried if "error" in trial), "every loss is infinite")
            ranges = ", ".join(f"sweep.{path}" for path in self._searches)
            message = f"none of {plural(len(self.tried), 'trial')} ended with a finite loss ({why}): change {ranges}"
            raise SimulationError(f"{self.label}: {message}")
        best: Mapping[str, Any] = min(finite, key=lambda trial: float(trial["final_loss"]))["values"]
        return best

    def facts(self) -> dict[str, Any]:
        """Returns all that there is to write down."""
        chosen = self.chosen() if len(self.tried) == self.trials else None
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


def tuned(sweep: "Sweep") -> list[Point]:
    """Simulates the trials of a sweep's searched axes; returns its points with the values that were best.

    Trials are kept in `tuning/` in the sweep's folder, a folder for every few; what was tried and chosen in
    `tuning.json`.

    Raises:
      ExperimentError: Optuna is not installed.
      SimulationError: for some variant no trial has ended with a finite loss.
      Interrupted: a signal has come.
      OSError: something cannot be written.
    """
    studies = _studies(sweep.points)
    batch = 0
    try:
        while trials := [(study, trial) for study in studies for trial in study.ask()]:
            batch += 1
            _simulate(sweep, trials, f"{TRIALS_FOLDER}/{batch}")
            _write(sweep.folder, studies)
    except Interrupted as stopped:
        raise Interrupted(stopped.number, f"a search goes on with --resume --out {sweep.folder}") from stopped
    chosen = {id(point): study.chosen() for study in studies for point in study.points}
    return [_settled(point, chosen[id(point)]) if point.searches else point for point in sweep.points]


def number_of_trials(points: Sequence[Point]) -> int:
    """Returns how many simulations the search takes before the points themselves are simulated."""
    return sum(study.trials for study in _studies(points))


def _settled(point: Point, chosen: Mapping[str, Any]) -> Point:
    """Returns a point with the best values. They are not among its overrides: every method has its own."""
    return dataclasses.replace(point.at(chosen), overrides=point.overrides, tuned=chosen)


def _studies(points: Sequence[Point]) -> list[Study]:
    alike: dict[str, list[Point]] = {}
    for point in points:
        if point.searches:
            key = json.dumps([point.variant, _listed(point)], sort_keys=True, default=str)
            alike.setdefault(key, []).append(point)
    return [Study(members) for members in alike.values()]


def _listed(point: Point) -> dict[str, Any]:
    return {path: value for path, value in point.overrides.items() if path != _SEED}


def _simulate(sweep: "Sweep", trials: Sequence[tuple[Study, Trial]], name: str) -> None:
    """Simulates trials, and tells their studies in their order."""
    folder = sweep.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    part = dataclasses.replace(sweep, points=[trial.point for _, trial in trials], folder=folder, keep_going=True)
    records, failures = part.by_place()
    folders = [run.folder for run in planned_runs(part.points)]
    for place, (study, trial) in enumerate(trials):
        if place in records:
            study.tell(trial, records[place].summary["final_loss"], f"{name}/{folders[place]}")
        else:
            study.tell(trial, None, failures[place].message)


def _write(folder: Path, studies: Sequence[Study]) -> None:
    with atomic_path(folder / TUNING_FILE) as temporary:
        temporary.write_text(to_json([study.facts() for study in studies], TUNING_FILE), encoding="utf-8")


def _rounded(value: Any) -> Any:
    """Returns a number with few digits, so that it can be read and written."""
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


def _optuna(path: str) -> Any:
    try:
        import optuna
    except ImportError as error:
        message = "a search needs the library Optuna: install it with `pip install 'tardigrad[tune]'`"
        raise ExperimentError([Problem(f"sweep.{path}", message)]) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
