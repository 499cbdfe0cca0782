import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from simulator import load, read_runs, simulate
from simulator.experiment.file import merge
from tests.experiments import TINY, outside
from tests.killed_runs import CLASSIFIER

pytestmark = pytest.mark.usefixtures("mixed_dtypes")
DOCUMENT = merge(TINY, CLASSIFIER) | {"sweep": {"seed": [0, 1]}, "budget": {"local_steps": 60}}


def summaries(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "summary.json").read_text())


def parameters(folder: Path) -> list[str]:
    return [run["parameters_hash"] for run in summaries(folder)]


def test_what_is_finished_is_not_run_again(tardigrad: Any, tmp_path: Path):
    assert tardigrad("run", "experiment.yaml", "--out", "a", experiment=DOCUMENT)[0] == 0
    first = summaries(tmp_path / "a")
    second = next(path for path in (tmp_path / "a").iterdir() if path.name.startswith("2-"))
    shutil.rmtree(second)
    (tmp_path / "a/summary.json").unlink()
    code, out, err = tardigrad("run", "experiment.yaml", "--out", "a", "--resume")
    assert (code, err) == (0, "")
    assert "2 runs, summary.json" in out
    again = summaries(tmp_path / "a")
    assert again[0] == first[0]  # host seconds too
    assert again[1]["host_seconds"] != first[1]["host_seconds"]
    assert parameters(tmp_path / "a") == [run["parameters_hash"] for run in first]
    assert len(read_runs([tmp_path / "a"])) == 2
    assert not list((tmp_path / "a").rglob("checkpoints"))


def test_another_experiment_does_not_go_on_in_the_folder(tardigrad: Any, tmp_path: Path):
    assert tardigrad("run", "experiment.yaml", "seed=3", "sweep=null", experiment=DOCUMENT)[0] == 0
    code, _, err = tardigrad("run", "experiment.yaml", "seed=4", "sweep=null", "--resume")
    assert code == 2
    what = "is of another simulation (experiment.seed is 3 there and 4 here)"
    assert err == f"tardigrad: runs/tiny/1-tiny: {what}: make that as it was, or choose another --out\n"


def test_one_command_begins_goes_on_and_has_nothing_left_to_do(tardigrad: Any, tmp_path: Path):
    command = ("run", "experiment.yaml", "seed=3", "sweep=null", "--out", "a", "--resume")
    found, left = [], []
    for _ in range(2):
        left.append(tardigrad(*command, "--dry-run", "--rate", "1GFLOP/s", experiment=DOCUMENT)[1])
        code, _, _ = tardigrad(*command)
        assert code == 0
        found.append(summaries(tmp_path / "a"))
    assert found[0] == found[1]  # host seconds too
    assert "1 point, 1 to train" in left[0]
    assert "finished in a: 1 of 1 point\n" in left[1]
    assert "0 points, 0 to train" in left[1]


def test_a_folder_that_is_not_empty_is_named_with_the_remedy(tardigrad: Any, tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b").touch()
    code, _, err = tardigrad("run", "experiment.yaml", "--out", "a", experiment=DOCUMENT)
    assert code == 2
    assert "choose another, remove it first, or go on in it with --resume" in err


def test_a_second_process_in_the_same_folder_is_refused(tardigrad: Any, tmp_path: Path):
    (tmp_path / "a").mkdir()
    with FileLock(tmp_path / "a/.lock"):
        code, _, err = tardigrad("run", "experiment.yaml", "--out", "a", experiment=DOCUMENT)
    assert code == 2
    assert err.startswith("tardigrad: --out = 'a': another process is at work in this folder: wait for its end")
    assert tardigrad("run", "experiment.yaml", "--out", "a")[0] == 0


def test_a_command_that_was_told_to_end_goes_on_to_the_same_end(tmp_path: Path):
    document = DOCUMENT | {"budget": {"local_steps": 2_000}, "evaluate": {"windows": 8}, "sweep": {"seed": [0]}}
    document["checkpoint"] = {"every_updates": 20}
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-c", "from simulator.cli.main import main; main()", "run", "experiment.yaml", "--out"]
    with subprocess.Popen([*command, "a"], cwd=tmp_path, env=outside(), stderr=subprocess.PIPE, text=True) as process:
        while not list(tmp_path.glob("a/*/checkpoints/0*")) and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert err.startswith("tardigrad: stopped by SIGTERM; tiny, seed=0 stands after ")
    assert err.endswith(": go on with --resume --out a\n")
    seldom = ["checkpoint.every_updates=null", "--resume"]  # which is no other experiment
    subprocess.run([*command, "a", *seldom], cwd=tmp_path, env=outside(), check=True, capture_output=True)
    [point] = load(tmp_path / "experiment.yaml")
    assert parameters(tmp_path / "a") == [simulate(point.experiment).summary["parameters_hash"]]


BANDWIDTHS = {
    "synchronization": {"kind": "barrier"},
    "outer": {"weight": 1.0},
    "sweep": {"cluster.network.bandwidth": ["1Gbit/s", "1Mbit/s"]},
}


def test_points_with_one_trajectory_are_trained_once_and_the_record_says_so(tardigrad: Any, tmp_path: Path):
    document = merge(DOCUMENT | {"sweep": {}}, BANDWIDTHS)
    code, out, err = tardigrad("run", "experiment.yaml", "--out", "a", experiment=document)
    assert (code, err) == (0, "")
    assert "1 run took over what others had trained, 60 of 120 local steps: `reused` in summary.json" in out
    assert tardigrad("run", "experiment.yaml", "--out", "b", "--no-reuse")[0] == 0
    label = "tiny, cluster.network.bandwidth=1Gbit/s"
    for folder, reused in (("a", [None, {"from": label, "local_steps": 60}]), ("b", [None, None])):
        assert [run["reused"] for run in summaries(tmp_path / folder)] == reused
    for key in ("parameters_hash", "final_loss", "simulated_seconds", "bytes_sent"):
        one, other = ([run[key] for run in summaries(tmp_path / folder)] for folder in "ab")
        assert one == other
    assert tardigrad("verify", "a")[0] == 0
    second = next(path for path in (tmp_path / "a").iterdir() if path.name.startswith("2-"))
    shutil.rmtree(second)
    assert tardigrad("run", "experiment.yaml", "--out", "a", "--resume")[0] == 0
    assert summaries(tmp_path / "a")[1]["reused"] == {"from": label, "local_steps": 60}
