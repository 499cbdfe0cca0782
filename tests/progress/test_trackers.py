"""News that trackers are told, live and at the end; and what TensorBoard and wandb make of it."""

import json
import math
import time

import pytest
import yaml

from simulator import Cache, ExperimentError, Point, Progress, TensorBoard, WeightsAndBiases, simulate, simulate_all
from simulator.host.signals import Stopped
from simulator.progress.trackers import TrackingObserver, track, tracker
from tests.experiments import TINY, tiny

pytestmark = pytest.mark.usefixtures("mixed_dtypes")

CACHE = Cache()
SHORT = {
    "budget": {"local_steps": 60},
    "evaluate": {"every_local_steps": 20, "per_shard": True},
    "compute": {"lanes": 1},
}
BUFFERED = {"outer": {"arrivals_per_update": 3, "staleness": {"kind": "threshold", "drop_above": 1}}}


class Log:
    """Keeps what it is told."""

    def __init__(self):
        self.lines, self.ended, self.again = [], [], 0

    def write(self, group, values, at):
        assert all(type(value) is float and math.isfinite(value) for value in values.values())
        self.lines += [(f"{group}/{name}", *at, value) for name, value in values.items()]

    def restart(self):
        self.again += 1
        self.lines.clear()

    def close(self, record):
        self.ended.append(record)

    def of(self, name):
        return [line[1:] for line in self.lines if line[0] == name]


def tracked(experiment, **kwargs):
    log = Log()
    with TrackingObserver([log]) as told:
        record = simulate(experiment, observer=told, cache=CACHE, **kwargs)
        told.finished(record)
    return log, record


def expected(record, column):
    """The evaluations' own rows."""
    table = record.evaluations
    axes = (table[name].tolist() for name in ("simulated_s", "local_steps", "tokens", column))
    return list(zip(*axes, strict=True))


@pytest.mark.parametrize("changes", [{}, {"synchronization": {"kind": "barrier"}, "outer": {"weight": 1.0}}, BUFFERED])
def test_everything_is_logged_once_and_in_its_place(changes):
    log, record = tracked(tiny(**SHORT, **changes))
    assert log.again == 0
    assert log.ended == [record]
    for column in ("loss", "perplexity", "loss_shard_2"):
        assert log.of(f"evaluation/{column}") == expected(record, column)
    updates = record.rounds.groupby("update_s", sort=False)
    stale = log.of("update/staleness")
    assert [line[0] for line in stale] == list(updates.groups)
    assert [line[1] for line in stale] == updates["local_steps"].sum().cumsum().tolist()
    assert [line[3] for line in stale] == updates["staleness"].mean().tolist()
    losses = log.of("update/train_loss")
    assert [line[:3] for line in losses] == [line[:3] for line in stale]
    assert [line[3] for line in losses] == pytest.approx(updates["train_loss"].mean().tolist(), rel=1e-12)
    assert stale[-1][2] == record.summary["tokens"]


def test_tokens_are_counted_by_micro_batches():
    growing = {"micro_batches": {"start": 2, "threshold": 0.05, "most": 8}}
    barrier = {"synchronization": {"kind": "barrier"}, "outer": {"weight": 1.0}}
    log, record = tracked(tiny(**barrier, budget={"local_steps": 64}, inner=growing))
    rounds = record.rounds.groupby("update_s", sort=False)
    batches = rounds.apply(lambda each: (each["local_steps"] * each["micro_batches"]).sum()).cumsum()
    assert len({*record.rounds["micro_batches"]}) > 1
    each = record.summary["tokens"] / batches.iloc[-1]
    assert [line[2] for line in log.of("update/staleness")] == (each * batches).round().astype(int).tolist()


def test_what_has_gone_on_is_logged_as_what_was_not_stopped(tmp_path):
    experiment = tiny(**SHORT, checkpoint={"every_updates": 3})
    whole, _ = tracked(experiment)
    asked = iter([*[False] * 15, True])
    with pytest.raises(Stopped), TrackingObserver([first := Log()]) as told:
        simulate(
            experiment,
            observer=told,
            cache=CACHE,
            checkpoints=tmp_path,
            stop=lambda: next(asked, True),
        )
    assert first.ended == [None]
    log, _ = tracked(experiment, checkpoints=tmp_path)
    assert log.again == 1
    assert sorted(log.lines) == sorted(whole.lines)


def test_a_record_alone_is_enough():
    live, record = tracked(tiny(**SHORT))
    log = Log()
    with TrackingObserver([log]) as told:
        told.finished(record)
    assert sorted(log.lines) == sorted(live.lines)


def test_the_other_observer_is_told_too_and_pretraining_is_logged():
    class Observer:
        def __init__(self):
            self.told = []

        def pretrained(self, steps, of, loss):
            self.told.append((steps, of))

        def advanced(self, progress):
            assert isinstance(progress, Progress)
            self.told.append(progress.local_steps)

    log, observer = Log(), Observer()
    with TrackingObserver([log], observer) as told:
        experiment = tiny(budget={"local_steps": 10}, pretrain={"steps": 5}, compute={"lanes": 1})
        told.finished(simulate(experiment, observer=told, cache=CACHE))
    assert observer.told == [(5, 5), 5, 10]
    assert [line[1] for line in log.of("pretraining/loss")] == [5]


def test_a_timeline_has_no_losses():
    log, _ = tracked(tiny(), trainer="null")
    assert {line[0] for line in log.lines} == {"update/staleness", "update/server_updates", "evaluation/bytes_sent"}


