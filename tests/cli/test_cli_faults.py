"""The command and clusters that fail."""

import json
from pathlib import Path
from typing import Any

import pytest

from simulator import load
from simulator.experiment.file import merge
from tests.experiments import TINY
from tests.killed_runs import CLASSIFIER

DOCUMENT = merge(merge(TINY, CLASSIFIER), {"synchronization": {"kind": "barrier"}, "outer": {"weight": 1.0}})
CRASH = merge(DOCUMENT, {"cluster": {"faults": {"trace": "crash.csv"}}})


@pytest.fixture
def crash(tmp_path: Path) -> None:
    (tmp_path / "crash.csv").write_text("worker,time,event\n1,20,crash\n3,30,slow 2\n")


def test_a_cluster_that_is_stuck_says_so_and_with_a_timeout_it_is_not(
    tardigrad: Any, crash: None, tmp_path: Path, mixed_dtypes: None
):
    code, out, err = tardigrad("run", "experiment.yaml", "--out", "a", experiment=CRASH)
    assert (code, out) == (1, "experiment.yaml: 1 simulation of 1 variant, 84 parameters\n")
    assert err.startswith("tardigrad: tiny: nobody can make progress any more at ")
    assert "waits for worker 1 (crash at 20 s, never back), and worker 0, worker 2, worker 3 for the server" in err
    assert tardigrad("timeline", "experiment.yaml", "--out", "b")[0] == 1
    code, out, err = tardigrad("run", "experiment.yaml", "--out", "c", "synchronization.timeout=30s")
    assert (code, err) == (0, "")
    assert "what was lost" in out
    [summary] = json.loads((tmp_path / "c/summary.json").read_text())
    assert summary["lost_rounds"] == 1
    code, out, err = tardigrad("verify", "c")
    assert (code, err) == (0, "")


def test_a_record_holds_the_events_of_a_trace(tardigrad: Any, crash: None, tmp_path: Path):
    assert tardigrad("timeline", "experiment.yaml", "synchronization.timeout=9s", experiment=CRASH)[0] == 0
    (tmp_path / "crash.csv").unlink()
    [record] = (tmp_path / "runs").rglob("experiment.yaml")
    [point] = load(record)
    assert point.experiment.cluster.faults is not None
    assert point.experiment.cluster.faults.trace == ((1, 20.0, "crash", None), (3, 30.0, "slow", 2.0))
    code, _, err = tardigrad("timeline", "experiment.yaml")
    assert code == 2
    assert "crash.csv" in err
    assert "the trace cannot be read: No such file or directory" in err


def test_what_is_not_finite_ends_a_run_where_that_is_fatal(tardigrad: Any, mixed_dtypes: None):
    rate = ["inner.learning_rate=1e30", "outer.non_finite=fatal"]
    code, _, err = tardigrad("run", "experiment.yaml", *rate, experiment=DOCUMENT)
    assert code == 1
    assert "brought a pseudo-gradient that is not finite" in err
