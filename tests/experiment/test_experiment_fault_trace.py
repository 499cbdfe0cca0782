import json
from pathlib import Path
from typing import Any

import pytest
from experiment_files import SMALL, experiment, mistakes, tree
from hypothesis import given, settings

from simulator.experiment import Experiment, ExperimentError, load
from simulator.experiment.schema.fault_trace import SERVER_EVENTS, WORKER_EVENTS, TraceEvent
from tests.faulty import faults, traces

HEADER = "worker,time,event\n"
NO_TRACE = "expected the path of a CSV file with columns worker, time and event, or of a run's faults.parquet, or rows"
TRACED = SMALL.replace("[1, 2]}\n", "[1, 2]}\n  faults: {trace: t.csv}\n")
ROWS = [(0, 5.0, "crash", None), (0, 9.0, "join", None), (1, 0.5, "slow", 2.5), ("server", 1.0, "down", None)]


def write(folder: Path, rows: str | bytes | None, text: str = TRACED) -> Path:
    if rows is not None:
        (folder / "t.csv").write_bytes(rows if isinstance(rows, bytes) else rows.encode())
    path = folder / "file.yaml"
    path.write_text(text)
    return path


def trace_of(path: Path, *overrides: str) -> tuple[TraceEvent, ...]:
    (point,) = load(path, *overrides)
    assert point.experiment.cluster.faults is not None
    assert point.experiment.cluster.faults.trace is not None
    return point.experiment.cluster.faults.trace


def said(folder: Path, rows: str | bytes | None) -> str:
    """The one message about a trace, with the folder taken out."""
    path = write(folder, rows)
    with pytest.raises(ExperimentError) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert (problem.key, problem.file, problem.line) == ("cluster.faults.trace", path, 6)
    assert problem.value == f"{folder}/t.csv"
    return problem.message.replace(f"{folder}/", "")


def test_a_trace_is_read_from_the_folder_of_the_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = HEADER + "0,5,crash\n0,9,join\n1,0.5,slow 2.5\nserver,1,down\n"
    path = write(tmp_path, rows)
    assert trace_of(path) == tuple(ROWS)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert trace_of(path) == tuple(ROWS)
    (elsewhere / "other.csv").write_text(HEADER + "1,3,leave\n")
    assert trace_of(path, "cluster.faults.trace=other.csv") == ((1, 3.0, "leave", None),)


def test_a_resolved_experiment_has_the_rows_and_needs_the_file_no_more(tmp_path: Path):
    path = write(tmp_path, HEADER + "0,5,crash\n0,9,join\n1,0.5,slow 2.5\nserver,1,down\n")
    (point,) = load(path)
    (tmp_path / "t.csv").unlink()
    written = json.loads(json.dumps(point.experiment.model_dump(mode="json")))
    assert written["cluster"]["faults"]["trace"] == [list(row) for row in ROWS]
    assert Experiment.model_validate(written) == point.experiment
    assert Experiment.model_validate(written).model_dump(mode="json") == written


@settings(max_examples=50)
@given(faults(2))
def test_any_faults_survive_being_written(section: dict[str, Any]):
    original = experiment(cluster__faults=section)
    written = json.loads(json.dumps(original.model_dump(mode="json")))
    assert Experiment.model_validate(written) == original


@settings(max_examples=50)
@given(rows=traces(2))
def test_a_file_says_the_same_as_its_rows(tmp_path_factory: pytest.TempPathFactory, rows: list[list[Any]]):
    path = tmp_path_factory.mktemp("traces") / "t.csv"
    path.write_text(HEADER + "".join(",".join(map(str, row)) + "\n" for row in rows))
    assert experiment(cluster__faults__trace=str(path)) == experiment(cluster__faults__trace=rows)


