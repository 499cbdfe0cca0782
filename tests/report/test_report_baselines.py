from dataclasses import replace

import pytest

from simulator.report import group_records, time_to_target
from simulator.report.baselines import baseline_runs, baselines, by_point, unequal, without_lonely
from tests.record.builders import build_record


def _run(variant, seed=0, *, overrides=None, stale=3, **settings):
    record = build_record(variant, seed=seed, local_steps=200, overrides=overrides)
    summary = record.summary | {"max_staleness": 0 if variant == "sync" else stale}
    return replace(record, experiment=record.experiment | settings, summary=summary)


def _of(records, variant=None, by=None):
    groups = group_records(records, by)
    found = baselines(groups, variant)
    return {group.label: None if of is None else groups[of].label for group, of in zip(groups, found, strict=True)}


def test_each_sweep_point_has_its_own_baseline_the_first_synchronous_or_the_first():
    records = [_run(v, overrides={"h": h}) for h in (1, 2) for v in ("late", "sync")]
    assert _of(records) == {f"{v}, h={h}": f"sync, h={h}" for h in (1, 2) for v in ("late", "sync")}
    assert _of([_run("a"), _run("b")]) == {"a": "a", "b": "a"}
    assert _of(records, "late")["sync, h=2"] == "late, h=2"


def test_settings_that_tell_the_baseline_apart_tell_whom_it_is_for():
    records = [_run(v, rate=rate) for rate in (1, 2) for v in ("sync", "late")]
    assert _of(records) == {f"{v}, rate={rate}": f"sync, rate={rate}" for rate in (1, 2) for v in ("sync", "late")}
    # of settings in which it does not differ it says nothing: it is for all
    assert _of([_run("sync"), _run("late", buffer=2), _run("late", buffer=4)]) == {
        "sync": "sync",
        "late, buffer=2": "sync",
        "late, buffer=4": "sync",
    }
    assert _of([_run("sync", rate=1), _run("sync", rate=2), _run("late", rate=3)])["late"] is None


def test_groups_of_other_experiments_and_by_other_keys_are_not_compared():
    records = [_run("sync"), replace(_run("late"), experiment=_run("late").experiment | {"name": "other"})]
    assert _of(records) == {"quickstart: sync": "quickstart: sync", "other: late": "other: late"}
    assert without_lonely(baselines(group_records(records))) == [None, None]
    swept = [_run(v, overrides={"h": h}) for h in (1, 2) for v in ("sync", "late")]
    assert _of(swept, by=["h"]) == {"h=1": None, "h=2": None}
    assert _of(swept, by=["variant"]) == {"sync": "sync", "late": "sync"}
    assert _of(swept, by=["h", "variant"])["h=2, late"] == "h=2, sync"


def test_rows_stand_together_by_sweep_point():
    records = [_run(v, overrides={"h": h}) for v in ("sync", "late") for h in (1, 2)]
    assert [group.label for group in by_point(group_records(records))] == [
        *("sync, h=1", "late, h=1"),
        *("sync, h=2", "late, h=2"),
    ]


def test_runs_of_the_baseline_are_of_the_same_seed():
    records = [_run(v, seed) for v, seeds in (("sync", (0, 1)), ("late", (1, 2))) for seed in seeds]
    found = baseline_runs(group_records(records), "sync")
    assert [found.get(id(record)) for record in records] == [records[0], records[1], records[1], None]


def test_ratios_of_a_target_are_to_runs_of_the_same_settings():
    records = [_run(v, transfer=t) for t in (1, 2) for v in ("sync", "late")]
    slow = replace(records[2], evaluations=records[2].evaluations.assign(simulated_s=lambda t: 10 * t["simulated_s"]))
    table = time_to_target([*records[:2], slow, records[3]], 7.0).set_index("group")["simulated_s_ratio"]
    assert table["late, transfer=1"] == pytest.approx(1.0)
    assert table["late, transfer=2"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("ratio", "is_unequal"), [(1.0, False), (1.04, False), (0.96, False), (1.06, True), (0.5, True)]
)
def test_work_is_unequal_beyond_what_the_last_round_explains(ratio, is_unequal):
    assert unequal(ratio) is is_unequal
    assert not unequal(None)
    assert not unequal(float("nan"))
