import io
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from simulator.report import ReportError, comparison, comparison_markdown, comparison_table
from simulator.report.comparison import interval
from tests.record.builders import build_record

REFERENCE = {
    "source": "a table",
    "metric": "final_perplexity",
    "baseline": "sync",
    "results": [{"at": {"profile": "very"}, "values": {"sync": 40.0, "async": 44.0}}],
}


def run(variant, seed, perplexity, seconds=100.0, profile="very"):
    return {
        "variant": variant,
        "seed": seed,
        "overrides": {"profile": profile, "seed": seed},
        "final_perplexity": perplexity,
        "final_loss": None if perplexity is None else math.log(perplexity),
        "simulated_seconds": seconds,
        "trainer": "batched",
    }


RUNS = [
    run("sync", 0, 10.0, 200.0),
    run("sync", 1, 20.0, 200.0),
    run("async", 0, 11.0),
    run("async", 1, 26.0),
    run("ours", 0, 9.0, 50.0),
]


def test_ratios_are_taken_seed_by_seed():
    rows = comparison(RUNS, REFERENCE).set_index("variant")
    assert rows["ratio"].to_dict() == pytest.approx({"sync": 1.0, "async": 1.2, "ours": 0.9})
    assert rows["value"].to_dict() == pytest.approx({"sync": 15.0, "async": 18.5, "ours": 9.0})
    assert rows["time_ratio"].to_dict() == pytest.approx({"sync": 1.0, "async": 0.5, "ours": 0.25})
    assert rows["seeds"].to_dict() == {"sync": 2, "async": 2, "ours": 1}
    assert rows.loc["async", ["published", "published_ratio"]].tolist() == pytest.approx([44.0, 1.1])
    assert math.isnan(rows.loc["ours", "published"])
    # Student's t with one degree of freedom is 12.706; the ratios are 1.1 and 1.3
    half = 12.7062 * math.sqrt(0.02) / math.sqrt(2)
    assert (rows.loc["async", "ratio_low"], rows.loc["async", "ratio_high"]) == pytest.approx(
        (1.2 - half, 1.2 + half), abs=1e-4
    )
    assert rows.loc[["sync", "ours"], ["ratio_low", "ratio_high"]].isna().all(axis=None)


def test_points_are_kept_apart_and_published_only_where_meant():
    rows = comparison([*RUNS, run("sync", 0, 8.0, profile="none"), run("async", 0, 12.0, profile="none")], REFERENCE)
    assert rows["point"].tolist() == ["profile=very"] * 3 + ["profile=none"] * 2
    none = rows[rows["point"] == "profile=none"]
    assert none["ratio"].tolist() == [1.0, 1.5]
    assert none["published"].isna().all()


def test_a_run_that_diverged_is_infinitely_bad():
    rows = comparison([*RUNS, run("async", 2, None), run("sync", 2, 10.0)], REFERENCE).set_index("variant")
    assert rows.loc["async", "value"] == rows.loc["async", "ratio"] == math.inf
    assert math.isnan(rows.loc["async", "ratio_low"])
    assert "diverged" in comparison_markdown(rows.reset_index(), REFERENCE)


def test_without_the_baseline_there_is_nothing_to_compare_with():
    with pytest.raises(ReportError, match=r"no trained run of the baseline 'sync' among 1: give its results too"):
        comparison([run("async", 0, 3.0)], REFERENCE)


def test_a_baseline_that_diverged_makes_nothing_better():
    runs = [run("sync", 0, 10.0), run("sync", 1, None), run("async", 0, 11.0), run("async", 1, 12.0)]
    rows = comparison(runs, REFERENCE)
    assert rows["ratio"].isna().all()
    assert rows.set_index("variant").loc["async", "value"] == 11.5


def test_a_run_is_counted_once_and_only_if_it_trained():
    with pytest.raises(ReportError, match=r"variant 'ours' is given twice with seed 0 at profile=very: give it once"):
        comparison([*RUNS, RUNS[-1]], REFERENCE)
    untrained = [run("async", seed, None) | {"trainer": "null"} for seed in (5, 6)]
    assert comparison([*RUNS, *untrained], REFERENCE).equals(comparison(RUNS, REFERENCE))