def test_every_event_can_be_written(tmp_path: Path):
    presence = "crash,join,notice,preempt,join,notice,crash,join,notice,leave,join,leave,join"
    events = f"{presence},slow 2,slow 3,normal,disconnect,reconnect".split(",")
    rows = [f"1,{time},{event}\n" for time, event in enumerate(events)]
    found = trace_of(write(tmp_path, HEADER + "".join(rows) + "server,1,down\nserver,1,up\n"))
    assert {event.event for event in found} == {*WORKER_EVENTS, *SERVER_EVENTS}


def test_comments_blank_lines_spaces_units_and_a_mark_are_allowed(tmp_path: Path):
    rows = " worker, time ,event\n# of a Tuesday, in March\n\n 0 , 5min , crash \n , , \n0,10min,join\n#0,1,crash\n"
    expected = ((0, 300.0, "crash", None), (0, 600.0, "join", None), (1, 0.25, "slow", 1.5), (1, 7200.0, "crash", None))
    text = rows + "1,250ms,slow  1.5\n1,2 h,crash"
    for content in (text, "\ufeff" + text, text.replace("\n", "\r\n")):
        assert trace_of(write(tmp_path, content)) == expected


def test_a_trace_may_be_empty_and_workers_need_not_be_sorted(tmp_path: Path):
    assert trace_of(write(tmp_path, HEADER)) == ()
    found = trace_of(write(tmp_path, HEADER + "1,9,crash\n0,3,leave\n1,9,join\n0,3,slow 2\n"))
    assert [(event.worker, event.time) for event in found] == [(1, 9.0), (0, 3.0), (1, 9.0), (0, 3.0)]


NOT_OF_A_WORKER = "valid: crash, notice, preempt, leave, join, slow, normal, disconnect, reconnect"
FACTOR = "only slow takes a factor, as in 'slow 2.5', and it needs one"
DURATION = "such as 50ms, 0.5s or 2h"
WRONG: dict[str, tuple[str, str]] = {
    "a misspelt event": ("0,1,crsh\n", f"2: 'crsh' is no event of a worker; {NOT_OF_A_WORKER}"),
    "an event of the server": ("0,1,down\n", f"2: 'down' is no event of a worker; {NOT_OF_A_WORKER}"),
    "an event of workers": ("server,1,crash\n", "2: 'crash' is no event of the server; valid: down, up"),
    "no event": ("0,1,\n", f"2: '' is no event of a worker; {NOT_OF_A_WORKER}"),
    "slow without a factor": ("0,1,slow\n", f"2: 'slow': {FACTOR}"),
    "slow by nothing": ("0,1,slow 0\n", "2: factor = 0.0: input should be greater than 0"),
    "slow backwards": ("0,1,slow -2\n", "2: factor = -2.0: input should be greater than 0"),
    "slow forever": ("0,1,slow inf\n", "2: factor = inf: input should be a finite number"),
    "a crash with a factor": ("0,1,crash 2\n", f"2: 'crash 2': {FACTOR}"),
    "a time below 0": ("0,-1,crash\n", "2: time = -1.0: input should be greater than or equal to 0"),
    "no time": ("0,,crash\n", f"2: time = '': not a duration: write a number and a unit, {DURATION}"),
    "an unknown unit": ("0,1 y,crash\n", "2: time = '1 y': 'y' is not a unit of duration (units: ns, us, µs, ms, s, "),
    "a time that is infinite": ("0,infinite,crash\n", "2: time = inf: input should be a finite number"),
    "a worker below 0": ("-1,1,crash\n", "2: worker = '-1': input should be greater than or equal to 0"),
    "a worker that is no number": ("two,1,crash\n", "2: worker = 'two': input should be a valid integer"),
    "two cells": ("0,1,crash\n\n1,2\n", "4: expected worker, time, event, not ['1', '2']"),
    "one cell": ("crash\n", "2: expected worker, time, event, not ['crash']"),
    "five cells": ("0,1,slow,2,3\n", "2: expected worker, time, event, not ['0', '1', 'slow', '2', '3']"),
    "time going back": (
        "0,5min,crash\n1,1,crash\n0,299,join\n",
        "4: 299 s is before the event above it: sort a worker's events by time",
    ),
}


