"""Measured traces of step times and link rates: files, rows, and what is wrong with them."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml
from experiment_files import SMALL, experiment, mistakes, tree

from simulator.experiment import Experiment, ExperimentError, load
from simulator.experiment.schema.devices import TracedDevices
from simulator.experiment.settings_without_effect import notes

STEPS = """# measured in May
time, worker, seconds_per_step
0, 0, 500ms
2min, 0, 1.25
0, 1, 2
"""
LINKS = """time,worker,direction,rate
0,0,up,10Mbit/s
0,0,down,1e8
1h,0,,unlimited
"""
ROWS = [[0.0, 0, 0.5], [120.0, 0, 1.25], [0.0, 1, 2.0]]


def file_of(folder: Path, section: str, content: str | bytes | None, name: str = "t.csv") -> Path:
    if content is not None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    traced = {"devices": {"trace": name}} if section == "devices" else {"network": {"trace": name}}
    path = folder / "file.yaml"
    cluster = {"devices": {"seconds_per_step": [1, 2]}} | traced
    path.write_text(yaml.safe_dump(yaml.safe_load(SMALL) | {"cluster": cluster}))
    return path


def said(folder: Path, section: str, content: str | bytes | None, name: str = "t.csv") -> str:
    path = file_of(folder, section, content, name)
    with pytest.raises(ExperimentError) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert (problem.key, problem.value) == (f"cluster.{section}.trace", f"{folder}/{name}")
    return problem.message.replace(f"{folder}/", "")


def test_step_times_are_read_and_a_record_holds_their_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = file_of(tmp_path, "devices", STEPS)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    [point] = load(path)
    devices = point.experiment.cluster.devices
    assert isinstance(devices, TracedDevices)
    assert [list(row) for row in devices.trace] == ROWS
    assert devices.count == 2
    (tmp_path / "t.csv").unlink()
    written = json.loads(json.dumps(point.experiment.model_dump(mode="json")))
    assert written["cluster"]["devices"]["trace"] == ROWS
    assert Experiment.model_validate(written) == point.experiment


def test_rates_have_units_and_a_plain_number_is_in_bits(tmp_path: Path):
    rates = LINKS.replace("unlimited", "3MB/s")
    [point] = load(file_of(tmp_path, "network", rates))
    trace = point.experiment.cluster.network.trace
    assert [tuple(row) for row in trace or ()] == [
        (0, 0, 1.25e6, "up"),
        (0, 0, 12.5e6, "down"),
        (3600, 0, 3e6, "both"),
    ]
    written = json.loads(json.dumps(point.experiment.model_dump(mode="json")))
    assert written["cluster"]["network"]["trace"][1] == [0.0, 0, "12500000.0 B/s", "down"]
    assert Experiment.model_validate(written) == point.experiment
    assert Experiment.model_validate({**written, "cluster": point.experiment.cluster}) == point.experiment
    section = {"network": {"trace": trace}}
    assert experiment(cluster=section).cluster.network.trace == trace  # rows that were read are taken as they are


def test_a_parquet_file_says_the_same(tmp_path: Path):
    table = pa.table({"worker": [0, 0, 1], "time": [0, 120, 0], "seconds_per_step": [0.5, 1.25, 2]})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    [point] = load(file_of(tmp_path, "devices", None, "t.parquet"))
    assert point.experiment.cluster == experiment(cluster__devices={"trace": ROWS}).cluster
    links = pa.table({"worker": [0], "time": [0.5], "rate": [8000]})
    pyarrow.parquet.write_table(links, tmp_path / "l.parquet")
    [point] = load(file_of(tmp_path, "network", None, "l.parquet"))
    assert point.experiment.cluster.network.trace == ((0.5, 0, 1000.0, "both"),)


@pytest.mark.parametrize(
    ("section", "content", "message"),
    [
        ("devices", None, "the trace cannot be read: No such file"),
        ("devices", "time,wroker,seconds_per_step\n", "t.csv:1: no column is called 'wroker'; did you mean 'worker'?"),
        (
            "devices",
            "time,worker\n",
            "t.csv:1: has no column 'seconds_per_step'; it needs time, worker, seconds_per_step, and has time, worker",
        ),
        ("devices", "", "t.csv: has no column 'time'; it needs time, worker, seconds_per_step, and has none"),
        ("devices", "time,worker,seconds_per_step\n", "has no rows: write one with time, worker, seconds_per_step"),
        (
            "devices",
            "time,worker,seconds_per_step,worker\n",
            "t.csv:1: a column is there twice; it needs time, worker, seconds_per_step",
        ),
        ("devices", STEPS + "0,1\n", "t.csv:6: expected time, worker, seconds_per_step, not ['0', '1']"),
        ("devices", STEPS + "3,1,fast\n", "t.csv:6: seconds_per_step = 'fast': not a duration: write a number and a"),
        ("devices", STEPS + "3,1,\n", "t.csv:6: seconds_per_step = '': expected a duration such as 50ms"),
        ("devices", STEPS + "3,1,0\n", "t.csv:6: seconds_per_step = '0': input should be greater than 0"),
        ("devices", STEPS + "3,-1,1\n", "t.csv:6: worker = '-1': input should be greater than or equal to 0"),
        (
            "devices",
            STEPS + "60,0,1\n",
            "t.csv:6: time = 60 s is not after worker 0's row above it, 120 s: sort its rows by time",
        ),
        ("devices", STEPS + "0,3,1\n", "has no row of worker 2, and one of worker 3: give each a row, from 0 on"),
        ("devices", b"time\xff", "the trace is not UTF-8 text"),
        ("network", LINKS, "t.csv:4: rate = 'unlimited': input should be a finite number"),
        ("network", LINKS + "2h,0,up,1Gbit\n", "t.csv:4: rate = 'unlimited'"),
        ("network", "time,worker,rate\n0,0,0\n", "t.csv:2: rate = '0': a link that is down has no rate: write disconn"),
        ("network", "time,worker,rate\n0,0,5 pints\n", "t.csv:2: rate = '5 pints': 'pints' is not a unit of bandwidth"),
        (
            "network",
            "time,worker,rate,direction\n0,0,1,sideways\n",
            "t.csv:2: direction = 'sideways': input should be 'down', 'up' or 'both'",
        ),
        (
            "network",
            "time,worker,rate,direction\n0,0,1,\n0,0,1,up\n",
            "t.csv:3: time = 0 s is not after worker 0's row above it, 0 s: sort its rows by time",
        ),
        ("network", "time,worker,rate\n0,2,1\n", "names worker 2, but the ids are 0 to 1"),
    ],
)
def test_a_wrong_trace_is_told_with_file_row_and_column(tmp_path: Path, section: str, content: Any, message: str):
    found = said(tmp_path, section, content)
    assert found.startswith(message)


def test_a_file_that_is_no_parquet_file(tmp_path: Path):
    assert said(tmp_path, "network", b"PAR1", "t.parquet").startswith("t.parquet: not a Parquet file: ")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"devices": {"trace": ROWS, "repeat_every": "2min"}},
            [("cluster.devices.repeat_every", "must be above the times of all rows, and there is one at 120 s")],
        ),
        ({"devices": {"trace": ROWS, "repeat_every": "121s"}}, []),
        (
            {"network": {"repeat_every": 1}},
            [("cluster.network.repeat_every", "is of a trace, and there is none: leave it out")],
        ),
        (
            {"network": {"trace": [[0, 1, 5]], "server_link": {"bandwidth": "1Gbit/s"}}},
            [("cluster.network.trace", "beside server_link is not built: leave out one of them")],
        ),
        (
            {"devices": {"trace": 7}},
            [
                (
                    "cluster.devices.trace",
                    "expected the path of a CSV or Parquet file with columns time, worker, seconds_per_step, "
                    "or its rows",
                )
            ],
        ),
        (
            {"devices": {"trace": [[0, 1]]}},
            [("cluster.devices.trace", "row 0: expected time, worker, seconds_per_step, not [0, 1]")],
        ),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], expected: list[tuple[str, str]]):
    assert mistakes(tree(cluster=settings)) == expected


def test_pipelines_are_not_measured():
    stages = {"kind": "gpipe", "count": 1, "micro_batches": 2}
    wrong = mistakes(tree(cluster__devices={"trace": ROWS}, inner__stages=stages))
    assert wrong == [("cluster.devices.trace", "beside inner.stages is not built: leave out one of them")]


def test_another_form_of_devices_replaces_a_trace():
    traced = tree(cluster__devices={"trace": ROWS})
    assert "trace" not in tree(**{"cluster__devices": {"profile": "very"}})["cluster"]["devices"]
    assert mistakes(traced) == []
    assert set(traced["cluster"]["devices"]) == {"trace"}


def test_bandwidths_that_a_trace_replaces_are_told():
    def told(**network: Any) -> list[str]:
        return [note.split(" = ")[0] for note in notes(experiment(cluster__network=network))]

    both, up = [[0, 0, 1e6], [0, 1, 1e6]], [[0, 0, 1e6, "up"], [0, 1, 1e6, "up"]]
    assert told(trace=both, bandwidth="1Gbit/s") == ["cluster.network.bandwidth"]
    assert told(trace=both[:1], bandwidth="1Gbit/s") == []
    assert told(trace=up, bandwidth="1Gbit/s") == []
    assert told(trace=up, bandwidth="1Gbit/s", up={"bandwidth": "2Gbit/s"}) == ["cluster.network.up.bandwidth"]
    assert told(trace=up, efficiency=0.5) == []
