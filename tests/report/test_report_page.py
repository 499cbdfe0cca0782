"""Contents of a page; what it does is tested in a browser."""

import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from simulator.record import EvaluationLog
from simulator.report import ReportError, perplexity_table, time_to_target
from simulator.report.grouping import group_records
from simulator.report.page import report_page, write_report
from simulator.report.page.answer import answers, answers_table
from simulator.report.page.curves import axes, curves, curves_of_runs
from simulator.report.page.figures import shares, staleness, staleness_by_worker, timeline
from simulator.report.page.limits import (
    CURVE_POINTS,
    STALENESS_BARS,
    TIMELINE_ROUNDS,
    TIMELINE_WORKERS,
    TIMELINES,
    curve_points,
)
from simulator.report.page.numbers import shortened
from simulator.report.page.results import columns, compared_with, results, target_columns, usual_targets
from simulator.report.page.settings import flattened, settings_of
from simulator.report.worker_bins import workers_of
from simulator.sweep.outcomes import Failure
from simulator.sweep.plan import PlannedRun, write_sweep
from tests.record.builders import build_record, fault_log, round_log, round_row


def _with(record, experiment=None, **summary):
    return dataclasses.replace(
        record, experiment=record.experiment | (experiment or {}), summary=record.summary | summary
    )


def _columns(records):
    return {column.key: column for column in columns(group_records(records))}


def _curves(records, key):
    """The curves of the groups of some records along one axis."""
    groups = group_records(records)
    [axis] = [axis for axis in axes(groups) if axis.key == key]
    return curves(groups, axis)