@pytest.mark.parametrize(("rows", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_row_is_named_by_file_and_line(tmp_path: Path, rows: str, message: str):
    assert said(tmp_path, HEADER + rows).startswith(f"t.csv:{message}")


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ("crash crash", "gone"),
        ("leave notice", "gone"),
        ("notice preempt preempt", "gone"),
        ("notice notice", "warned"),
        ("crash join join", "there"),
        ("join join", "there"),
        ("notice join", "warned"),
        ("normal", "normal"),
        ("slow=2 normal normal", "normal"),
        ("reconnect", "up"),
        ("disconnect reconnect reconnect", "up"),
        ("disconnect disconnect", "down"),
        ("up", "up"),
        ("down down", "down"),
    ],
)
def test_events_that_cannot_follow_each_other(tmp_path: Path, events: str, state: str):
    who = "server" if events.split()[0] in SERVER_EVENTS else "1"
    rows = [f"{who},{time},{event.replace('=', ' ')}\n" for time, event in enumerate(events.split())]
    found = said(tmp_path, HEADER + "# some more\n\n0,1,crash\n" + "".join(rows))
    assert found.startswith(f"t.csv:{4 + len(rows)}: '{events.split()[-1]}' cannot follow here: ")
    assert found.endswith(f"{who} is {state} already")


@pytest.mark.parametrize(
    ("rows", "shown"),
    [("", ""), ("0,1,crash\n", "0,1,crash"), ("worker,event,time\n", "worker,event,time"), ("a;b\n", "a;b")],
)
def test_another_header_or_none(tmp_path: Path, rows: str, shown: str):
    assert said(tmp_path, rows) == f"t.csv:1: expected the columns worker,time,event; it has {shown!r}"


def test_a_worker_that_the_cluster_has_not(tmp_path: Path):
    found = said(tmp_path, HEADER + "1,1,crash\n2,1,crash\n")
    assert "names worker 2 (crash at 1 s), but 2 workers have the ids 0 to 1" in found
    assert mistakes(tree(cluster__faults__trace=[[0, 1, "crash"], [7, 1, "slow 2"]])) == [
        ("cluster.faults.trace", "names worker 7 (slow at 1 s), but 2 workers have the ids 0 to 1")
    ]


def test_a_file_that_is_missing_or_a_folder(tmp_path: Path):
    assert said(tmp_path, None) == "the trace cannot be read: No such file or directory"
    (tmp_path / "t.csv").mkdir()
    assert said(tmp_path, None) == "the trace cannot be read: Is a directory"


