"""Points of a sweep, what becomes of its points, and what is said of them."""

import contextlib
import dataclasses
import json
import math
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from rich.console import Console

from simulator import (
    Local,
    OnRay,
    Point,
    PointsFailedError,
    import_plugins,
    load,
    read_runs,
    register_shard_choice,
    run_points,
)
from simulator.experiment import ExperimentError, Problem, SimulationError, registry
from simulator.experiment.file import merge
from simulator.experiment.plugins import Plugin, plugins_so_far, run_plugins
from simulator.host.errors import SettingError
from simulator.learning import Cache
from simulator.progress.live import LiveView
from simulator.progress.observer import Progress
from simulator.sweep import estimate as estimates
from simulator.sweep import task as tasks
from simulator.sweep.estimate import PointCost, SweepCost, estimate
from simulator.sweep.executors.attempt import Attempt, LostProcess
from simulator.sweep.executors.environment import node_environment
from simulator.sweep.outcomes import Failure
from simulator.sweep.plan import (
    PlannedRun,
    Task,
    experiment_of,
    planned_runs,
    tasks_of,
    where_they_were,
    write_sweep,
)
from simulator.sweep.progress import PointViews, ProgressFile
from simulator.sweep.reuse_plan import groups_of
from tests.experiments import TINY, tiny
from tests.killed_runs import CLASSIFIER

pytestmark = pytest.mark.usefixtures("mixed_dtypes")
SMALL = merge(TINY, CLASSIFIER) | {"budget": {"local_steps": 60}}
FATAL = {"outer": {"non_finite": "fatal"}, "sweep": {"inner.learning_rate": [0.1, 1e30, 0.2]}}


def points_of(tmp_path: Path, **changes: Any) -> Any:
    file = tmp_path / "points.yaml"
    file.write_text(json.dumps(merge(SMALL, changes)), encoding="utf-8")
    return load(file)


def run_of(index: int) -> PlannedRun:
    return PlannedRun(index, f"run {index}", f"{index}", {}, {})


def test_points_that_share_training_are_one_task_and_others_one_each(tmp_path: Path):
    shared = {"synchronization": {"kind": "barrier"}, "outer": {"weight": 1.0}}
    bandwidths = {"seed": [0, 1], "cluster.network.bandwidth": ["1Gbit/s", "1Mbit/s"]}
    runs = planned_runs(points_of(tmp_path, **shared, sweep=bandwidths))
    groups = groups_of(runs, Cache(), reuse=True)
    assert groups == [[0, 1], [2, 3]]
    assert groups_of(runs, Cache(), reuse=False) == [[0], [1], [2], [3]]
    tasks = tasks_of(runs, groups, done=[0, 2, 3])
    assert [([run.index for run in task.runs], task.known) for task in tasks] == [([0, 1], {0})]
    budgets = planned_runs(points_of(tmp_path, sweep={"budget.local_steps": [100, 60], "seed": [0, 1]}))
    assert groups_of(budgets, Cache(), reuse=True) == [[0, 2], [1, 3]]
    first, second = tasks_of(budgets, [[0, 2], [1, 3]])
    assert first.start != second.start  # another seed


def test_a_point_travels_as_it_is(tmp_path: Path):
    faults = {"cluster": {"faults": {"trace": [[1, 20, "slow 2"]]}}, "synchronization": {"grace": "infinite"}}
    [point] = points_of(tmp_path, **faults)
    [run] = planned_runs([point])
    travelled = PlannedRun(**json.loads(json.dumps(run.__dict__)))
    assert experiment_of(travelled) == point.experiment


def test_a_point_that_fails_does_not_stop_the_others(tardigrad: Any, tmp_path: Path):
    code, out, err = tardigrad("run", "experiment.yaml", "--out", "a", experiment=merge(SMALL, FATAL))
    assert code == 1
    assert "2 runs, summary.json" in out
    assert err.startswith("tardigrad: 1 of 3 points failed (--resume tries those that failed again in a):\n  tiny, ")
    assert "inner.learning_rate=1e+30: " in err
    assert "not finite" in err
    rates = [run["overrides"]["inner.learning_rate"] for run in json.loads((tmp_path / "a/summary.json").read_text())]
    assert rates == [0.1, 0.2]
    code, out, _ = tardigrad("sweep", "status", "a")
    assert code == 0
    assert "2 finished, 1 failed of 3 in a" in out
    assert "not finite" in out
    assert tardigrad("run", "experiment.yaml", "--out", "a", "--resume")[0] == 1  # tried again
    settings = ["outer.non_finite=reject", "--resume"]
    code, _, err = tardigrad("run", "experiment.yaml", *settings, "--out", "a")
    assert (code, "is of another simulation" in err) == (2, True)


