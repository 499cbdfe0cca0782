"""Files that cannot be written, or are not what they should be: the error names them."""

import errno
import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from simulator.experiment import Point
from simulator.progress.trackers import TensorBoard
from simulator.record import Checkpoint, Checkpoints, RecordError, RunRecord, read_json, read_summaries
from simulator.record.json_files import write_summary
from simulator.report import save_table, write_trace
from simulator.report.page import write_report
from simulator.sweep.executors.ray_node import FileReceiver
from simulator.sweep.outcomes import Failure
from simulator.sweep.plan import PlannedRun, write_sweep
from simulator.sweep.progress import ProgressFile
from tests.experiments import tiny
from tests.record.builders import build_record

RUN = PlannedRun(0, "run", "run", {}, {})


@pytest.fixture
def no_room() -> Iterator[None]:
    """No file can get longer: what the operating system says of it is the same kind of error as a full disk's."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def log_much(folder: Path) -> None:
    log = TensorBoard(folder).open_log("run", Point("x", {}, tiny()))
    log.close(build_record())


WRITERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a record": (lambda folder: build_record().write(folder), "experiment.yaml"),
    "a summary": (lambda folder: write_summary(folder / "summary.json", [build_record().summary]), "summary.json"),
    "a sweep": (lambda folder: write_sweep(folder, "x", [RUN]), "sweep.json"),
    "a failure": (lambda folder: Failure(RUN, "x", "y").write(folder), "run/error.json"),
    "a table": (lambda folder: save_table(pd.DataFrame({"a": [1]}), folder / "t.parquet"), "t.parquet"),
    "a report": (lambda folder: write_report([build_record()], folder / "report.html"), "report.html"),
    "a trace": (lambda folder: write_trace([build_record()], folder / "trace.json.gz"), "trace.json.gz"),
    "a log": (log_much, "run"),
    "a piece": (lambda folder: FileReceiver(folder, 1).add("1/f", b"x"), ".incoming/1/f"),
    "progress": (ProgressFile, "progress.json"),
}


@pytest.mark.parametrize("what", WRITERS)
def test_what_cannot_be_written_is_named(tmp_path: Path, no_room: None, what: str):
    write, name = WRITERS[what]
    with pytest.raises(OSError) as refused:  # noqa: PT011
        write(tmp_path)
    assert refused.value.errno == errno.EFBIG
    assert Path(refused.value.filename) == tmp_path / name


def test_every_file_of_a_record_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "Error writing bytes to file")

    with monkeypatch.context() as patched:
        patched.setattr(pd.DataFrame, "to_parquet", full)
        with pytest.raises(OSError, match=f"'{tmp_path}/events.parquet'"):
            build_record().write(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_for_which_there_is_no_room_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1, warn=lambda _: None)
    checkpoint = Checkpoint(1, {"a": np.ones(10)}, {})
    free = shutil.disk_usage(tmp_path)._replace(free=2**20 + 79)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(OSError, match="No space left on device") as full:
        checkpoints.save(checkpoint)
    assert full.value.filename == str(tmp_path / "checkpoints")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free._replace(free=2**20 + 80))
    checkpoints.save(checkpoint)
    assert checkpoints.latest() is not None


def test_a_name_that_is_too_long_is_named(tmp_path: Path):
    path = tmp_path / ("x" * 300)
    with pytest.raises(OSError, match="File name too long") as refused:
        write_summary(path / "summary.json", [])
    assert refused.value.filename.startswith(str(path))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot be read: Expecting value"),
        (b'{"a": [1', "cannot be read: Expecting ',' delimiter"),
        (b"\xff\xfe", "cannot be read: 'utf-8' codec"),
        (b"[" * 100_000, "cannot be read: maximum recursion depth"),
        (b"3", "Input should be a valid dictionary"),
        (b'{"a": 1}', "a is 1: Input should be a valid list"),
        (b'{"a": ["x"]}', r"a\.0 is 'x': Input should be a valid integer"),
        (b'{"a": ["7"]}', r"a\.0 is '7': Input should be a valid integer"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_named_with_the_remedy(tmp_path: Path, content: bytes, reason: str):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=rf"^{path}: {reason}.*\. Remove it$"):
        read_json(path, dict[str, list[int]], "Remove it")
    path.unlink()
    path.mkdir()
    with pytest.raises(RecordError, match=rf"^{path}: cannot be read: Is a directory\. Remove it$"):
        read_json(path, dict[str, list[int]], "Remove it")
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "absent.json", dict[str, list[int]], "Remove it")


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("summary.json", {"local_steps": "many"}, "local_steps is 'many': Input should be a valid integer"),
        ("summary.json", {"overrides": [1]}, r"overrides is \[1\]: Input should be a valid dictionary"),
        ("summary.json", {"variant": None}, "variant is None: Input should be a valid string"),
        ("summary.json", {"reused": {"from": "x"}}, r"reused\.local_steps is .*: Field required"),
        ("summary.json", {"lost_steps": 1.5}, "lost_steps is 1.5: Input should be a valid integer"),
        ("experiment.yaml", {"name": 7}, "name is 7: Input should be a valid string"),
        ("experiment.yaml", {"cluster": "fast"}, "cluster is 'fast': Input should be a valid dictionary"),
        ("experiment.yaml", {"cluster": {"devices": {"price_per_hour": "dear"}}}, r"cluster\.devices\.price_per_hour"),
    ],
)
def test_values_of_another_kind_are_named(tmp_path: Path, file: str, change: dict[str, Any], message: str):
    record = build_record()
    record.write(tmp_path)
    (tmp_path / "checksums.json").unlink()
    known = {"summary.json": record.summary, "experiment.yaml": record.experiment}[file]
    (tmp_path / file).write_text(json.dumps(known | change))
    with pytest.raises(RecordError, match=rf"^{tmp_path / file}: {message}.*\. Remove the run's folder and simulate"):
        RunRecord.read(tmp_path)
    if file == "summary.json":
        with pytest.raises(RecordError, match=rf"^{tmp_path / file}: {message}.*\. Give a folder of results$"):
            read_summaries([tmp_path])


def test_a_record_in_a_folder_whose_name_is_no_text_can_be_read(tmp_path: Path):
    build_record().write(tmp_path / "run")
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    (tmp_path / "run").rename(odd)
    assert RunRecord.read(odd).summary["variant"] == "async Nesterov"
