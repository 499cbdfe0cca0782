import importlib.metadata
import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from simulator import Cache, simulate
from simulator.experiment import Experiment
from simulator.host.signals import Stopped
from simulator.record import Checkpoints, RecordError, RunRecord
from tests import killed_runs
from tests.experiments import outside, tiny

pytestmark = pytest.mark.usefixtures("mixed_dtypes")
CACHE = Cache()
ON_THE_HOST = ("host_seconds", "tokens_per_host_second")


def assert_same(one: RunRecord, other: RunRecord) -> None:
    """Everything but what depends on the host's clock is the same, bit for bit."""
    for table in ("rounds", "evaluations", "updates", "transfers", "faults"):
        pd.testing.assert_frame_equal(getattr(one, table), getattr(other, table), check_exact=True)
    unknown = dict.fromkeys(ON_THE_HOST)
    assert one.summary | unknown == other.summary | unknown
    assert one.experiment == other.experiment


class Stop:
    """Asks to stop when it has been asked so many times."""

    def __init__(self, after: int):
        self.left = after

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def stopped_again_and_again(experiment: Experiment, folder: Path, events: int) -> RunRecord:
    """Simulates with a stop after every few events."""
    for _ in range(100):
        try:
            return simulate(experiment, cache=CACHE, checkpoints=folder, stop=Stop(events))
        except Stopped:
            assert len(list(folder.iterdir())) <= experiment.checkpoint.keep
    raise AssertionError("it does not get on")


@pytest.mark.parametrize("variant", [*killed_runs.VARIANTS, *killed_runs.STOPPED])
def test_a_run_that_is_stopped_and_goes_on_is_the_same(variant: str, tmp_path: Path):
    experiment, events = killed_runs.experiment_of(variant), 53 if variant in killed_runs.VARIANTS else 101
    whole = simulate(experiment, cache=CACHE)
    assert_same(stopped_again_and_again(experiment, tmp_path, events), whole)


@pytest.mark.parametrize("settings", [{}, {"model": {"remat": True}, "inner": {"accumulation": 2}}], ids=str)
def test_a_transformer_that_is_stopped_and_goes_on_is_the_same(settings: dict[str, Any], tmp_path: Path):
    experiment = tiny(evaluate={"per_shard": True}, **settings)
    assert_same(stopped_again_and_again(experiment, tmp_path, 70), simulate(experiment, cache=CACHE))


def test_what_is_infinite_is_still_the_same_experiment(tmp_path: Path):
    forever = {"synchronization": {"grace": "infinite"}}
    experiment = tiny(**killed_runs.CLASSIFIER, **forever)
    assert_same(stopped_again_and_again(experiment, tmp_path, 60), simulate(experiment, cache=CACHE))


def test_the_serial_trainer_goes_on_too(tmp_path: Path):
    experiment = tiny(**killed_runs.CLASSIFIER, compute={"trainer": "serial"})
    assert_same(stopped_again_and_again(experiment, tmp_path, 31), simulate(experiment, cache=CACHE))


def test_writing_the_state_down_changes_nothing(tmp_path: Path):
    experiment = killed_runs.experiment_of("async")
    assert_same(simulate(experiment, cache=CACHE, checkpoints=tmp_path), simulate(experiment, cache=CACHE))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[tuple[int, str]]]]:
    """The folders of runs that were killed again and again, and how their processes ended."""
    folder = tmp_path_factory.mktemp("killed")
    script = [sys.executable, "-m", "tests.killed_runs", str(folder)]
    ran = subprocess.run(script, env=outside(), capture_output=True, text=True, check=True)
    return folder, json.loads(ran.stdout)