def test_an_error_of_any_kind_is_its_points_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    simulate = tasks.simulate

    def faulty(experiment: Any, **kwargs: Any) -> Any:
        if experiment.seed == 0:
            raise ZeroDivisionError("no such luck")
        return simulate(experiment, **kwargs)

    monkeypatch.setattr(tasks, "simulate", faulty)
    points = points_of(tmp_path, sweep={"seed": [0, 1]})
    with pytest.raises(PointsFailedError, match="seed=0: ZeroDivisionError: no such luck") as failed:
        run_points(points, tmp_path / "a")
    assert [record.summary["seed"] for record in failed.value.records] == [1]
    written = json.loads((tmp_path / "a/1-tiny-seed-0/error.json").read_text())
    assert (written["error"], "in faulty" in written["details"]) == ("ZeroDivisionError", True)
    monkeypatch.undo()
    assert len(run_points(points, tmp_path / "a", resume=True)) == 2
    assert not list((tmp_path / "a").rglob("error.json"))
    with pytest.raises(ValueError, match="points is empty"):
        run_points([], tmp_path / "b")
    with pytest.raises(ValueError, match="jobs must be at least 1, not 0"):
        run_points(points, tmp_path / "b", jobs=0)
    with pytest.raises(ValueError, match="an engine is given too"):
        run_points(points, tmp_path / "b", jobs=2, engine=Local())


def test_points_are_found_again_when_a_sweep_has_got_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "a"
    run_points(points_of(tmp_path, sweep={"seed": [1, 2]}), out)
    simulated = []
    simulate = tasks.simulate

    def noted(experiment: Any, **kwargs: Any) -> Any:
        simulated.append(experiment.seed)
        return simulate(experiment, **kwargs)

    monkeypatch.setattr(tasks, "simulate", noted)
    records = run_points(points_of(tmp_path, sweep={"seed": [0, 2, 1, 3]}), out, resume=True)
    assert [record.summary["seed"] for record in records] == [0, 2, 1, 3]
    assert simulated == [0, 3]
    folders = ["1-tiny-seed-0", "1-tiny-seed-1", "2-tiny-seed-2", "4-tiny-seed-3"]
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == folders
    (out / "sweep.json").write_text("torn")
    listed = [run.folder for run in where_they_were(planned_runs(points_of(tmp_path, sweep={"seed": [1, 2]})), out)]
    assert listed == ["1-tiny-seed-1", "2-tiny-seed-2"]
    write_sweep(out, "tiny", [dataclasses.replace(run_of(0), folder="../elsewhere"), run_of(1)])
    runs = [run_of(0), dataclasses.replace(run_of(2), folder="1")]
    assert where_they_were(runs, out) == runs  # nothing is looked for elsewhere
    write_sweep(out, "tiny", [run_of(1)])
    assert [run.folder for run in where_they_were(runs, out)] == ["0", "1-2"]


PROGRESS = Progress(1.0, 10, 10, 7, 0.0, math.nan, 2.0, 0.5)


@pytest.fixture
def views() -> Iterator[PointViews]:
    """Views of five points, of which nothing is drawn."""
    with LiveView(Console(quiet=True), 5) as view:
        yield PointViews(view, [1.0] * 5)


@pytest.mark.usefixtures("mixed_dtypes")
def test_what_is_left_of_a_lost_task_is_tried_again_and_then_has_failed(tmp_path: Path, views: PointViews):
    runs = planned_runs(points_of(tmp_path, sweep={"seed": [0, 1, 2, 3]}))
    Failure(runs[3], "E", "of a former try").write(tmp_path)
    attempt = Attempt(Task(tuple(runs), known=frozenset({0})), tmp_path, views)
    assert not attempt.has_begun
    run_points(points_of(tmp_path, seed=1), tmp_path / "out")
    (tmp_path / "out/1-tiny").rename(tmp_path / runs[1].folder)
    ProgressFile(tmp_path / runs[2].folder).advanced(PROGRESS)
    assert [outcome.run.index for outcome in attempt.outcomes()] == [1]
    assert list(attempt.outcomes()) == []
    assert attempt.has_begun
    assert (views.of(runs[2]).fraction, views.of(runs[3]).fraction) == (0.5, 0.0)
    assert attempt.describe() == [f"{runs[2].label} stands after 0 server updates"]
    failures, again = attempt.retry(LostProcess("it was killed"), retries=1)
    assert failures == []
    assert again is not None
    assert (again.attempt, again.known, len(again.runs)) == (1, {0, 1}, 4)
    assert not (tmp_path / runs[2].folder / "progress.json").exists()
    [failure], again = Attempt(again, tmp_path, views).retry(LostProcess("it was killed"), retries=1)
    assert str(failure) == f"{runs[2].label}: it was killed, 2 times in all"
    assert again is not None
    assert ([run.index for run in again.runs], again.attempt) == ([0, 1, 3], 0)
    attempt = Attempt(again, tmp_path, views)
    assert list(attempt.outcomes()) == []
    Failure(runs[3], "E", "no").write(tmp_path)
    assert list(attempt.outcomes()) == [Failure(runs[3], "E", "no")]
    assert attempt.retry(LostProcess("it was killed"), retries=1) == ([], None)


