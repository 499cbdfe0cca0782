"""Local processes: the same records as one process makes, also when processes are killed or told to stop."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from simulator import PointsFailedError, RunRecord, load, run_points
from simulator.experiment.file import merge
from tests.experiments import TINY, outside
from tests.killed_runs import CLASSIFIER

pytestmark = pytest.mark.usefixtures("mixed_dtypes")
OF_THE_HOST = dict.fromkeys(("host_seconds", "tokens_per_host_second"))
OFTEN = {"checkpoint": {"every_updates": 100}, "evaluate": {"windows": 8}}
DOCUMENT = merge(TINY, CLASSIFIER | OFTEN)


@pytest.fixture(autouse=True)
def _mixed_dtypes_in_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAX_NUMPY_DTYPE_PROMOTION")


def points_of(tmp_path: Path, **changes: Any) -> Any:
    file = tmp_path / "experiment.yaml"
    file.write_text(json.dumps(merge(DOCUMENT, changes)), encoding="utf-8")
    return load(file)


def assert_same(records: list[RunRecord], others: list[RunRecord]) -> None:
    assert len(records) == len(others)
    for one, other in zip(records, others, strict=True):
        assert one.summary | OF_THE_HOST == other.summary | OF_THE_HOST
        assert one.experiment == other.experiment
        for name in ("rounds", "evaluations", "faults", "updates", "transfers"):
            pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name), check_exact=True)


def test_processes_make_the_same_records_and_a_failure_stops_no_other(tmp_path: Path):
    shared = {"synchronization": {"kind": "barrier"}, "outer": {"weight": 1.0, "non_finite": "fatal"}}
    axes = {"cluster.network.bandwidth": ["1Gbit/s", "1Mbit/s"], "inner.learning_rate": [0.1, 0.2, 1e30]}
    points = points_of(tmp_path, **shared, sweep=axes, pretrain={"steps": 5})
    with pytest.raises(PointsFailedError) as one:
        run_points(points, tmp_path / "one")
    with pytest.raises(PointsFailedError) as two:
        run_points(points, tmp_path / "two", jobs=2)
    assert_same(list(one.value.records), list(two.value.records))
    reused = [record.summary["reused"] for record in two.value.records]
    assert [each and each["local_steps"] for each in reused] == [None, None, 200, 200]
    failed = [[str(failure) for failure in each.value.failures] for each in (one, two)]
    assert failed[0] == failed[1]
    assert len(failed[0]) == 2
    summaries = [json.loads((tmp_path / folder / "summary.json").read_text()) for folder in ("one", "two")]
    overrides = [[run["overrides"] for run in each] for each in summaries]
    assert overrides[0] == overrides[1]
    names = [sorted(path.name for path in (tmp_path / folder).iterdir()) for folder in ("one", "two")]
    assert names[0] == names[1]


def test_a_process_that_is_killed_or_told_to_end_is_replaced_and_its_point_goes_on(tmp_path: Path):
    points = points_of(tmp_path, sweep={"seed": [0, 1]}, budget={"local_steps": 4_000})
    killed: list[int] = []

    def kill() -> None:
        """Kills a process, and tells the other to end, once there is a checkpoint."""
        while not killed and running.is_set():
            if list((tmp_path / "two").glob("1-*/checkpoints/0*/manifest.json")):
                children = multiprocessing.active_children()
                killed.extend(child.pid for child in children if child.pid is not None)
                for pid, number in zip(killed, (signal.SIGKILL, signal.SIGTERM), strict=True):
                    os.kill(pid, number)
            time.sleep(0.02)

    running = threading.Event()
    running.set()
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        records = run_points(points, tmp_path / "two", jobs=2)
    finally:
        running.clear()
        killer.join()
    assert len(killed) == 2
    assert_same(records, run_points(points, tmp_path / "one"))


def test_a_command_that_was_told_to_end_leaves_checkpoints_and_goes_on_to_the_same_end(tardigrad: Any, tmp_path: Path):
    points = points_of(tmp_path, sweep={"seed": [0, 1]}, budget={"local_steps": 4_000})
    command = [
        sys.executable,
        "-c",
        "from simulator.cli.main import main; main()",
        "run",
        "experiment.yaml",
        "--out",
        "a",
    ]
    options = {"cwd": tmp_path, "env": outside(), "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*command, "--jobs", "2"], **options) as process:
        while len(list(tmp_path.glob("a/*/checkpoints/0*/manifest.json"))) < 2 and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert err.startswith("tardigrad: stopped by SIGTERM; tiny, seed=")
    assert err.endswith(": go on with --resume --out a\n")
    assert err.count(" stands after ") == 2
    assert "2 stopped of 2 in a" in tardigrad("sweep", "status", "a")[1]
    assert tardigrad("run", "experiment.yaml", "--out", "a", "--resume")[0] == 0
    hashes = [run["parameters_hash"] for run in json.loads((tmp_path / "a/summary.json").read_text())]
    assert hashes == [record.summary["parameters_hash"] for record in run_points(points, tmp_path / "b")]