@pytest.mark.parametrize("variant", killed_runs.KILLED)
def test_a_run_that_is_killed_and_goes_on_is_the_same(
    variant: str, killed: tuple[Path, dict[str, list[tuple[int, str]]]]
):
    folder, outcomes = killed
    *stopped, (status, _) = outcomes[variant]
    assert [each for each, _ in stopped] == [-9] * killed_runs.kills_of(variant)
    assert status == 0
    assert_same(RunRecord.read(folder / variant / "killed"), RunRecord.read(folder / variant / "whole"))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints of a run that was stopped."""
    import jax

    folder = tmp_path_factory.mktemp("stopped")
    with jax.numpy_dtype_promotion("standard"), pytest.raises(Stopped):
        simulate(EXPERIMENT, cache=CACHE, checkpoints=folder, stop=Stop(40))
    return folder


EXPERIMENT = tiny(**killed_runs.CLASSIFIER, checkpoint={"every_updates": 5, "keep": 2})


@pytest.fixture
def copied(stopped: Path, tmp_path: Path) -> Path:
    shutil.copytree(stopped, tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


def go_on(folder: Path, **changes: object) -> RunRecord:
    return simulate(EXPERIMENT.model_copy(update=changes), cache=CACHE, checkpoints=folder)


@pytest.fixture(scope="module")
def whole() -> RunRecord:
    return simulate(EXPERIMENT, cache=CACHE)


def test_corrupt_checkpoints_are_passed_over_and_never_give_a_wrong_number(
    stopped: Path, tmp_path: Path, whole: RunRecord
):
    newest, before = sorted(path.name for path in stopped.iterdir())[::-1]
    files = sorted(path for path in (stopped / newest).rglob("*") if path.is_file())
    random = np.random.default_rng(0)
    warned: list[str] = []
    reader = Checkpoints(tmp_path / "copy", keep=2, warn=warned.append)
    good = Checkpoints(stopped, keep=2, warn=warned.append).latest()
    assert good is not None
    assert warned == []
    for number, file in zip(range(60), itertools.cycle(files), strict=False):
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(stopped, tmp_path / "copy")
        broken = tmp_path / "copy" / file.relative_to(stopped)
        content = bytearray(broken.read_bytes())
        first = int(random.integers(len(content)))
        for place in range(first, min(first + 1 + number % 5, len(content))):
            content[place] ^= 1 + int(random.integers(255))
        broken.write_bytes(content)
        found = reader.latest()
        assert found is not None
        if found.events == good.events:  # white space of the manifest
            assert {name: array.tobytes() for name, array in found.arrays.items()} == {
                name: array.tobytes() for name, array in good.arrays.items()
            }
        else:
            assert found.events == int(before)
            assert newest in warned.pop()
    with pytest.warns(UserWarning, match="this checkpoint"):
        assert_same(go_on(tmp_path / "copy"), whole)


@pytest.mark.parametrize("torn", ["arrays", "facts.json", "manifest.json"])
def test_a_torn_checkpoint_is_passed_over_and_said_so(copied: Path, whole: RunRecord, torn: str):
    newest = max(copied.iterdir())
    shutil.rmtree(newest / torn) if torn == "arrays" else (newest / torn).unlink()
    with pytest.warns(UserWarning, match=f"{newest.name}: this checkpoint .*the one before it is used"):
        assert_same(go_on(copied), whole)


def test_without_any_whole_checkpoint_a_run_starts_anew(copied: Path, whole: RunRecord):
    for folder in copied.iterdir():
        (folder / "facts.json").write_text("{}")
    with pytest.warns(UserWarning, match="is damaged"):
        assert_same(go_on(copied), whole)


def test_a_checkpoint_of_another_experiment_is_refused_with_what_differs(copied: Path):
    message = r"checkpoints: is of another simulation \(experiment.seed is 0 there and 7 here\): make that as it was"
    with pytest.raises(RecordError, match=message):
        go_on(copied, seed=7)
    assert len(list(copied.iterdir())) == 2


def test_how_often_the_state_is_written_down_is_no_other_experiment(copied: Path, whole: RunRecord):
    record = go_on(copied, checkpoint=EXPERIMENT.checkpoint.model_copy(update={"keep": 1}))
    assert record.summary["parameters_hash"] == whole.summary["parameters_hash"]


def test_a_checkpoint_of_other_versions_is_refused(copied: Path, monkeypatch: pytest.MonkeyPatch):
    known = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9" if name == "jax" else known(name))
    with pytest.raises(RecordError, match=r"made with.versions.jax is '.*' there and '9.9' here"):
        go_on(copied)


def test_a_timeline_that_is_not_the_one_before_is_refused(copied: Path, monkeypatch: pytest.MonkeyPatch):
    from simulator.timeline.policies import shard_choice

    fixed = shard_choice.FixedShard()
    monkeypatch.setattr(shard_choice.Proportional, "new_choices", lambda self, *given: fixed.new_choices(*given))
    with pytest.raises(RecordError, match="the simulated events up to the checkpoint are not those"):
        go_on(copied)


def test_a_full_disk_leaves_the_last_checkpoint_as_it_was(
    copied: Path, monkeypatch: pytest.MonkeyPatch, whole: RunRecord
):
    from simulator.record import checkpoints

    def fill(folder: Path, arrays: object) -> None:
        folder.mkdir()
        (folder / "half").write_bytes(b"1")
        raise OSError(28, "No space left on device", str(folder))

    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "_save_arrays", fill)
        with pytest.raises(OSError, match="No space left"):
            go_on(copied)
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == before
    assert_same(go_on(copied), whole)
