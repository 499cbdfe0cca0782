"""Searched axes: every method gets its own best value, the same one whenever it is asked for."""

import builtins
import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from simulator import PointsFailedError, load, read_runs, run_points, simulate_all, vary
from simulator.experiment import ExperimentError, SimulationError
from simulator.experiment.file import merge
from simulator.sweep import search
from simulator.sweep.status import sweep_status
from tests.experiments import TINY
from tests.killed_runs import CLASSIFIER

pytestmark = pytest.mark.usefixtures("mixed_dtypes")

RATE = {"search": "log", "low": 1e-3, "high": 1e3, "trials": 6, "seed": 9}
TWO = {
    "budget": {"local_steps": 60},
    "evaluate": {"every_local_steps": 30},
    "variants": {
        "sync": {"synchronization": {"kind": "barrier"}, "outer": {"weight": 1.0}},
        "async": {"outer": {"weight": 0.25}},
    },
    "sweep": {"outer.learning_rate": RATE, "seed": [0, 1]},
}


def points_of(folder: Path, changes: dict[str, Any] = TWO) -> Any:
    (folder / "tuned.yaml").write_text(json.dumps(merge(merge(TINY, CLASSIFIER), changes)), encoding="utf-8")
    return load(folder / "tuned.yaml", searched=True)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """The folder of a sweep with a search, and its records."""
    import jax

    folder = tmp_path_factory.mktemp("tuned")
    with jax.numpy_dtype_promotion("standard"):
        return folder / "out", run_points(points_of(folder), folder / "out")


def test_every_variant_has_the_value_with_its_own_smallest_loss(found: tuple[Path, list[Any]]):
    folder, records = found
    studies = json.loads((folder / search.TUNING_FILE).read_text(encoding="utf-8"))
    assert [study["variant"] for study in studies] == ["sync", "async"]
    for study in studies:
        assert len(study["trials"]) == 6
        for trial in study["trials"]:
            [record] = read_runs([folder / trial["folder"]])
            assert record.summary["final_loss"] == trial["final_loss"]
            assert record.experiment["seed"] == trial["seed"] == 9
            assert record.experiment["outer"]["learning_rate"] == trial["values"]["outer.learning_rate"]
        rates = [trial["values"]["outer.learning_rate"] for trial in study["trials"]]
        assert len(set(rates)) == 6
        assert all(1e-3 <= rate <= 1e3 for rate in rates)
        best = min(study["trials"], key=lambda trial: trial["final_loss"])
        assert study["chosen"] == best["values"]
        own = [record for record in records if record.summary["variant"] == study["variant"]]
        assert [record.summary["overrides"] for record in own] == [{"seed": 0}, {"seed": 1}]
        for record in own:
            assert record.summary["tuned"] == study["chosen"]
            assert record.experiment["outer"]["learning_rate"] == study["chosen"]["outer.learning_rate"]
    assert [record.summary for record in read_runs([folder])] == [record.summary for record in records]


def test_a_search_that_goes_on_asks_for_the_same(found: tuple[Path, list[Any]], tmp_path: Path):
    folder, records = found
    again = run_points(points_of(tmp_path), folder, resume=True)
    assert [record.summary for record in again] == [record.summary for record in records]
    states = sweep_status(folder)
    assert [state.label.startswith("trial: ") for state in states] == [True] * 12 + [False] * 4
    assert {state.state for state in states} == {"finished"}


def test_only_the_trials_are_known_while_searching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(search, "_write", stop)
    with pytest.raises(KeyboardInterrupt):
        run_points(points_of(tmp_path), tmp_path / "out")
    assert [state.state for state in sweep_status(tmp_path / "out")] == ["finished"] * 8


def test_several_axes_are_searched_together(tmp_path: Path):
    sweep = {
        "outer.learning_rate": {"search": "linear", "low": 0.1, "high": 1, "trials": 3},
        "inner.local_steps": {"search": "integer", "low": 2, "high": 9, "trials": 3},
        "outer.momentum": {"search": "choice", "values": [0.5, 0.9], "trials": 3},
    }
    [record] = run_points(points_of(tmp_path, {"budget": {"local_steps": 40}, "sweep": sweep}), tmp_path / "out")
    [study] = json.loads((tmp_path / "out" / search.TUNING_FILE).read_text(encoding="utf-8"))
    assert [trial["seed"] for trial in study["trials"]] == [0, 0, 0]
    for trial in study["trials"]:
        rate, steps, momentum = (trial["values"][path] for path in sweep)
        assert 0.1 <= rate <= 1
        assert steps in range(2, 10)
        assert momentum in (0.5, 0.9)
    assert record.summary["tuned"] == study["chosen"]


def test_a_trial_that_diverges_is_never_chosen(tmp_path: Path):
    changes = {
        "budget": {"local_steps": 40},
        "outer": {"non_finite": "fatal"},
        "sweep": {"inner.learning_rate": {"search": "choice", "values": [1e30, 0.1], "trials": 4}},
    }
    [record] = run_points(points_of(tmp_path, changes), tmp_path / "out")
    [study] = json.loads((tmp_path / "out" / search.TUNING_FILE).read_text(encoding="utf-8"))
    assert record.summary["tuned"] == {"inner.learning_rate": 0.1}
    failed = [trial for trial in study["trials"] if trial["values"]["inner.learning_rate"] == 1e30]
    assert failed
    assert all("not finite" in trial["error"] and trial["final_loss"] is None for trial in failed)
    assert math.isfinite(record.summary["final_loss"])