def _held(page):
    """The JSON that a page holds."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_numbers_are_short():
    assert shortened([1.23456789, 5.0, math.nan, math.inf, 1e-9]) == [1.23457, 5, None, None, 1e-9]
    assert shortened(np.array([123456789])) == [123456789]


@pytest.mark.parametrize(("key", "size"), [("simulated_s", 60), ("local_steps", 1), ("tokens", 1), ("bytes_sent", 1e6)])
def test_a_curve_is_the_table_in_the_unit_of_its_axis(key, size):
    records = [build_record(seed=seed) for seed in (0, 1, 2)]
    [held] = _curves(records, key)
    table = perplexity_table(records, against=key)
    size = 1e6 if key == "tokens" else size
    assert np.allclose(held["x"], table[key] / size, rtol=1e-5)
    for name, column in (("y", "perplexity"), ("low", "low"), ("high", "high")):
        assert np.allclose(held[name], table[column], rtol=1e-5)
    assert _curves([build_record(), build_record("null", trainer="null")], "local_steps")[1] is None


def test_a_curve_of_one_run_has_no_range_and_each_of_several_runs_has_its_own():
    one, several = [build_record("one")], [build_record(seed=seed) for seed in (0, 1)]
    assert set(_curves(one, "local_steps")[0]) == {"x", "y"}
    groups = group_records([*one, *several])
    none, both = curves_of_runs(groups, axes(groups))
    assert none == []
    assert np.allclose([run["y"] for run in both], [run.evaluations["perplexity"] for run in several], rtol=1e-5)
    assert both[0]["x"]["local_steps"] == several[0].evaluations["local_steps"].tolist()


def test_a_curve_ends_before_it_diverges():
    record = build_record(local_steps=1000)
    table = record.evaluations.copy()
    table.loc[3:, ["loss", "perplexity"]] = math.inf
    diverging = dataclasses.replace(record, evaluations=table)
    [held] = _curves([diverging], "local_steps")
    assert len(held["x"]) == len(held["y"]) == 3
    assert held["note"] == "async Nesterov: 1 of 1 diverged, and its curve ends before."
    never = record.evaluations.assign(loss=math.inf, perplexity=math.inf)
    assert _curves([dataclasses.replace(record, evaluations=never)], "local_steps")[0]["y"] == []


def test_runs_without_a_common_range_have_no_mean_and_short_ones_cut_it():
    early, late = build_record(seed=0), build_record(seed=1)
    late = dataclasses.replace(late, evaluations=late.evaluations.iloc[10:])
    early = dataclasses.replace(early, evaluations=early.evaluations.iloc[:5])
    assert _curves([early, late], "local_steps") == [
        {"note": "The runs of async Nesterov have no range in common, so there is no mean."}
    ]
    [held] = _curves([early, build_record(seed=1)], "local_steps")
    assert held["note"] == "The mean of async Nesterov ends with the shortest of its runs."


def test_many_curves_have_fewer_points_with_both_ends():
    assert curve_points(1) == curve_points(50) == 400
    assert 400 * curve_points(400) <= CURVE_POINTS
    short = build_record(local_steps=400)
    records = [build_record(local_steps=20_000), *(_with(short, variant=f"v{i}") for i in range(399))]
    held = _curves(records, "local_steps")[0]
    assert len(held["y"]) == curve_points(400)
    assert held["x"][0] == 0
    assert held["x"][-1] == records[0].evaluations["local_steps"].iloc[-1]


def test_further_columns_are_axes_and_losses_are_not():
    record = build_record()
    table = record.evaluations.assign(joules=1.5, loss_shard_0=2.0, train_loss=1.0, note="x")
    found = axes(group_records([dataclasses.replace(record, evaluations=table)]))
    assert [axis.key for axis in found][:5] == [
        "simulated_s",
        "local_steps",
        "tokens",
        "bytes_sent",
        "server_updates",
    ]
    assert [(axis.key, axis.label, axis.title) for axis in found[5:]] == [("joules", "joules", "joules")]
    assert axes(group_records([build_record(trainer="null")])) == []


def test_settings_differ_or_are_common():
    records = [
        _with(build_record("a", seed=seed, overrides={"lr": lr}), {"outer": {"lr": lr, "kind": "sgd"}, "list": [1, 2]})
        for lr in (0.5, 0.7)
        for seed in (0, 1)
    ]
    different, common = settings_of(group_records(records))
    assert different == {"outer.lr": ("0.5", "0.7")}
    assert common == {"cluster.network.bandwidth": "Infinity", "outer.kind": "sgd", "list": "[1, 2]"}
    assert flattened({"name": "x", "a": {}, "b": None, "c": ""}) == {"a": "{}", "b": "null", "c": '""'}


def test_null_and_absent_are_no_difference():
    records = [_with(build_record(v), {"faults": {"trace": None} if v == "b" else None}) for v in "ab"]
    assert "faults.trace" not in settings_of(group_records(records))[0]


def test_a_setting_that_one_group_lacks_differs():
    records = [_with(build_record(v), {"outer": {"buffer": 4}} if v == "b" else {}) for v in "ab"]
    different, _ = settings_of(group_records(records))
    assert different == {"outer.buffer": ("\u2013", "4")}


def test_results_have_a_value_for_every_run_in_order_of_the_groups():
    records = [build_record(v, seed=seed, barrier=v == "sync") for seed in (0, 1) for v in ("async", "sync")]
    assert compared_with(group_records(records)) == [1, 1]
    found = _columns(records)
    ordered = [records[0], records[2], records[1], records[3]]
    expected = [record.summary["final_perplexity"] for record in ordered]
    assert np.allclose(found["final_perplexity"].values, expected, rtol=1e-5)
    assert "workers" not in found  # the same in all
    assert "lost_rounds" not in found  # nothing was lost


def test_sweeps_and_further_numbers_have_columns():
    records = [
        _with(build_record("a", overrides={"seed": 0, "cluster.devices.profile": p}), joules=c)
        for p, c in (("none", 1.5), ("very", 2.5))
    ]
    found = _columns(records)
    assert found["cluster.devices.profile"].values == ["none", "very"]
    assert (found["joules"].show(1.23456), found["joules"].values) == ("1.235", [1.5, 2.5])


def test_money_is_an_axis_and_a_column_where_there_are_prices():
    cluster = {"devices": {"price_per_hour": 2.0}, "network": {}, "currency": "EUR"}
    record = _with(build_record(), {"cluster": cluster})
    both = [record, _with(build_record("b"), {"cluster": cluster})]
    assert axes(group_records(both))[-1].title == "money spent (EUR)"
    spent = 4 * 2.0 / 3600 * record.evaluations["simulated_s"]
    assert np.allclose(_curves(both, "money")[0]["x"], spent, rtol=1e-5)
    expected = pytest.approx(4 * 2.0 / 3600 * record.summary["simulated_seconds"], rel=1e-5)
    assert _columns(both)["money"].values[0] == expected
    some = [record, build_record("b")]  # the second without prices
    assert "money" not in [axis.key for axis in axes(group_records(some))]
    assert _columns(some)["money"].values == [expected, None]


def test_a_target_has_a_column_for_every_axis_with_the_times_of_the_table():
    records = [build_record(v, seed=s, barrier=v == "sync") for v in ("sync", "async") for s in (0, 1)]
    groups = group_records(records)
    found = {column.axis: column for column in target_columns(groups, axes(groups), [7.5])}
    assert list(found) == ["simulated_s", "local_steps", "tokens", "bytes_sent", "server_updates"]
    assert (found["tokens"].key, found["tokens"].label) == ("tokens_to_7.5", "tokens to perplexity 7.5")
    table = time_to_target(records, 7.5, each=True)
    for name in ("simulated_s", "local_steps", "tokens", "bytes_sent"):
        assert np.allclose(found[name].values, table[name], rtol=1e-5)
    assert target_columns(groups, axes(groups), [0.5])[0].values == [None] * 4


def test_the_usual_target_is_where_every_run_of_the_baseline_ends():
    records = [
        _with(build_record(v, seed=s, barrier=v == "sync"), final_perplexity=p + s)
        for v, p in (("sync", 5.001), ("async", 4.0))
        for s in (0, 1)
    ]
    assert usual_targets(group_records(records)) == [6.01]
    assert usual_targets(group_records(records[:2])) == []


def test_results_are_means_half_ranges_and_ratios_to_the_baseline():
    values = {"sync": (4.0, 5.0), "async": (6.0, 6.6), "lucky": (6.0, None)}
    records = [
        _with(build_record(v, seed=s, barrier=v == "sync"), final_perplexity=p)
        for v, own in values.items()
        for s, p in enumerate(own)
    ]
    groups = group_records(records)
    table = results(groups, axes(groups), [1.0])
    rows = re.findall(r"<tr.*?</tr>", table)[1:]
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows]
    times = "\u00d7"
    assert [own[1] for own in cells[:3]] == [
        f"4.500<small>± 0.500, 1.00{times}</small>",
        f"6.300<small>± 0.300, 1.40{times}</small>",
        "6.000<small>1 of 2</small>",  # no ratio: it would be of the lucky ones
    ]
    assert [own[1] for own in cells[3:]] == ["4.000", "5.000", "6.000", "6.600", "6.000", "diverged"]
    assert [own[0] for own in cells[3:]] == ["0", "1"] * 3
    assert cells[0][3] == "not reached"
    assert 'data-find="sync seed 1"' in rows[4]


def test_a_timeline_by_hand():
    rows = [
        round_row(),
        round_row(
            round=1, ready_s=16.0, pull_start_s=20.0, compute_start_s=22.0, push_start_s=32.0, arrival_s=35.0,
            update_s=39.0, version=2,
        ),
    ]  # fmt: skip
    record = build_record(step_s=[2.0])
    record = _with(
        dataclasses.replace(
            record, rounds=round_log(rows).frame(), faults=fault_log([(40.0, 0, "crash"), (45.0, 0, "return")]).frame()
        ),
        simulated_seconds=60.0,
    )
    held = timeline(record, workers_of(record))
    traces = {trace["name"]: trace for trace in held["traces"]}
    columns = ("y", "base", "x", "customdata")
    assert [traces["compute"][name] for name in columns] == [[0, 0], [3, 22], [10, 10], [0, 1]]
    assert [traces["wait"][name] for name in columns] == [[0, 0, 0], [0, 16, 35], [1, 4, 4], [0, 1, 1]]
    assert traces["server update"]["x"] == [20, 39]
    assert [traces["absent"][name] for name in columns[:3]] == [[0], [40], [5]]
    axis = held["layout"]["xaxis"]
    assert (axis["range"], axis["maxallowed"], axis["title"]["text"]) == ([0, 52.5], 60, "simulated time (s)")
    assert held["note"].startswith("Seed 0. Shown at first: 52.5 s of 60 s; drag or zoom for the rest.")


def test_a_long_timeline_of_many_workers_is_held_in_part():
    record = build_record(step_s=[0.1 + 0.01 * i for i in range(40)], local_steps=100_000)
    held = timeline(record, workers_of(record))
    assert len(held["layout"]["yaxis"]["ticktext"]) == TIMELINE_WORKERS + 1
    assert f"{TIMELINE_WORKERS} of 40 workers, evenly spaced from fastest to slowest." in held["note"]
    assert "which is what this page holds" in held["note"]
    [compute] = [trace for trace in held["traces"] if trace["name"] == "compute"]
    assert len(compute["x"]) <= TIMELINE_ROUNDS
    assert max(np.add(compute["base"], compute["x"])) <= held["layout"]["xaxis"]["maxallowed"] * (1 + 1e-5)


def test_shares_add_up():
    held = shares(workers_of(build_record()))
    assert held["layout"]["yaxis"]["ticktext"] == [
        f"{i}, {s} s/step" for i, s in enumerate(("0.58", "0.75", "1.51", "3.33"))
    ]
    assert np.allclose(np.sum([trace["x"] for trace in held["traces"]], axis=0), 100, atol=0.1)


def test_staleness_counts_every_round():
    record = build_record()
    held = staleness(group_records([record, build_record(seed=1)])[0])
    counts = 2 * np.bincount(record.rounds["staleness"])
    assert [count for _, count in held["customdata"]] == [f"{count:,}" for count in counts]
    assert np.allclose(held["y"], 100 * counts / counts.sum(), rtol=1e-5)
    rounds = record.rounds.assign(staleness=np.arange(len(record.rounds)) * 10)
    wide = staleness(group_records([dataclasses.replace(record, rounds=rounds)])[0])
    assert len(wide["y"]) <= STALENESS_BARS
    assert sum(wide["y"]) == pytest.approx(100, rel=1e-4)
    assert staleness(group_records([dataclasses.replace(record, rounds=rounds.iloc[:0])])[0]) is None


def test_staleness_by_worker_or_by_tenth():
    record = build_record()
    whole, middle, mean = staleness_by_worker(group_records([record])[0])["traces"]
    slowest = record.rounds[record.rounds["worker"] == 3]["staleness"]
    assert mean["x"] == [f"worker {worker}" for worker in range(4)]
    assert whole["y"][-3:] == [slowest.min(), slowest.max(), None]
    assert middle["y"][-3:-1] == pytest.approx([slowest.quantile(0.25), slowest.quantile(0.75)], rel=1e-5)
    assert mean["y"][3] == pytest.approx(slowest.mean(), rel=1e-5)
    many = staleness_by_worker(group_records([build_record(step_s=[0.5 + 0.1 * i for i in range(20)])])[0])
    assert many["traces"][2]["x"][0] == "tenth 1 of 10"


def test_the_answer_compares_the_best_with_the_baseline():
    sync = _with(build_record("sync", barrier=True), final_perplexity=5.0, simulated_seconds=1000.0)
    fast = _with(build_record("fast"), final_perplexity=4.5, simulated_seconds=300.0)
    slow = _with(build_record("slow"), final_perplexity=6.0, simulated_seconds=500.0)
    times = "\u00d7"
    assert answers(group_records([sync, fast, slow])) == [
        f"fast reached the lowest final perplexity, 4.500: 0.90{times} the perplexity in 0.30{times} the simulated "
        "time of sync."
    ]
    assert answers(group_records([sync, slow])) == [
        "sync reached the lowest final perplexity, 5.000, in 16.7 min of simulated time. "
        f"Next is slow: 1.20{times} the perplexity in 0.50{times} the simulated time."
    ]
    assert answers(group_records([slow])) == [
        "slow reached the lowest final perplexity, 6.000, in 8.33 min of simulated time."
    ]


def test_the_answer_says_where_seeds_overlap_and_what_diverged():
    runs = [_with(build_record(v, seed=s), final_perplexity=p + s) for v, p in (("a", 4.0), ("b", 4.5)) for s in (0, 1)]
    assert answers(group_records(runs))[0].endswith("Over the seeds its range overlaps with that of b.")
    apart = [
        _with(run, final_perplexity=run.summary["final_perplexity"] * (3 if run.summary["variant"] == "b" else 1))
        for run in runs
    ]
    assert "overlaps" not in answers(group_records(apart))[0]
    lost = [_with(build_record("sync", barrier=True), final_perplexity=None), build_record("async")]
    assert answers(group_records(lost))[0].endswith("; sync diverged.")
    [only] = answers(group_records([_with(build_record(), final_perplexity=None)]))
    assert only == "No variant has a finite final perplexity in all of its runs."


def test_each_sweep_point_has_its_answer():
    runs = [
        _with(build_record(v, barrier=v == "sync", overrides={"devices.profile": p}), final_perplexity=q)
        for p, v, q in (("none", "sync", 5.0), ("none", "async", 6.0), ("very", "sync", 5.0), ("very", "async", 4.0))
    ]
    first, second = answers(group_records(runs))
    assert first.startswith("At profile=none, sync reached the lowest final perplexity, 5.000")
    assert second.startswith("At profile=very, async reached the lowest final perplexity, 4.000: 0.80")


def test_many_sweep_points_have_a_row_each():
    runs = [
        _with(
            build_record(v, barrier=v == "sync", overrides={"devices.jitter": p}, seed=seed),
            final_perplexity=q + p + 0.1 * seed,
            simulated_seconds=t,
        )
        for p in range(5)
        for v, q, t in (("sync", 5.0, 7200.0), ("async", (6.0, 5.0, 4.0, 4.0, 4.95)[p], 3600.0))
        for seed in (0, 1)
    ]
    groups = group_records(runs)
    assert answers(groups) == [
        "Of 5 sweep points: async reached the lowest final perplexity at 3, sync at 1, several are equal at 1 "
        "(means of 2 runs)."
    ]
    times = "\u00d7"
    assert [list(row.values()) for row in answers_table(groups)] == [
        ["jitter=0", "5.050", "sync", "2 h", "sync", f"1.00{times}", f"1.00{times}", ""],
        ["jitter=1", "6.050", "async and sync", "60 min", "sync", f"1.00{times}", f"0.50{times}", ""],
        ["jitter=2", "6.050", "async", "60 min", "sync", f"0.86{times}", f"0.50{times}", ""],
        ["jitter=3", "7.050", "async", "60 min", "sync", f"0.88{times}", f"0.50{times}", ""],
        ["jitter=4", "9.000", "async", "60 min", "sync", f"0.99{times}", f"0.50{times}", "sync"],
    ]
    assert 'class="answers"' in report_page(runs)
    assert answers_table(group_records(runs[:12])) == []
    lost = [_with(run, final_perplexity=None) for run in runs[-4:]]
    [said] = answers(group_records([*runs[:-4], *lost]))
    assert "Of 5 sweep points: " in said
    assert "all diverged at 1" in said
    baseline = answers_table(group_records([*runs[:-4], *lost[:2], *runs[-2:]]))[-1]
    assert (baseline["perplexity"], baseline["simulated time"]) == ("\u2013", f"0.50{times}")


def test_sweep_points_of_several_experiments_have_their_names():
    runs = [
        _with(build_record(v, barrier=v == "sync"), {"name": f"part {n}"}) for n in range(4) for v in ("sync", "async")
    ]
    assert [row["sweep point"] for row in answers_table(group_records(runs))] == [f"part {n}" for n in range(4)]


def test_a_page_loads_nothing_and_is_the_same_each_time():
    records = [build_record("sync", barrier=True), build_record()]
    page = report_page(records)
    assert page == report_page(records)
    without_scripts = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r"https?://|url\(|@import|<iframe|<object|<embed", without_scripts)
    assert re.findall(r'(?:src|href)="([^"#][^"]*)"', without_scripts) == ["data:,"]
    assert not re.findall(r"<script[^>]+src", page)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in policy


def test_names_from_files_are_text():
    name = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u202e"
    record = _with(build_record(name, overrides={name: name}), {"name": name, "description": name, name: name})
    page = report_page([record, build_record()], unfinished=[name])
    assert page.count("<script>alert") == page.count("<img src=x") == 0
    assert "\u202e" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert _held(page)["looks"][0]["name"].startswith("&lt;/script&gt;&lt;script&gt;alert(1)")


def test_a_page_of_timelines_alone():
    page = report_page([build_record(trainer="null")])
    held = _held(page)
    assert (held["axes"], held["runs"]) == ({}, [[]])
    assert "Nothing was trained. async Nesterov keeps its workers busiest: " in page
    assert "final_perplexity" not in page.split('id="results-table"')[1].split("</table>")[0]
    with pytest.raises(ReportError, match="a target is given, but nothing was trained"):
        report_page([build_record(trainer="null")], targets=[5.0])
    with pytest.raises(ReportError, match="target is 0, but a perplexity to reach is a number above 0"):
        report_page([build_record()], targets=[0.0])


def test_a_page_says_what_the_experiment_asks_what_went_wrong_and_what_did_not_finish():
    record = _with(build_record(), {"description": "Does it pay to wait?"})
    record = dataclasses.replace(record, faults=fault_log([(1.0, 0, "crash"), (2.0, 0, "return")]).frame())
    page = report_page([record], unfinished=["b: failed: out of memory"])
    assert "<p>Does it pay to wait?</p>" in page
    assert "1 point of the sweep not finished, and not in this page" in page
    assert "<li>b: failed: out of memory</li>" in page
    assert "a worker went away without a warning" in page
    assert "a worker went away without a warning" not in report_page([build_record()])


def test_a_page_of_many_variants_holds_some_timelines_and_says_so():
    record = build_record(local_steps=400)
    records = [_with(record, variant=f"v{i}", final_perplexity=100.0 - i) for i in range(TIMELINES + 5)]
    page = report_page(records)
    held = _held(page)
    assert len(held["details"]) == TIMELINES
    assert "0" in held["details"]  # the baseline
    assert str(TIMELINES + 4) in held["details"]  # the best
    assert "1" not in held["details"]
    said = f"the timelines, and the pseudo-gradients, of {TIMELINES} of {TIMELINES + 5} variants and sweep points"
    assert f"this page holds {said}" in page
    assert "holds the timelines" not in report_page(records[:2])


def test_a_report_replaces_a_report_and_nothing_else(tmp_path: Path):
    file = tmp_path / "new" / "report.html"
    assert write_report([build_record()], file) is False
    assert write_report([build_record("another")], file) is True
    assert "another" in file.read_text(encoding="utf-8")
    file.write_text("<html>mine</html>", encoding="utf-8")
    for taken in (file, tmp_path):
        with pytest.raises(ReportError, match="is there, and is no report of tardigrad's: name another file"):
            write_report([build_record()], taken)
    assert file.read_text(encoding="utf-8") == "<html>mine</html>"
    with pytest.raises(ReportError, match="no records given"):
        report_page([])


def test_the_command_writes_a_page_beside_the_runs(tardigrad, tmp_path):
    for index, variant in enumerate(("sync", "async")):
        build_record(variant, barrier=index == 0).write(tmp_path / f"runs/{index}-{variant}")
    names = ("0-sync", "1-async", "2-late", "3-ill")
    plan = [PlannedRun(index, name[2:], name, {}, {}) for index, name in enumerate(names)]
    write_sweep(tmp_path / "runs", "quickstart", plan)
    Failure(plan[3], "MemoryNeedError", "too <large>").write(tmp_path / "runs")
    code, out, err = tardigrad("report", "runs")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"runs/report.html: 2 runs, \d\.\d MB\n2 points not finished: .*\n", out)
    page = (tmp_path / "runs/report.html").read_text(encoding="utf-8")
    assert "<li>late: waiting</li><li>ill: failed: too &lt;large&gt;</li>" in page
    code, out, _ = tardigrad("report", "runs/0-sync", "-o", "runs/report.html")
    assert (code, out.rstrip().endswith("in place of an earlier report")) == (0, True)
    assert tardigrad("report", "runs", "-o", "targets.html", "--target", "7.5", "--target", "6.5")[0] == 0
    targets = (tmp_path / "targets.html").read_text(encoding="utf-8")
    assert "simulated time to perplexity 7.5" in targets
    assert "tokens to perplexity 6.5" in targets
    (tmp_path / "notes.html").write_text("mine")
    code, _, err = tardigrad("report", "runs", "-o", "notes.html")
    assert (code, err.startswith("tardigrad: notes.html: is there, and is no report of tardigrad's")) == (2, True)
    code, _, err = tardigrad("report", "nowhere")
    assert (code, "nowhere: no such folder" in err) == (2, True)


def test_evaluations_at_one_time_are_kept():
    log = EvaluationLog()
    for steps in (0, 50, 50):
        row = {"simulated_s": float(steps), "local_steps": steps, "tokens": steps, "server_updates": 0, "bytes_sent": 0}
        log.append(**row, loss=2.0, perplexity=math.e**2)
    record = dataclasses.replace(build_record(), evaluations=log.frame())
    assert _curves([record], "local_steps")[0]["x"] == [0, 50]  # the last of them counts
    groups = group_records([record, dataclasses.replace(record, summary=record.summary | {"seed": 1})])
    assert curves_of_runs(groups, axes(groups))[0][0]["x"]["local_steps"] == [0, 50, 50]


def test_the_answer_names_the_settings_that_tell_runs_apart():
    runs = [_with(build_record("base"), {"rate": r}, final_perplexity=p) for r, p in ((0.01, 13.23), (0.5, 6.87))]
    assert answers(group_records(runs)) == [
        "base, rate=0.5 reached the lowest final perplexity, 6.870, in 18.7 min of simulated time."
    ]
    assert compared_with(group_records(runs)) == [None, None]
    column = _columns(runs)["rate"]
    assert (column.values, column.about) == (["0.01", "0.5"], "rate, in which runs differ")
    page = report_page([*runs, runs[0]])
    assert "1 run has the settings and the seed of another: counted once" in page
    assert "1 run has the settings" not in report_page(runs)


def test_at_a_sweep_point_what_else_differs_is_named():
    runs = [
        _with(build_record(v, barrier=v == "sync", overrides={"h": h}), {"buffer": b}, final_perplexity=q)
        for h in (1, 2)
        for v, b, q in (("sync", 1, 5.0), ("late", 2, 4.0), ("late", 4, 3.0))
    ]
    first, second = answers(group_records(runs))
    assert first.startswith("At h=1, late, buffer=4 reached the lowest final perplexity, 3.000: 0.60")
    assert " of sync." in first
    assert second.startswith("At h=2, late, buffer=4 reached")


def test_unequal_work_and_other_data_are_said():
    sync = _with(build_record("sync", barrier=True), final_perplexity=5.0, local_steps=28_000, simulated_seconds=1e6)
    late = _with(build_record("late"), final_perplexity=4.0, local_steps=1000, simulated_seconds=1e4)
    times = "\u00d7"
    assert answers(group_records([sync, late])) == [
        f"late reached the lowest final perplexity, 4.000: 0.80{times} the perplexity in 0.01{times} the simulated "
        f"time, with 0.036{times} the local steps of sync."
    ]
    assert _columns([sync, late])["local_steps"].relative
    equal = [_with(run, local_steps=4000) for run in (sync, late)]
    assert not _columns(equal)["local_steps"].relative
    [said] = answers(group_records([sync, _with(late, data_hash="0ther")]))
    assert said.endswith(" They were not evaluated on the same data, so this compares little.")
