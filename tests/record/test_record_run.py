import json
import math
import os
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from simulator.record import ROUND_COLUMNS, SUMMARY_KEYS, RecordError, RunRecord, read_results, write_summary
from simulator.report import read_runs
from tests.record.builders import build_record

FILES = [
    "checksums.json",
    "evaluations.parquet",
    "events.parquet",
    "experiment.yaml",
    "faults.parquet",
    "summary.json",
    "transfers.parquet",
    "updates.parquet",
]


def _replaced(record, **changes):
    parts = {name: getattr(record, name) for name in ("experiment", "summary", "rounds", "evaluations")}
    return RunRecord(**parts | changes)


@pytest.mark.parametrize("trainer", ["batched", "null"])
def test_round_trip_is_exact(tmp_path, trainer):
    record = build_record(trainer=trainer)
    record.write(tmp_path / "made" / "run")
    back = RunRecord.read(tmp_path / "made" / "run")
    assert back.experiment == record.experiment
    assert back.experiment["cluster"]["network"]["bandwidth"] == math.inf
    assert back.summary == record.summary
    pd.testing.assert_frame_equal(back.rounds, record.rounds, check_exact=True, check_categorical=True)
    pd.testing.assert_frame_equal(back.evaluations, record.evaluations, check_exact=True)
    assert back.rounds["train_loss"].isna().all() == (trainer == "null")
    assert sorted(os.listdir(tmp_path / "made" / "run")) == FILES


def test_files_open_with_one_call_of_other_tools(tmp_path):
    record = build_record()
    record.write(tmp_path)
    assert list(pd.read_parquet(tmp_path / "events.parquet").columns) == list(ROUND_COLUMNS)
    assert yaml.safe_load((tmp_path / "experiment.yaml").read_text()) == record.experiment
    assert json.loads((tmp_path / "summary.json").read_text()) == record.summary


def test_further_columns_and_keys_are_kept(tmp_path):
    record = build_record()
    rounds = record.rounds.assign(retries=1)
    _replaced(record, rounds=rounds, summary=record.summary | {"note": "fast"}).write(tmp_path)
    back = RunRecord.read(tmp_path)
    assert back.rounds["retries"].eq(1).all()
    assert back.summary["note"] == "fast"


def test_train_loss_of_evaluations_is_optional(tmp_path):
    record = build_record()
    _replaced(record, evaluations=record.evaluations.drop(columns="train_loss")).write(tmp_path)
    assert "train_loss" not in RunRecord.read(tmp_path).evaluations


def test_tables_are_brought_into_their_dtypes():
    record = build_record()
    rounds = record.rounds.astype({"worker": "int32", "outcome": "str", "ready_s": "float32"})
    conformed = _replaced(record, rounds=rounds[rounds.columns[::-1]][3:]).rounds
    assert conformed.dtypes.equals(record.rounds.dtypes)
    assert conformed.index.equals(pd.RangeIndex(len(rounds) - 3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda r: {"rounds": r.rounds.drop(columns="arrival_s")},
            r"^rounds: missing columns arrival_s; it has round,",
        ),
        (lambda r: {"evaluations": r.evaluations[[]]}, r"^evaluations: missing columns simulated_s, .*; it has none"),
        (lambda r: {"rounds": r.rounds.astype({"worker": float})}, r"column 'worker' has dtype float64.*kind integer"),
        (lambda r: {"rounds": r.rounds.astype({"ready_s": str})}, r"'ready_s' has dtype (str|object).*kind real"),
        (lambda r: {"rounds": r.rounds.assign(outcome="lost")}, r"'outcome' holds 'lost'.*applied, buffered, dropped"),
        (lambda r: {"rounds": r.rounds.assign(outcome=1)}, r"'outcome' has dtype int64.*kind outcome"),
        (lambda r: {"summary": {}}, r"^summary: missing keys variant, seed,"),
        (lambda r: {"summary": [1]}, r"^summary: holds a list, but one mapping"),
        (lambda r: {"experiment": {"name": "x"}}, r"^experiment: missing keys variant, seed"),
    ],
)
def test_an_incomplete_record_cannot_be_made(change, message):
    record = build_record()
    with pytest.raises(RecordError, match=message):
        _replaced(record, **change(record))


