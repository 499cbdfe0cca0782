"""`tardigrad plan`, and what the other commands say of a model that is only described."""

import json
from typing import Any

import pytest

from simulator import read_runs
from tests.simulation.test_described_models import T4, laid


def document(**settings: Any) -> dict[str, Any]:
    variants = {"DiLoCo": {"method": "diloco"}, "each arrival": {"method": "delayed_nesterov"}}
    return laid(**settings) | {"method": {}, "variants": variants}


@pytest.mark.drawn
def test_a_plan_prints_what_each_variant_takes(tardigrad, tmp_path):
    code, out, err = tardigrad("plan", "experiment.yaml", experiment=document(model__width=1000))
    assert (code, err) == (0, "")
    assert "on equal terms: the same rounds per worker" in out
    for words in ("DiLoCo", "each arrival", "utili-", "16 GB", "T4", "50 %", "99 %", "Gbit/s", "24 GB"):
        assert words in out
    assert [path.name for path in tmp_path.iterdir()] == ["experiment.yaml"]  # nothing is written
    settings = ["--out", "planned", "--figure", "plan.png"]
    code, out, err = tardigrad("plan", "experiment.yaml", *settings, experiment=document(model__width=1000))
    assert (code, err) == (0, "")
    assert {path.name for path in tmp_path.iterdir()} == {"experiment.yaml", "plan.png", "plan.svg", "planned"}
    written = json.loads((tmp_path / "planned/plan.json").read_text())
    assert [row["label"] for row in written["variants"]] == ["DiLoCo", "each arrival"]
    records = read_runs(tmp_path / "planned")
    for row, record in zip(written["variants"], records, strict=True):
        assert row["totals"]["simulated_time"] == record.summary["simulated_seconds"]


def test_a_device_that_is_too_small_is_refused_by_every_command(tardigrad):
    small = document(cluster__devices={"accelerators": [T4 | {"memory": "8GB"}]})
    for command in ("plan", "timeline", "validate"):
        code, _, err = tardigrad(command, "experiment.yaml", experiment=small)
        assert code != 0
        assert "cluster.devices.accelerators.0.memory" in err
        assert "parameters 4 GB" in err


def test_it_is_valid_and_not_run(tardigrad):
    code, out, _ = tardigrad("validate", "experiment.yaml", experiment=document())
    assert code == 0
    assert "valid; 2 simulations" in out
    code, _, err = tardigrad("run", "experiment.yaml", experiment=document())
    assert code != 0
    assert "cannot be trained" in err
    assert "tardigrad plan" in err
