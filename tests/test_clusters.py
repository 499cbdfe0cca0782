"""The planning question: its file, and the committed plan of it."""

import json
from pathlib import Path

import pytest

from simulator import Cache, check, load
from simulator.sweep.planning import plan_of, terms_of

FOLDER = Path(__file__).parents[1] / "experiments"
FILE = FOLDER / "clusters/planning.yaml"
WRITTEN = json.loads((FOLDER / "results/clusters/planning.json").read_text(encoding="utf-8"))
CACHE = Cache()


def test_the_file_is_valid_and_the_plan_is_of_it():
    points = load(FILE)
    assert [problem for point in points for problem in check(point.experiment, CACHE)] == []
    assert [row["label"] for row in WRITTEN["variants"]] == [point.label for point in points]
    assert WRITTEN["terms"] == terms_of([point.experiment for point in points]) == "on equal terms: the same tokens"
    assert [row["totals"]["tokens"] for row in WRITTEN["variants"]] == pytest.approx([20e9] * 6, rel=1e-3)


def test_a_plan_made_anew_has_the_same_numbers():
    point = next(point for point in load(FILE) if point.variant == "DiLoCo")
    [made] = plan_of([point], CACHE)
    row = next(row for row in WRITTEN["variants"] if row["label"] == "DiLoCo")
    assert made.as_json()["totals"] == pytest.approx(row["totals"], rel=1e-9)
    assert made.utilization == pytest.approx(row["utilization"], rel=1e-9)
    for share, factor in made.as_json()["bandwidth"].items():
        assert factor == (None if row["bandwidth"][share] is None else pytest.approx(row["bandwidth"][share], rel=0.02))


def test_one_t4_has_no_room_for_the_model():
    [point] = load(FILE, "cluster.devices={accelerators: [{name: T4, site: west}]}", variant="DiLoCo")
    [problem] = check(point.experiment, CACHE)
    assert problem.key == "cluster.devices.accelerators.0.memory"
    assert "what it last accepted 4 GB" in problem.message