@pytest.mark.parametrize(
    ("experiment", "message"),
    [
        ({"cluster": {"devices": [1, {2.0}]}}, r"experiment.yaml.cluster.devices\[1\]: \{2.0\} is of type set"),
        ({"cluster": {3: 4}}, r"experiment.yaml.cluster: key 3 is of type int"),
    ],
)
def test_what_a_file_cannot_hold_is_named(tmp_path, experiment, message):
    record = build_record()
    with pytest.raises(RecordError, match=message):
        _replaced(record, experiment=record.experiment | experiment).write(tmp_path)
    assert os.listdir(tmp_path) == []


def test_tuples_and_numpy_scalars_become_plain(tmp_path):
    record = build_record()
    summary = record.summary | {"final_loss": np.float64(1.5), "seed": np.int64(3), "best_loss": math.nan}
    _replaced(record, experiment=record.experiment | {"steps": (1, 2)}, summary=summary).write(tmp_path)
    back = RunRecord.read(tmp_path)
    assert back.experiment["steps"] == [1, 2]
    assert (back.summary["final_loss"], back.summary["seed"], back.summary["best_loss"]) == (1.5, 3, None)


@pytest.mark.parametrize("name", FILES[1:])
def test_a_missing_file_is_named(tmp_path, name):
    build_record().write(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(RecordError, match=rf"{tmp_path}/{name}: no such file, so the run did not finish"):
        read_runs([tmp_path])


@pytest.mark.parametrize("name", FILES)
def test_an_unreadable_file_is_named(tmp_path, name):
    build_record().write(tmp_path)
    (tmp_path / "checksums.json").unlink()
    (tmp_path / name).write_bytes(b"{[ \xff")
    with pytest.raises(RecordError, match=rf"{tmp_path}/{name}: cannot be read: "):
        read_runs([tmp_path])


def test_missing_contents_of_a_file_are_named(tmp_path):
    record = build_record()
    record.write(tmp_path)
    (tmp_path / "checksums.json").unlink()
    record.rounds.drop(columns="version").to_parquet(tmp_path / "events.parquet")
    with pytest.raises(RecordError, match=rf"{tmp_path}/events.parquet: missing columns version; it has"):
        RunRecord.read(tmp_path)
    (tmp_path / "summary.json").write_text("[]")
    with pytest.raises(RecordError, match=rf"{tmp_path}/summary.json: holds a list"):
        RunRecord.read(tmp_path)
    (tmp_path / "experiment.yaml").write_text("name: x\nseed: 0\n")
    with pytest.raises(RecordError, match=rf"{tmp_path}/experiment.yaml: missing keys variant"):
        RunRecord.read(tmp_path)


def test_runs_are_found_at_any_depth_once_and_in_natural_order(tmp_path):
    for name in ("run-10", "run-2", "deeper/still/run-1"):
        build_record(name).write(tmp_path / name)
    write_summary(tmp_path / "summary.json", [])
    (tmp_path / "figures").mkdir()
    found = [record.summary["variant"] for record in read_runs([tmp_path, tmp_path / "run-2"])]
    assert found == ["deeper/still/run-1", "run-2", "run-10"]
    ordered = read_runs([tmp_path / "run-10", tmp_path / "deeper"])
    assert [record.summary["variant"] for record in ordered] == ["run-10", "deeper/still/run-1"]


def test_paths_without_runs_are_named(tmp_path):
    with pytest.raises(RecordError, match=rf"{tmp_path}: no run found in it or below.*events.parquet"):
        read_runs([tmp_path])
    with pytest.raises(RecordError, match=rf"{tmp_path}/nowhere: no such folder.*--out"):
        read_runs([tmp_path / "nowhere"])
    with pytest.raises(RecordError, match="no folder given"):
        read_runs([])


def test_an_interrupted_record_leaves_all_of_the_old_one(tmp_path, monkeypatch):
    old, new = build_record("old"), build_record("new", local_steps=1000)
    old.write(tmp_path)

    def interrupted(self, path, **_):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_parquet", interrupted)
        with pytest.raises(KeyboardInterrupt):
            new.write(tmp_path)
    assert sorted(os.listdir(tmp_path)) == FILES
    back = RunRecord.read(tmp_path)
    assert back.experiment["variant"] == back.summary["variant"] == "old"
    assert len(back.rounds) == len(old.rounds) != len(new.rounds)
    new.write(tmp_path)
    assert RunRecord.read(tmp_path).summary["variant"] == "new"


def test_a_record_that_is_not_as_it_was_written_is_refused(tmp_path):
    record = build_record()
    record.write(tmp_path)
    random, refused = np.random.default_rng(0), []
    for number in range(60):
        file = tmp_path / FILES[number % len(FILES)]
        content = file.read_bytes()
        changed = bytearray(content)
        place = int(random.integers(len(content)))
        changed[place] ^= 1 + int(random.integers(255))
        file.write_bytes(changed)
        try:
            back = RunRecord.read(tmp_path)
        except RecordError as error:
            refused.append(str(error).startswith(f"{tmp_path}/"))
        else:  # white space between checksums
            assert file.name == "checksums.json"
            assert back.summary == record.summary
        file.write_bytes(content)
    assert all(refused)
    assert len(refused) > 50
    assert RunRecord.read(tmp_path).summary == record.summary


def test_the_summary_comes_last(tmp_path, monkeypatch):
    order = []
    rename = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, target: (order.append(target.name), rename(self, target)))
    build_record().write(tmp_path)
    assert sorted(order) == FILES
    assert order[-1] == "summary.json"


