"""A trace of a few rounds, in which the phases have names."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from simulator.experiment.file import merge
from tests.experiments import TINY
from tests.killed_runs import CLASSIFIER

PHASES = {"dispatch", "gather", "round", "outer update", "evaluation", "fetching"}
COMPILED = (b"forward and backward", b"optimizer", b"gather")


@pytest.fixture
def small() -> Any:
    return merge(merge(TINY, CLASSIFIER), {"variants": {"first": {}, "second": {"seed": 1}}})


def test_a_trace_names_the_phases_and_changes_no_result(tardigrad: Any, tmp_path: Path, small: Any):
    code, plain, err = tardigrad("run", "experiment.yaml", "--out", "plain", experiment=small)
    assert (code, err) == (0, "")
    assert "profile" not in plain
    code, out, err = tardigrad("run", "experiment.yaml", "--out", "traced", "--profile")
    assert (code, err) == (0, "")

    (timeline,) = tmp_path.glob("traced/profile/plugins/profile/*/*.trace.json.gz")
    names = [event.get("name") for event in json.loads(gzip.decompress(timeline.read_bytes()))["traceEvents"]]
    assert set(names) >= PHASES
    assert names.count("outer update") <= names.count("dispatch") + 4
    assert 8 <= names.count("outer update") < 40  # the simulation has 40
    (planes,) = timeline.parent.glob("*.xplane.pb")
    assert all(name in planes.read_bytes() for name in COMPILED)
    assert str(timeline.relative_to(tmp_path)) in out
    assert "of first" in out
    assert "https://ui.perfetto.dev" in out

    summaries = [json.loads((tmp_path / folder / "summary.json").read_text()) for folder in ("plain", "traced")]
    hashes = [[run["parameters_hash"] for run in runs] + [run["causal_hash"] for run in runs] for runs in summaries]
    assert hashes[0] == hashes[1]
    assert hashes[0][0] != hashes[0][1]


def test_a_profile_of_nothing_says_so(tardigrad: Any, small: Any):
    code, _, _ = tardigrad("run", "experiment.yaml", "--out", "done", experiment=small)
    assert code == 0
    code, out, err = tardigrad("run", "experiment.yaml", "--out", "done", "--resume", "--profile")
    assert (code, err) == (0, "")
    assert "no profile: nothing was left to simulate" in out
