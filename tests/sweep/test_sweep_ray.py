"""A Ray cluster of two nodes on this machine: a node is killed, and every point is as if simulated here."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from simulator import load, read_runs, simulate
from simulator.experiment.file import merge
from simulator.learning import Cache
from tests.experiments import TINY, outside
from tests.killed_runs import CLASSIFIER

pytestmark = pytest.mark.usefixtures("mixed_dtypes")
ROOT = Path(__file__).parents[2]
SWEEP = {
    "sweep": {"seed": [0, 1, 2]},
    "budget": {"local_steps": 8_000},
    "checkpoint": {"every_updates": 150},
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
    assert max(happened["resumed"].values()) > 150  # it has gone on from a checkpoint
    cache = Cache()
    records = read_runs([tmp_path / "ray"])
    assert len(records) == 3
    for point, record in zip(load(file), records, strict=True):
        alone = simulate(point.experiment, cache=cache, overrides=point.overrides)
        for key in ("parameters_hash", "causal_hash", "final_loss", "overrides", "devices"):
            assert record.summary[key] == alone.summary[key]
        for name in ("rounds", "evaluations", "faults"):
            pd.testing.assert_frame_equal(getattr(record, name), getattr(alone, name), check_exact=True)
