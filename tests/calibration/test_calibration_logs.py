"""Logs of a real training, and records of ours: what is read of them, and what is wrong with them."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from simulator import Cache, load, simulate
from simulator.calibration import calibrate, fragment, observe, step_trace
from simulator.cli.main import app
from simulator.experiment.schema.cluster import Cluster
from simulator.record import RecordError
from tests.calibration.worlds import log_of
from tests.experiments import TINY, tiny

ROOT = Path(__file__).parents[2]
CACHE = Cache()


def test_rounds_with_dates_are_read(tmp_path: Path):
    found = observe([ROOT / "experiments/measured/log.csv"])
    assert found.workers == ("node-a", "node-b")
    assert found.rounds["seconds"].round(3).tolist() == [4.1, 3.9, 4.2, 3.9, 8.1, 7.8, 8.3, 7.9]
    assert found.rounds["start_s"].diff().round(3).tolist()[1:4] == [4.6, 4.4, 4.7]
    assert set(found.rounds["steps"]) == {8}
    text = fragment(calibrate(found))
    assert "# Workers, from 0: node-a, node-b." in text
    [fast, slow] = yaml.safe_load(text)["cluster"]["devices"]["seconds_per_step"]
    assert (fast, slow) == (pytest.approx(0.5, rel=0.02), pytest.approx(1.0, rel=0.02))


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_single_steps_are_taken_together(tmp_path: Path, ending: str):
    table = pd.DataFrame({"worker": [1, 0] * 5, "step": range(10), "seconds": [2.0, 1.0] * 5, "node": "x"})
    path = tmp_path / f"log.{ending}"
    {"csv": table.to_csv, "parquet": table.to_parquet, "jsonl": table.to_json}[ending](
        path, **({"orient": "records", "lines": True} if ending == "jsonl" else {"index": False})
    )
    single, pairs = observe([path]), observe([path], local_steps=2)
    assert single.rounds["seconds"].tolist() == [1.0] * 5 + [2.0] * 5
    assert pairs.rounds[["worker", "seconds", "steps"]].to_numpy().tolist() == [[0, 2, 2]] * 2 + [[1, 4, 2]] * 2
    assert pairs.rounds["start_s"].tolist() == [0, 2, 0, 4]
    assert single.notes == (f"{path}: column 'node' is not used",)
    assert pairs.notes[1:] == (f"{path}: 2 steps at the end are no whole round",)


def test_steps_of_a_round_are_taken_together(tmp_path: Path):
    rows = [("a", number // 3, number, number, number + 0.5) for number in range(6)]
    found = observe([log_of(tmp_path, rows, "worker,round,step,start,end")])
    assert found.rounds[["start_s", "end_s", "seconds", "steps"]].to_numpy().tolist() == [
        [0, 2.5, 1.5, 3],
        [3, 5.5, 1.5, 3],
    ]


def test_rounds_need_their_steps(tmp_path: Path):
    path = log_of(tmp_path, [("a", 0, 7.0)], "worker,round,seconds")
    with pytest.raises(RecordError, match="has rounds and no column 'steps': add it, or give --local-steps"):
        observe([path])
    assert observe([path], local_steps=7).rounds["steps"].tolist() == [7]


def test_transfers_are_read_beside_rounds(tmp_path: Path):
    steps = log_of(tmp_path, [("a", 1.0)] * 3, "worker,seconds", "steps.csv")
    rows = [("a", "up", 1000 * size, 0, 0.1 + size / 1000) for size in (1, 2, 3)]
    found = observe([steps, log_of(tmp_path, rows, "worker,direction,bytes,start,end")])
    written = yaml.safe_load(fragment(calibrate(found)))["cluster"]
    assert written["network"] == {"up": {"latency": "0.1s", "bandwidth": "8.0Mbit/s"}}
    assert written["devices"] == {"seconds_per_step": 1.0, "workers": 1}
    alone = calibrate(observe([log_of(tmp_path, rows, "worker,direction,bytes,start,end")]))
    assert set(yaml.safe_load(fragment(alone))["cluster"]) == {"network"}


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ([("a", 1)], "wroker,seconds", r"has no column 'worker'; it has wroker, seconds \(did you mean 'wroker'\?\)"),
        ([("a", 1)], "worker,start", "has no column 'end'; it has worker, start"),
        ([], "worker,seconds", "has no rows"),
        ([("a", 1), ("a", "soon")], "worker,seconds", "row 1: seconds = 'soon': expected a number, 0 or more"),
        ([("a", 3, 2)], "worker,start,end", "row 0: end = 2: must be after its start"),
        ([("a", "noon", "later")], "worker,start,end", "column 'start' is neither seconds nor dates with times"),
        ([("a", 0, 1)], "worker,steps,seconds", "row 0: steps = 0: expected a number, 1 or more"),
        ([("a", "in", 5, 1)], "worker,direction,bytes,seconds", "row 0: direction = 'in': expected up or down"),
        ([("a", "up", 0, 1)], "worker,direction,bytes,seconds", "row 0: bytes = 0: expected a number, 1 or more"),
        ([("a", 5, 1)], "worker,bytes,seconds", "has no column 'direction'"),
    ],
)
def test_a_wrong_log_is_told_with_file_row_and_column(
    tmp_path: Path, rows: list[tuple[Any, ...]], columns: str, message: str
):
    with pytest.raises(RecordError, match=message) as caught:
        observe([log_of(tmp_path, rows, columns)])
    assert str(caught.value).startswith(str(tmp_path))


def test_a_file_of_another_kind_is_refused(tmp_path: Path):
    with pytest.raises(
        RecordError, match=r"expected the folder of a run, or a log that ends in .csv, .parquet, .jsonl"
    ):
        observe([log_of(tmp_path, [], "", "log.txt")])
    (tmp_path / "log.parquet").write_bytes(b"PAR1")
    with pytest.raises(RecordError, match="cannot be read"):
        observe([tmp_path / "log.parquet"])


def test_a_worker_without_rounds_is_told(tmp_path: Path):
    steps = log_of(tmp_path, [("a", 1.0)], "worker,seconds", "steps.csv")
    sent = log_of(tmp_path, [("b", "up", 5, 1)], "worker,direction,bytes,seconds")
    with pytest.raises(RecordError, match="worker b has transfers and no rounds: also give the log of its steps"):
        observe([steps, sent])


NETWORK = {"latency": "120ms", "bandwidth": ["80kbit/s", "200kbit/s", "80kbit/s", "80kbit/s"]}
SLOW = {"slowdowns": {"time_between": "100s", "duration": {"kind": "constant", "value": "60s"}, "factor": 3}}


def test_records_of_ours_give_their_cluster_back(tmp_path: Path):
    """Two runs with messages of two sizes, without jitter: exact, but for the lengths of slow-downs."""
    for size in ("2kB", "9kB"):
        cluster = {"network": NETWORK | {"message_size": size}, "faults": SLOW}
        experiment = tiny(cluster=cluster, budget={"local_steps": 4000}, evaluate={"every_local_steps": 1000})
        simulate(experiment, trainer="null", cache=CACHE).write(tmp_path / size)
    found = calibrate(observe([tmp_path]))
    assert found.jitter == 0
    written = Cluster.model_validate(yaml.safe_load(fragment(found))["cluster"])
    assert list(written.devices.seconds_per_step) == TINY["cluster"]["devices"]["seconds_per_step"]  # type: ignore[union-attr]
    for which in ("down", "up"):
        link = written.network.direction(which)  # type: ignore[arg-type]
        assert link.latency == pytest.approx(0.12)
        assert link.bandwidth == pytest.approx([1e4, 2.5e4, 1e4, 1e4])
    slow = written.faults and written.faults.slowdowns
    assert slow is not None
    assert slow.factor == pytest.approx(3, rel=1e-3)
    assert slow.duration == pytest.approx(60, rel=0.1)


def test_a_run_that_is_replayed_has_the_times_of_the_run(tmp_path: Path):
    """Each round begins with the step time that it had; of the rounds under way at the end none is known."""
    slow = {"slowdowns": {"time_between": "20s", "duration": "10s", "factor": 3}}
    random = tiny(cluster={"devices": {"jitter": 0.3}, "network": {"latency": "50ms"}, "faults": slow})
    measured = simulate(random, trainer="null", cache=CACHE)
    measured.write(tmp_path / "run")
    command(["calibrate", str(tmp_path / "run"), "--trace", str(tmp_path / "steps.csv")])
    replayed = simulate(
        tiny(cluster={"devices": {"trace": str(tmp_path / "steps.csv")}, "network": {"latency": "50ms"}}),
        trainer="null",
        cache=CACHE,
    )
    known = replayed.rounds["round"].isin(measured.rounds["round"]).to_numpy()
    count = len(known) if known.all() else int(known.argmin())
    one, other = (record.rounds[:count] for record in (measured, replayed))
    assert count >= 25
    assert one[["round", "worker", "version"]].equals(other[["round", "worker", "version"]])
    times = ["compute_start_s", "push_start_s", "arrival_s", "update_s"]
    assert (one[times] - other[times]).abs().to_numpy().max() < 1e-5  # steps have nine digits


def test_a_trace_is_of_one_log(tmp_path: Path):
    one, other = (log_of(tmp_path, [("a", 1.0)], "worker,seconds", f"{name}.csv") for name in "ab")
    with pytest.raises(RecordError, match="a trace is of one run or log, and there are several runs or logs"):
        step_trace(observe([one, other]))
    assert step_trace(observe([one])) == "time,worker,seconds_per_step\n0.000000000,0,1\n"


def test_a_written_cluster_is_extended(tmp_path: Path):
    out = tmp_path / "cluster.yaml"
    command(["calibrate", str(ROOT / "experiments/measured/log.csv"), "-o", str(out)])
    file = tmp_path / "file.yaml"
    file.write_text(yaml.safe_dump({key: TINY[key] for key in TINY if key != "cluster"} | {"extends": "cluster.yaml"}))
    [point] = load(file)
    assert point.experiment.cluster.workers == 2


def command(arguments: list[str]) -> None:
    app(arguments, standalone_mode=False)


def test_the_command_prints_a_table_and_replaces_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    log, out = str(ROOT / "experiments/measured/log.csv"), tmp_path / "cluster.yaml"
    command(["calibrate", log, "-o", str(out)])
    printed = capsys.readouterr().out
    assert "s/step" in printed
    assert "node-b" in printed
    assert f"{out}: a cluster section, which an experiment file can extend (extends: cluster.yaml)" in printed
    first = out.read_text()
    with pytest.raises(SystemExit) as ended:
        command(["calibrate", log, "--out", str(out)])
    assert ended.value.code == 2
    assert "is there already: give another name, or --force to replace it" in capsys.readouterr().err
    command(["calibrate", log, "-o", str(out), "--force", "--by", "worker"])
    assert out.read_text() == first  # unlike workers have lists anyway