def test_a_file_that_is_not_text(tmp_path: Path):
    assert said(tmp_path, HEADER.encode() + b"\xff\xfe").startswith("the trace is not UTF-8 text: ")
    assert said(tmp_path, HEADER + '0,1,"crash\n').startswith("t.csv: not a CSV file: ")


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("simulator.experiment.schema.tables.MOST_BYTES", 2**20)
    fits = HEADER + "#\n" * ((2**20 - len(HEADER)) // 2)
    assert trace_of(write(tmp_path, fits)) == ()
    assert said(tmp_path, fits + "0,1,crash\n") == "the trace is larger than 1 MiB"


@pytest.mark.parametrize("event", ["slow twice", "slow 2x", "crash soon"])
def test_a_factor_that_is_no_number_is_named_by_file_and_line(tmp_path: Path, event: str):
    found = said(tmp_path, HEADER + f"0,1,{event}\n")
    assert found.startswith("t.csv:2: ")
    assert event in found


def test_two_factors_are_refused(tmp_path: Path):
    with pytest.raises(ExperimentError):
        load(write(tmp_path, HEADER + "0,1,slow 2,3\n"))


def test_a_file_of_long_letters_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("simulator.experiment.schema.tables.MOST_BYTES", 2**20)
    assert said(tmp_path, HEADER + "é" * 2**20) == "the trace is larger than 1 MiB"


@pytest.mark.parametrize(
    ("trace", "message"),
    [
        (3, NO_TRACE),
        ({"file": "t.csv"}, NO_TRACE),
        (["t.csv"], "row 0: expected worker, time and event, not 't.csv'"),
        ([[0, 1, "leave"], [0, 2, "leave"]], "row 1: 'leave' cannot follow here: worker 0 is gone already"),
        ([[True, 1, "leave"]], "row 0: worker = True: expected a number, not yes/no or true/false"),
        ([[0, 1, ["leave"]]], f"row 0: ['leave'] is no event of a worker; {NOT_OF_A_WORKER}"),
        ([[0, 1, "slow", "x"]], "row 0: factor = 'x': input should be a valid number, unable to parse string as"),
    ],
)
def test_rows_in_the_experiment_itself_are_named_by_their_place(trace: Any, message: str):
    ((key, found),) = mistakes(tree(cluster__faults__trace=trace))
    assert key == "cluster.faults.trace"
    assert found.startswith(message)


def traced_paths(folder: Path, sections: str) -> list[int | str]:
    """The worker of each point's only event, of an experiment in `folder` with three traces."""
    (folder / "sub").mkdir()
    for worker, name in enumerate(["t.csv", "sub/u.csv"]):
        (folder / name).write_text(f"{HEADER}{worker},1,crash\n")
    (folder / "sub" / "t.csv").write_text(HEADER + "server,1,down\n")
    (folder / "file.yaml").write_text(TRACED + sections)
    (folder / "sub" / "above.yaml").write_text("extends: ../file.yaml\ncluster: {faults: {trace: t.csv}}\n")
    faulty = [point.experiment.cluster.faults for point in load(folder / "file.yaml")]
    return [event.worker for each in faulty if each and each.trace for event in each.trace]


@pytest.mark.parametrize(
    "sections",
    [
        "sweep: {cluster.faults.trace: [sub/u.csv, t.csv, [[server, 1, down]]]}\n",
        "sweep: {cluster.faults: [{trace: sub/u.csv}, {trace: t.csv}, {trace: sub/t.csv}]}\n",
        "sweep: {trace: [{cluster.faults.trace: sub/u.csv}, {seed: 1}, {cluster.faults: {trace: sub/t.csv}}]}\n",
        "sweep: {trace: {a: {cluster.faults.trace: sub/u.csv}, b: {seed: 1}, c: {cluster.faults.trace: sub/t.csv}}}\n",
        "variants: {a: {cluster: {faults: {trace: sub/u.csv}}}, b: {}, c: {cluster: {faults: {trace: sub/t.csv}}}}\n",
    ],
)
def test_paths_in_a_sweep_or_a_variant_are_relative_to_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sections: str
):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert traced_paths(tmp_path, sections) == [1, 0, "server"]


def test_a_path_belongs_to_the_file_that_it_is_written_in(tmp_path: Path):
    assert traced_paths(tmp_path, "") == [0]
    assert [event.worker for event in trace_of(tmp_path / "sub" / "above.yaml")] == ["server"]


def test_a_mistake_in_a_swept_trace_stands_at_the_sweep(tmp_path: Path):
    path = write(tmp_path, HEADER, TRACED + "sweep:\n  cluster.faults.trace: [t.csv, none.csv]\n")
    with pytest.raises(ExperimentError) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert (problem.line, problem.value) == (12, f"{tmp_path}/none.csv")