def test_variants_stand_together_at_their_point():
    runs = [run(variant, 0, 9.0, profile=profile) for variant in ("sync", "async") for profile in ("none", "very")]
    rows = comparison(runs, REFERENCE)
    assert rows["point"].tolist() == ["profile=none"] * 2 + ["profile=very"] * 2
    assert rows["variant"].tolist() == ["sync", "async"] * 2


def test_only_the_variants_that_are_asked_for_in_their_order():
    rows = comparison(RUNS, REFERENCE, variants=["async", "sync"])
    assert rows["variant"].tolist() == ["async", "sync"]
    assert rows["ratio"].tolist() == pytest.approx([1.2, 1.0])


def test_the_interval_covers_the_mean_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(3.0, 2.0, (2000, 4))
    covered = [low <= 3.0 <= high for low, high in map(interval, draws)]
    assert 0.93 < np.mean(covered) < 0.97


def test_the_tables_hold_the_numbers():
    rows = comparison(RUNS, REFERENCE)
    text = comparison_markdown(rows, REFERENCE)
    assert "| async | 44.00 | 1.100 | 18.50 | 1.200 | " in text
    assert "| ours | – | – | 9.000 | 0.900 | – | 0.25× | 1 |" in text  # noqa: RUF001
    assert text.endswith("Published: a table. Ratios are to sync, of the same seed.\n")
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(comparison_table(rows, REFERENCE))
    assert re.search(r"async\s+44.00\s+1.100\s+18.50\s+1.200", console.export_text())


def test_columns_of_published_results_are_left_out_where_there_are_none():
    rows = comparison(RUNS, REFERENCE | {"results": [], "metric": "final_loss"})
    header = comparison_markdown(rows, REFERENCE | {"results": [], "metric": "final_loss"}).split("\n")[0]
    assert header == "| variant | loss here | ratio here | 95 % interval | simulated time | seeds |"


def record(variant, seed, perplexity, *, steps=400, trainer="batched", **settings):
    found = build_record(variant, seed=seed, local_steps=200, trainer=trainer)
    changes = {"final_perplexity": perplexity, "local_steps": steps}
    return replace(found, experiment=found.experiment | settings, summary=found.summary | changes)


def test_runs_of_other_settings_are_compared_with_those_of_the_same():
    runs = [record(v, s, p * r, rate=r) for r in (1, 2) for v, p in (("sync", 10.0), ("late", 12.0)) for s in (0, 1)]
    rows = comparison(runs, REFERENCE)
    assert rows["point"].tolist() == ["rate=1", "rate=1", "rate=2", "rate=2"]
    assert rows["value"].tolist() == pytest.approx([10.0, 12.0, 20.0, 24.0])
    assert rows["ratio"].tolist() == pytest.approx([1.0, 1.2, 1.0, 1.2])
    assert rows["seeds"].tolist() == [2] * 4
    one = comparison(
        [run for run in runs if run.summary["variant"] == "late" or run.experiment["rate"] == 1], REFERENCE
    )
    assert one.set_index("point")["ratio"].to_dict() == pytest.approx({"": 1.0, "rate=1": 1.2, "rate=2": 2.4})


def test_a_record_that_is_given_twice_counts_once():
    runs = [record("sync", 0, 10.0), record("sync", 1, 12.0), record("sync", 0, 10.0)]
    rows = comparison(runs, REFERENCE)
    assert (rows["seeds"].tolist(), rows["value"].tolist()) == ([2], [11.0])


def test_unequal_work_is_in_the_caption():
    runs = [
        record("sync", 0, 10.0, steps=4000),
        record("late", 0, 12.0, steps=1000),
        record("near", 0, 9.0, steps=4010),
    ]
    rows = comparison(runs, REFERENCE)
    assert rows["steps_ratio"].tolist() == [1.0, 0.25, 1.0025]
    caption = comparison_markdown(rows, REFERENCE).splitlines()[-1]
    assert caption.endswith("of the same seed. The work is not equal: its local steps are 0.25× for late.")  # noqa: RUF001
