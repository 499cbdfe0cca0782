"""A Ray cluster of two nodes on this machine: a node is killed, and every point is as if simulated here; its files."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from simulator import load, read_runs, simulate
from simulator.experiment.file import merge
from simulator.learning import Cache
from simulator.sweep.executors import ray_node
from simulator.sweep.executors.ray_node import FileReceiver, FileSender
from simulator.sweep.plan import PlannedRun, Task
from simulator.sweep.progress import ProgressFile
from tests.experiments import TINY, outside
from tests.killed_runs import CLASSIFIER

pytestmark = pytest.mark.usefixtures("mixed_dtypes")
ROOT = Path(__file__).parents[2]
SWEEP = {
    "sweep": {"seed": [0, 1, 2]},
    "budget": {"local_steps": 4_000},
    "checkpoint": {"every_updates": 75},
    "evaluate": {"windows": 8, "every_local_steps": 1_000},
}


def test_points_of_a_node_that_dies_go_on_elsewhere_to_the_records_that_are_made_here(tmp_path: Path):
    file = tmp_path / "experiment.yaml"
    file.write_text(json.dumps(merge(TINY, merge(CLASSIFIER, SWEEP))), encoding="utf-8")
    script = [sys.executable, "-m", "tests.ray_cluster", str(file), str(tmp_path / "ray")]
    made = subprocess.run(script, cwd=ROOT, env=outside(), capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stderr
    happened = json.loads(made.stdout.splitlines()[-1])
    assert happened["lost"]
    assert max(happened["resumed"].values()) > 75  # it has gone on from a checkpoint
    cache = Cache()
    records = read_runs([tmp_path / "ray"])
    assert len(records) == 3
    for point, record in zip(load(file), records, strict=True):
        alone = simulate(point.experiment, cache=cache, overrides=point.overrides)
        for key in ("parameters_hash", "causal_hash", "final_loss", "overrides", "devices"):
            assert record.summary[key] == alone.summary[key]
        for name in ("rounds", "evaluations", "faults", "updates", "transfers"):
            pd.testing.assert_frame_equal(getattr(record, name), getattr(alone, name), check_exact=True)


def test_files_of_a_point_arrive_whole_whatever_is_removed_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ray_node, "PIECE_BYTES", 4)
    there, here = tmp_path / "there/1-a", tmp_path / "here/1-a"
    receiver = FileReceiver(here, keep=1)

    def send(point: str, path: str, content: bytes | None) -> None:
        assert point == "1-a"
        receiver.add(path, content)
        if content is not None:
            assert not (here / path).exists() or path == "progress.json"
            shutil.rmtree(there / "checkpoints", ignore_errors=True)

    def files(folder: Path) -> dict[str, bytes]:
        found = sorted(path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}

    sender = FileSender(Task((PlannedRun(0, "a", "1-a", {}, {}),)), tmp_path / "there", send)
    sender.send_new()
    assert not here.exists()
    ProgressFile(there)
    for name in ("000000000001", "000000000002"):
        checkpoint = there / "checkpoints" / name
        (checkpoint / "arrays").mkdir(parents=True)
        (checkpoint / "arrays/long").write_bytes(b"0123456789")
        (checkpoint / "facts.json").write_bytes(b"")
        written = files(there)
        sender.send_new()
        assert files(here) == written
    (there / "rounds.parquet").write_bytes(b"table")
    (there / "summary.json").write_bytes(b"{}")
    (there / "progress.json").unlink()
    sender.send_new()
    assert files(here) == files(there) == {"rounds.parquet": b"table", "summary.json": b"{}"}
    sender.send_new()  # no more