def test_a_process_that_was_asked_to_stop_has_not_failed(tmp_path: Path, views: PointViews):
    attempt = Attempt(Task((run_of(0), run_of(1)), attempt=5), tmp_path, views)
    failures, again = attempt.retry(None, retries=1)
    assert failures == []
    assert again is not None
    assert len(again.runs) == 2
    failures, again = attempt.retry(LostProcess("no such program", is_final=True), retries=9)
    assert [str(failure) for failure in failures] == ["run 0: no such program", "run 1: no such program"]
    assert again is None


def test_status_tells_running_stopped_and_waiting_points(tardigrad: Any, tmp_path: Path):
    document = merge(SMALL, {"sweep": {"seed": [0, 1, 2]}})
    assert tardigrad("run", "experiment.yaml", "--out", "a", experiment=document)[0] == 0
    folders = sorted(path for path in (tmp_path / "a").iterdir() if path.is_dir())
    for folder in folders[:2]:
        (folder / "summary.json").unlink()
        checkpoint = folder / "checkpoints/000000000123"
        checkpoint.mkdir(parents=True)
        (checkpoint / "facts.json").write_text('{"updates": 17}')
    progress = dataclasses.replace(PROGRESS, server_updates=20, perplexity=5.0)
    ProgressFile(folders[0]).advanced(progress)
    code, out, _ = tardigrad("sweep", "status", "a")
    assert (code, "1 finished, 2 stopped of 3 in a" in out) == (0, True)
    assert out.count("checkpoint after 17 server updates") == 2
    with FileLock(tmp_path / "a/.lock"):
        _, out, _ = tardigrad("sweep", "status", "a")
    assert "1 finished, 1 running, 1 waiting of 3 in a" in out
    assert "50.0 %, 20 server updates, perplexity 5.000" in out
    for saved, shown in (("pretrained", "pretraining: 1,000 of 2,000 steps"), (None, "preparing")):
        observer = ProgressFile(folders[0])
        if saved:
            observer.pretrained(1000, 2000, 1.5)
        with FileLock(tmp_path / "a/.lock"):
            assert shown in tardigrad("sweep", "status", "a")[1]
    (folders[0] / "progress.json").write_text('{"simulation": {"fraction": 1}}')
    with FileLock(tmp_path / "a/.lock"):
        _, out, _ = tardigrad("sweep", "status", "a")
    assert "1 finished, 1 waiting, 1 damaged of 3 in a" in out
    code, _, err = tardigrad("sweep", "status", "a/1-tiny-seed-0")
    assert (code, "no sweep here: give the output folder of `tardigrad run`" in err) == (2, True)


def test_a_dry_run_shows_points_and_cost_and_leaves_nothing(tardigrad: Any, tmp_path: Path):
    shared = {"synchronization": {"kind": "barrier"}, "outer": {"weight": 1.0}, "pretrain": {"steps": 10}}
    bandwidths = {"cluster.network.bandwidth": ["1Gbit/s", "1kbit/s"]}
    document = merge(SMALL, shared | {"sweep": bandwidths})
    settings = ["run", "experiment.yaml", "--dry-run"]
    code, out, err = tardigrad(*settings, "--rate", "1GFLOP/s", experiment=document)
    assert (code, err) == (0, "")
    assert "2 tiny, cluster.network.bandwidth=1kbit/s all of 1" in " ".join(out.split())
    assert "2 points, 1 to train in full or in part" in out
    assert "to train: 60 local steps, 240 tokens" in out
    assert "at 1 GFLOP/s (as stated)" in out
    assert not (tmp_path / "runs").exists()
    code, out, _ = tardigrad(*settings, "--no-reuse")
    assert (code, "2 points, 2 to train in full or in part" in out) == (0, True)
    assert "measured on a moment of tiny" in out
    code, _, err = tardigrad(*settings, "--rate", "5 apples")
    assert (code, err.startswith("tardigrad: --rate = '5 apples': ")) == (2, True)