def test_files_have_the_permissions_of_ordinary_ones(tmp_path):
    (tmp_path / "ordinary").touch()
    write_summary(tmp_path / "summary.json", [])
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ordinary", "summary.json")}
    assert len(modes) == 1


def test_summary_file_is_valid_json(tmp_path):
    path = tmp_path / "made" / "summary.json"
    write_summary(path, [{"loss": math.nan, "inner": {"more": [math.inf, 1.5]}, "name": "größer"}, {}])
    text = path.read_text(encoding="utf-8")
    refuse = pytest.fail
    assert json.loads(text, parse_constant=refuse) == [
        {"loss": None, "inner": {"more": [None, 1.5]}, "name": "größer"},
        {},
    ]
    assert "größer" in text
    with pytest.raises(RecordError, match=r"summary.json\[0\].x: .* is of type object"):
        write_summary(path, [{"x": object()}])
    assert path.read_text(encoding="utf-8") == text


def test_summary_of_the_builder_is_complete():
    assert set(build_record().summary) == set(SUMMARY_KEYS)


def test_results_have_their_experiments_where_run_folders_are_beside_them(tmp_path):
    records = [build_record(name, local_steps=200) for name in "ab"]
    for number, record in enumerate(records):
        record.write(tmp_path / f"runs/{number}")
    write_summary(tmp_path / "runs/summary.json", [record.summary for record in records])
    for given in (tmp_path / "runs", tmp_path / "runs/summary.json", str(tmp_path / "runs")):
        found = read_results(given)
        assert [result.experiment["variant"] for result in found] == ["a", "b"]
        assert [result.experiment["name"] for result in found] == ["quickstart"] * 2
    (tmp_path / "alone.json").write_bytes((tmp_path / "runs/summary.json").read_bytes())
    alone = read_results([tmp_path / "alone.json", tmp_path / "runs/1"])
    assert [result.experiment["name"] for result in alone] == ["", "", "quickstart"]
    assert [result.summary["variant"] for result in alone] == ["a", "b", "b"]
    with pytest.raises(RecordError, match=r"summary\.json: cannot be read"):
        read_results(tmp_path)