def read_events(folder):
    """Every scalar of TensorBoard's files in a folder: tag -> (wall time, step, value); and the tags of texts."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    tags = events.Tags()
    return {
        tag: [(each.wall_time, each.step, each.value) for each in events.Scalars(tag)] for tag in tags["scalars"]
    }, tags["tensors"]


@pytest.mark.filterwarnings("ignore")  # of TensorBoard's reader
def test_tensorboard_has_simulated_time_steps_and_tokens(tmp_path):
    points = [Point("x", {"inner.batch_size": 4}, tiny(**SHORT))]
    [record] = simulate_all(points, trackers=[TensorBoard(tmp_path)], cache=CACHE, progress=False)
    [folder] = tmp_path.iterdir()
    assert folder.name == "x-batch-size-4"
    scalars, texts = read_events(folder)
    table = record.evaluations
    found = scalars["evaluation/perplexity"]
    assert [(time_s, step) for time_s, step, _ in found] == [
        (pytest.approx(time_s), step) for time_s, step in zip(table["simulated_s"], table["local_steps"], strict=True)
    ]
    assert [value for *_, value in found] == pytest.approx(table["perplexity"].tolist(), rel=1e-6)
    assert [step for _, step, _ in scalars["over_tokens/evaluation_loss"]] == table["tokens"].tolist()
    assert len(scalars["update/staleness"]) == record.summary["server_updates"]
    assert scalars["summary/utilization"][0][2] == pytest.approx(record.summary["utilization"])
    assert any(tag.startswith("experiment") for tag in texts)
    simulate_all(points, trackers=[TensorBoard(tmp_path)], cache=CACHE, progress=False)
    again, _ = read_events(folder)  # the run is replaced
    assert again.keys() == scalars.keys()
    assert [tag for tag in scalars if again[tag] != scalars[tag] and "host_second" not in tag] == []


def test_wandb_has_them_as_axes(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    [record] = simulate_all({"x": tiny(**SHORT)}, trackers=[WeightsAndBiases(tmp_path)], cache=CACHE, progress=False)
    [folder] = (tmp_path / "wandb").glob("offline-run-*")
    rows, summary, config = read_wandb(next(folder.glob("*.wandb")))
    evaluated = [row for row in rows if "evaluation/perplexity" in row]
    assert [row["simulated_s"] for row in evaluated] == record.evaluations["simulated_s"].tolist()
    assert [row["local_steps"] for row in evaluated] == record.evaluations["local_steps"].tolist()
    assert [row["tokens"] for row in evaluated] == record.evaluations["tokens"].tolist()
    assert [row["evaluation/perplexity"] for row in evaluated] == record.evaluations["perplexity"].tolist()
    assert sum("update/staleness" in row for row in rows) == record.summary["server_updates"]
    assert summary["utilization"] == record.summary["utilization"]
    assert config["inner"]["local_steps"] == 5


def read_wandb(file):
    """The rows, the summary and the config of a run that was written offline."""
    rows, summary, config = [], {}, {}
    for entry in wandb_records(file):
        if entry.HasField("history"):
            rows.append({key_of(item): json.loads(item.value_json) for item in entry.history.item})
        summary |= {key_of(item): json.loads(item.value_json) for item in entry.summary.update}
        for item in [*entry.run.config.update, *entry.config.update]:
            config[key_of(item)] = json.loads(item.value_json)
    return rows, summary, config


def wandb_records(file, patience_s=60.0):
    """Everything in a file, up to the record of the run's end: wandb's own process may write on after `finish`."""
    from wandb.proto import wandb_internal_pb2

    deadline = time.monotonic() + patience_s
    while True:
        records = [wandb_internal_pb2.Record.FromString(data) for data in log_entries(file.read_bytes())]
        if any(record.HasField("exit") for record in records):
            return records
        assert time.monotonic() < deadline, f"{file} does not end"
        time.sleep(0.05)


def key_of(item):
    return item.key or "/".join(item.nested_key)


def log_entries(content, header=7, block=32768):
    """The whole entries of a LevelDB log: in blocks, each part with its checksum, length and place in an entry."""
    place, parts = header, []
    while place + 7 <= len(content):
        left = block - place % block
        if left < 7:
            place += left
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        if place + 7 + length > len(content):  # is being written
            return
        parts.append(content[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield b"".join(parts)
            parts.clear()


@pytest.mark.parametrize(("kind", "module"), [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_without_the_extra_there_is_an_error_that_names_it(kind, module, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    message = rf"--tracker = '{kind}': needs {module}, which is not installed: pip install 'tardigrad\[{kind}\]'"
    with pytest.raises(ExperimentError, match=message):
        tracker(kind, tmp_path)


@pytest.mark.filterwarnings("ignore")  # of TensorBoard's reader
def test_the_command_line_tracks_every_run(tardigrad, tmp_path):
    experiment = TINY | SHORT | {"variants": {"a": {}, "b": {"seed": 1}}}
    code, _, _ = tardigrad("run", "experiment.yaml", "--out", "out", "--tracker", "tensorboard", experiment=experiment)
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "out/tensorboard").iterdir()) == ["1-a", "2-b"]
    summaries = json.loads((tmp_path / "out/summary.json").read_text())
    for name, summary in zip(("1-a", "2-b"), summaries, strict=True):
        scalars, _ = read_events(tmp_path / "out/tensorboard" / name)
        assert scalars["evaluation/loss"][-1][2] == pytest.approx(summary["final_loss"], rel=1e-6)
    assert yaml.safe_load((tmp_path / "out/1-a/experiment.yaml").read_text())["variant"] == "a"


def test_a_simulation_that_fails_ends_the_logs():
    log = Log()

    class Fake:
        def open_log(self, name, point):
            return log

    with pytest.raises(RuntimeError), track([Fake()], "x", tiny()):
        raise RuntimeError
    assert log.ended == [None]