def test_where_nothing_works_the_search_says_so(tmp_path: Path):
    changes = {
        "budget": {"local_steps": 40},
        "outer": {"non_finite": "fatal"},
        "sweep": {"inner.learning_rate": {"search": "log", "low": 1e29, "high": 1e30, "trials": 2}},
    }
    message = r"tiny: none of 2 trials has succeeded \(.*not finite.*\): change sweep.inner.learning_rate"
    with pytest.raises(SimulationError, match=message) as raised:
        run_points(points_of(tmp_path, changes), tmp_path / "out")
    assert not isinstance(raised.value, PointsFailedError)


def test_a_trial_whose_rounds_are_all_rejected_has_failed_though_its_loss_is_that_of_untrained_parameters(
    tmp_path: Path,
):
    rates = {"inner.learning_rate": {"search": "choice", "values": [1e30, 0.1], "trials": 4}}
    worse = {"outer": {"learning_rate": 1e4, "weight": 1.0}}  # than untrained
    [record] = run_points(
        points_of(tmp_path, {"budget": {"local_steps": 40}, "sweep": rates} | worse), tmp_path / "out"
    )
    [study] = json.loads((tmp_path / "out" / search.TUNING_FILE).read_text(encoding="utf-8"))
    assert record.summary["tuned"] == {"inner.learning_rate": 0.1}
    failed = [trial for trial in study["trials"] if trial["values"]["inner.learning_rate"] == 1e30]
    assert failed
    for trial in failed:
        assert trial["final_loss"] is None
        assert trial["error"].endswith("rounds were not finite, 100% of its local steps: it diverged")
        [diverged] = read_runs([tmp_path / "out" / trial["folder"]])
        assert diverged.summary["final_loss"] == diverged.evaluations["loss"].iloc[0] < record.summary["final_loss"]
    rates["inner.learning_rate"] = {"search": "log", "low": 1e29, "high": 1e30, "trials": 2}
    with pytest.raises(SimulationError, match=r"none of 2 trials has succeeded \(.* it diverged\): change sweep.inner"):
        run_points(points_of(tmp_path, {"budget": {"local_steps": 40}, "sweep": rates}), tmp_path / "none")


def test_a_trial_that_has_failed_is_not_tried_again_and_others_go_on(tmp_path: Path):
    changes = {
        "budget": {"local_steps": 40},
        "outer": {"non_finite": "fatal"},
        "variants": {"works": {}, "diverges": {"outer": {"learning_rate": 1.0}, "inner": {"learning_rate": 1e30}}},
        "sweep": {"outer.momentum": {"search": "linear", "low": 0.1, "high": 0.9, "trials": 2}},
    }
    with pytest.raises(PointsFailedError, match="diverges: diverges: none of 2 trials") as raised:
        run_points(points_of(tmp_path, changes), tmp_path / "out")
    [record] = raised.value.records
    assert record.summary["variant"] == "works"
    before = (tmp_path / "out" / search.TUNING_FILE).read_bytes()
    assert len(search.failed_trials(tmp_path / "out")) == 2
    with pytest.raises(PointsFailedError):
        run_points(points_of(tmp_path, changes), tmp_path / "out", resume=True)
    assert (tmp_path / "out" / search.TUNING_FILE).read_bytes() == before
    assert len(list((tmp_path / "out" / "tuning").iterdir())) == 1


def test_values_stay_in_their_range(tmp_path: Path):
    changes = {
        "budget": {"local_steps": 20},
        "sweep": {"outer.momentum": {"search": "linear", "low": 0.99991, "high": 0.99999, "trials": 3}},
    }
    [record] = run_points(points_of(tmp_path, changes), tmp_path / "out")
    [study] = json.loads((tmp_path / "out" / search.TUNING_FILE).read_text(encoding="utf-8"))
    tried = [trial["values"]["outer.momentum"] for trial in study["trials"]]
    assert len(set(tried)) == 3
    assert all(0.99991 <= value <= 0.99999 for value in tried)
    assert record.summary["tuned"]["outer.momentum"] in tried


def test_in_python_nothing_is_simulated_before_it_is_searched(tmp_path: Path):
    points = points_of(tmp_path)
    for use in (lambda: simulate_all(points), lambda: vary(points, {"inner.local_steps": [1, 2]})):
        with pytest.raises(ExperimentError, match=r"sweep.outer.learning_rate: is searched.*`run_points` searches"):
            use()


def test_without_optuna_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    known = builtins.__import__

    def importing(name: str, *rest: Any) -> Any:
        if name == "optuna":
            raise ImportError(name)
        return known(name, *rest)

    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(ExperimentError, match=r"pip install 'tardigrad\[tune\]'"):
        run_points(points_of(tmp_path), tmp_path / "out")


def test_the_command_says_what_it_searches(tardigrad: Any):
    experiment = merge(merge(TINY, CLASSIFIER), TWO)
    code, out, error = tardigrad("run", "experiment.yaml", "--dry-run", experiment=experiment)
    assert code == 0, error
    assert "not counted: 12 trials of the axes that are searched" in out
    small = [f"sweep.outer.learning_rate={json.dumps(RATE | {'trials': 2})}", "sweep.seed=[0]", "budget.local_steps=30"]
    code, out, error = tardigrad("run", "experiment.yaml", *small, "--out", "out")
    assert code == 0, error
    assert "searched: what was tried and chosen is in out/tuning.json" in out
    assert len(pd.read_json("out/summary.json")) == 2