LONG = merge(SMALL, {"cluster": {"devices": {"seconds_per_step": [1e-6] * 2}}}) | {"budget": {"simulated_time": "1h"}}


def test_a_dry_run_prices_what_takes_long_from_how_far_it_comes(tardigrad: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(estimates, "_TIMELINE_S", 0.3)
    code, out, _ = tardigrad("run", "experiment.yaml", "--dry-run", "--rate", "1GFLOP/s", experiment=LONG)
    assert code == 0
    [found] = re.findall(r"to train: about ([\d.]+) G local steps", out)
    assert 6 < float(found) < 8  # 2 workers, 3.6e9 microseconds
    assert re.search(r"cost: [\d,.]+ \w+FLOP, about [\d,]+ d ", out)
    assert re.search(r"\n1 tiny +~[\d.]+ G +[\d.]+ G +1 h ", out)
    assert re.search(r"\nlong: the clock alone takes [\d,]+ [hd].* for point 1; use a smaller budget", out)


def test_a_dry_run_ends_though_comparing_points_would_not(tardigrad: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(estimates, "_TIMELINE_S", 0.3)
    document = LONG | {"sweep": {"cluster.network.bandwidth": ["1Gbit/s", "2Gbit/s"]}}
    code, out, _ = tardigrad("run", "experiment.yaml", "--dry-run", "--rate", "1GFLOP/s", experiment=document)
    assert (code, "2 points, 2 to train in full or in part" in out) == (0, True)


def test_a_dry_run_of_a_clock_that_goes_nowhere(tardigrad: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(estimates, "_TIMELINE_S", 0.3)
    for budget, told in (({"simulated_time": 60}, "cost: not known"), ({"local_steps": 10**6}, "to train: about 1 M ")):
        document = SMALL | {"budget": budget, "evaluate": SMALL["evaluate"] | {"every_simulated": "1ns"}}
        code, out, _ = tardigrad("run", "experiment.yaml", "--dry-run", "--rate", "1GFLOP/s", experiment=document)
        assert (code, told in out) == (0, True)
        assert "long: the clock alone comes to no server update within 0.3 s for point 1; use a smaller budget" in out


def test_a_local_step_is_priced_at_what_the_smallest_takes_at_least():
    steps, flops = 1000, [1e3, 1e9]
    points = [PointCost(run_of(0), "", steps, 1, 1.0, 0.0, 1.0, steps * each) for each in flops]
    cost = SweepCost(points, 1e12, "measured", step_s=1e-3)
    assert [cost.host_s(point) for point in points] == [1.0, 1.0]
    assert cost.host_s(dataclasses.replace(points[1], flops=5e12)) == 5.0
    assert cost.host_s(dataclasses.replace(points[0], clock_s=7.0)) == 7.0
    assert cost.host_s(dataclasses.replace(points[0], shares="all of 2")) == 0.0


def test_the_speed_is_measured_on_the_largest_and_the_smallest_step():
    small, large = (tiny(model={"width": width}, budget={"local_steps": 20}) for width in (8, 64))
    found = estimate([Point("small", {}, small), Point("large", {}, large)], Cache())
    assert found.source == "measured on a moment of large, and of small"
    assert found.step_s > 0
    alone = estimate([Point("small", {}, small)], Cache())
    assert (alone.source, alone.step_s) == ("measured on a moment of small", 0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gpus", "0.5", "--memory", "1GB"], "--gpus = 0.5: is for a cluster: add --engine ray"),
        (["--engine", "ray", "--jobs", "2"], "--jobs = 2: is for local processes: leave it out"),
        (["--engine", "ray", "--gpus", "1.5"], "--gpus = 1.5: expected a whole number, or a part of 1"),
        (["--engine", "ray", "--memory", "many"], "--memory = 'many': not a size"),
        (["--jobs", "2", "--profile"], "--profile: traces this process alone"),
        (["--rate", "1TFLOP/s"], "--rate = '1TFLOP/s': is for an estimate: add --dry-run"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tardigrad: Any, tmp_path: Path, options: Any, message: str):
    code, _, err = tardigrad("run", "experiment.yaml", *options, experiment=SMALL)
    assert (code, message in err) == (2, True)
    assert not (tmp_path / "runs").exists()


def test_without_ray_the_remedy_is_named(tardigrad: Any, monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else the command sets it
    code, _, err = tardigrad("run", "experiment.yaml", "--engine", "ray", experiment=SMALL)
    assert (code, "Ray is not installed: pip install 'tardigrad[ray]'" in err) == (2, True)


def test_a_part_of_a_gpu_has_that_part_of_its_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JAX_DEFAULT_MATMUL_PRECISION", "highest")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "here")
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    found = node_environment(cpus=3, gpus=0.25, memory=4e9)
    assert found.memory == 4e9
    assert found.variables["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.225"
    assert found.variables["JAX_NUM_CPU_DEVICES"] == "3"
    assert found.variables["JAX_DEFAULT_MATMUL_PRECISION"] == "highest"
    assert not {"JAX_COMPILATION_CACHE_DIR", "JAX_PLATFORMS"} & set(found.variables)
    none = node_environment(cpus=None, gpus=0, memory=None).variables
    assert none["JAX_PLATFORMS"] == "cpu"
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION" not in none
    assert OnRay().gpus == 0


def test_lanes_follow_a_processs_part_of_the_memory():
    from simulator.learning.memory import memory_limit

    whole = memory_limit(0.5)
    assert memory_limit(0.5, 0.25) == pytest.approx(whole / 4)
    assert memory_limit(0.5, 4e9) == 2e9
    assert memory_limit(1e9, 0.25) == 1e9


def test_an_output_folder_of_other_points_is_refused_at_once(tmp_path: Path):
    points = points_of(tmp_path, sweep={"seed": [0, 1]})
    run_points(points[:1], tmp_path / "a")
    assert len(read_runs([tmp_path / "a"])) == 1
    with pytest.raises(ExperimentError, match="the folder is not empty"):
        run_points(points, tmp_path / "a")


def test_errors_travel_between_processes_as_they_are():
    several = ExperimentError([Problem("a.b", "is wrong", 3), Problem("c", "is missing")])
    again = pickle.loads(pickle.dumps(several))
    assert (str(again), again.problems) == (str(several), several.problems)
    setting = pickle.loads(pickle.dumps(SettingError("cluster.devices", 4, "cannot be")))
    assert (type(setting), setting.key, setting.value, str(setting)) == (
        SettingError,
        "cluster.devices",
        4,
        "cluster.devices = 4: cannot be",
    )


def test_a_plugin_is_run_once_in_a_process_however_often_it_is_asked_for(tmp_path: Path):
    file = tmp_path / "rules.py"
    ran = tmp_path / "ran"
    file.write_text(f"with open({str(ran)!r}, 'a') as log:\n    print(__file__, file=log)\n", encoding="utf-8")
    other = Plugin("elsewhere/rules.py", file.read_text(encoding="utf-8"))
    import_plugins([str(file)])
    assert plugins_so_far()[-1] == Plugin(str(file), other.source)
    for _ in range(2):
        run_plugins(plugins_so_far())
        run_plugins([other])
        import_plugins([str(file)])
    assert ran.read_text(encoding="utf-8").split() == [str(file), "elsewhere/rules.py"]


def test_a_point_whose_timeline_fails_stops_no_other_that_shares_its_settings(tmp_path: Path):
    own = {"shard_choice": {"kind": "nowhere"}}
    variants = {"good": {}, "bad": own, "also good": {"cluster": {"network": {"latency": "1s"}}}}
    with named_shards("nowhere"):
        points = points_of(tmp_path, variants=variants)
        with pytest.raises(PointsFailedError, match="1 of 3 points failed") as raised:
            run_points(points, tmp_path / "out")
    [failure] = raised.value.failures
    assert failure.run.label == "bad"
    assert [record.summary["variant"] for record in raised.value.records] == ["good", "also good"]


def test_a_name_that_only_this_process_knows_is_explained(tmp_path: Path):
    with named_shards("local"):
        [run] = planned_runs(points_of(tmp_path, shard_choice={"kind": "local"}))
    with pytest.raises(SimulationError, match=r"--plugin or import_plugins\(\[file\]\)"):
        experiment_of(run)


@contextlib.contextmanager
def named_shards(name: str) -> Iterator[None]:
    """Has a choice of shards that there are not, by name."""
    with registry.emptied():
        register_shard_choice(name, lambda sizes: lambda worker, assigned, random: 10**6)
        yield