HOURLY = {"time_between": "1h", "repair": "1min"}
CONFLICTS: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "joins": ({"joins": [1]}, [("joins", "has 1 values for 2 workers: give one for each (0 for the start)")]),
    "workers": (
        {"crashes": HOURLY | {"workers": [7]}},
        [("crashes.workers", "names worker 7, but 2 workers have the ids 0 to 1")],
    ),
    "several": (
        {"departures": {"after": 1, "workers": [0, 2]}, "joins": [0, 0, 0]},
        [
            ("joins", "has 3 values for 2 workers: give one for each (0 for the start)"),
            ("departures.workers", "names worker 2, but 2 workers have the ids 0 to 1"),
        ],
    ),
    "low above high": (
        {"crashes": HOURLY | {"repair": {"kind": "uniform", "low": "3s", "high": "2s"}}},
        [("crashes.repair.high", "must be at least low, which is 3.0 s")],
    ),
    "unknown kind": (
        {"crashes": HOURLY | {"time_between": {"kind": "weibul", "mean": "1h"}}},
        [("crashes.time_between.kind", "unknown kind; did you mean 'weibull'?")],
    ),
    "no kind": (
        {"departures": {"after": {"mean": "1h"}}},
        [("departures.after.kind", "is missing; choose from constant, exponential, lognormal, uniform, weibull")],
    ),
    "a key of another kind": (
        {"departures": {"after": {"kind": "lognormal", "median": 1, "sigma": 1, "mean": 2}}},
        [("departures.after.mean", "unknown key; did you mean 'median'?")],
    ),
    "a time of 0": ({"departures": {"after": 0}}, [("departures.after", "must be above 0")]),
    "a time without end": ({"departures": {"after": "infinite"}}, [("departures.after", "must be a finite number")]),
    "a join below 0": ({"joins": [0, -1]}, [("joins.1", "must be at least 0")]),
    "a misspelt fault": ({"crash": HOURLY}, [("crash", "unknown key; did you mean 'crashes'?")]),
}


@pytest.mark.parametrize(("section", "expected"), CONFLICTS.values(), ids=CONFLICTS)
def test_conflicting_faults(section: dict[str, Any], expected: list[tuple[str, str]]):
    assert mistakes(tree(cluster__faults=section)) == [(f"cluster.faults.{key}", message) for key, message in expected]


@pytest.mark.parametrize(
    ("barrier", "message"),
    [
        ({"quorum": 3, "timeout": "1s"}, "is more than there are workers, 2: choose fewer"),
        ({"quorum": 2}, "matters at a timeout only: also give synchronization.timeout"),
        ({"quorum": 0, "timeout": "1s"}, "must be at least 1"),
    ],
)
def test_a_quorum_that_does_not_fit(barrier: dict[str, Any], message: str):
    assert mistakes(tree(synchronization={"kind": "barrier"} | barrier)) == [("synchronization.quorum", message)]
    for fits in ({"quorum": 2, "timeout": "1s"}, {"quorum": 1}):
        assert mistakes(tree(synchronization={"kind": "barrier"} | fits)) == []


def test_the_times_of_a_fault_may_be_of_any_kind():
    weibull, lognormal = {"mean": "1h", "shape": 0.7}, {"median": "1min", "sigma": 0}
    kinds = [
        *("50ms", 3, {"kind": "exponential", "mean": 1}, {"kind": "constant", "value": "2d"}),
        *({"kind": "uniform", "low": 1, "high": 1}, {"kind": "weibull"} | weibull, {"kind": "lognormal"} | lognormal),
    ]
    for kind in kinds:
        slowdowns = {"time_between": kind, "duration": kind, "factor": 2}
        assert mistakes(tree(cluster__faults__slowdowns=slowdowns)) == []


def test_a_file_that_is_no_table_of_faults(tmp_path: Path):
    (tmp_path / "faults.parquet").write_bytes(b"PAR1")
    with pytest.raises(ExperimentError) as caught:
        load(write(tmp_path, None, TRACED.replace("t.csv", "faults.parquet")))
    (problem,) = caught.value.problems
    assert "faults.parquet: not the faults.parquet of a run: " in problem.message
