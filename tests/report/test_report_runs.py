"""Many runs as frames, and their comparison."""

from dataclasses import replace

import pytest

from simulator.record import RecordError
from simulator.report import Runs, read_runs
from tests.record.builders import build_record


def _run(variant, seed, perplexity, *, seconds=100.0, steps=400, overrides=None, **settings):
    record = build_record(variant, seed=seed, local_steps=200, overrides=overrides)
    changes = {"final_perplexity": perplexity, "simulated_seconds": seconds, "local_steps": steps}
    return replace(record, experiment=record.experiment | settings, summary=record.summary | changes)


def test_runs_of_other_settings_are_rows_of_their_own():
    runs = Runs([_run("base", 0, 13.0, rate=0.01), _run("base", 0, 7.0, rate=0.5), _run("base", 1, 8.0, rate=0.5)])
    compared = runs.compare("base")
    assert compared.index.names == ["variant", "rate"]
    assert compared["perplexity"].to_dict() == {("base", 0.01): 13.0, ("base", 0.5): 7.5}
    assert compared["runs"].tolist() == [1, 2]
    assert compared["perplexity_ratio"].tolist() == [1.0, 1.0]
    assert runs.frame()["rate"].tolist() == [0.01, 0.5, 0.5]
    assert runs.evaluations().groupby("rate").size().to_dict() == {0.01: 2, 0.5: 4}
    assert "rate" in runs._repr_html_()


def test_ratios_are_to_the_baseline_of_the_same_settings_and_seed_and_say_where_work_is_unequal():
    runs = Runs(
        [
            *(_run("sync", seed, 10.0 + seed, rate=rate) for rate in (1, 2) for seed in (0, 1)),
            *(_run("late", seed, 20.0 * rate, rate=rate, steps=100 * rate) for rate in (1, 2) for seed in (0, 2)),
        ]
    )
    compared = runs.compare("sync")
    # seed 0 is beside seed 0, seed 2 beside the mean of the baseline's seeds
    assert compared.loc[("late", 2), "perplexity_ratio"] == pytest.approx((40 / 10 + 40 / 10.5) / 2)
    assert compared["steps_ratio"].to_dict() == {("sync", 1): 1, ("sync", 2): 1, ("late", 1): 0.25, ("late", 2): 0.5}
    alone = Runs([run for run in runs if run.summary["variant"] == "late" or run.experiment["rate"] == 1])
    assert alone.compare("sync").loc[("late", 2), "perplexity_ratio"] == pytest.approx((40 / 10 + 40 / 10.5) / 2)


def test_a_run_that_is_given_twice_has_its_row_and_counts_once():
    runs = Runs([_run("a", 0, 5.0), _run("a", 1, 6.0), _run("a", 0, 5.0)])
    assert runs.compare("a")["runs"].tolist() == [2]
    assert runs.compare("a")["perplexity"].tolist() == [5.5]
    assert runs.frame()["seed"].tolist() == [0, 1, 0]


def test_settings_that_are_called_as_numbers_of_the_summary_have_columns_of_their_own():
    runs = Runs([_run("a", 0, 5.0, overrides={"workers": n}) for n in (1, 2)])
    assert runs.frame()[["overrides.workers", "workers"]].values.tolist() == [[1, 4], [2, 4]]
    assert runs.compare("a").index.names == ["variant", "overrides.workers"]


def test_experiments_of_other_names_are_not_averaged():
    runs = Runs([build_record("a", name=name, local_steps=200) for name in ("one", "two")])
    assert runs.compare("a").index.tolist() == [("one", "a"), ("two", "a")]
    assert runs.frame()["name"].tolist() == ["one", "two"]


def test_money_is_a_column_where_summaries_have_some():
    runs = Runs([_run("a", 0, 5.0), _run("b", 0, 5.0)])
    assert "money" not in runs.frame()
    priced = replace(runs[0], summary=runs[0].summary | {"money": 3.0, "currency": "EUR"})
    assert Runs([priced, runs[1]]).frame()["money"].tolist()[0] == 3.0
    assert "<th>money</th>" in Runs([priced])._repr_html_()
    assert "EUR" in priced._repr_html_()


def test_folders_are_read_by_paths_or_text_one_or_several(tmp_path):
    for name in "ab":
        build_record(name, local_steps=200).write(tmp_path / name)
    for given, names in ((tmp_path, "ab"), (str(tmp_path / "a"), "a"), ([str(tmp_path / "b"), tmp_path / "a"], "ba")):
        assert "".join(record.summary["variant"] for record in read_runs(given)) == names
    with pytest.raises(RecordError, match=r"RunRecord is given, and the path of a folder is needed: 'runs/mine', say"):
        read_runs(read_runs(tmp_path))
    with pytest.raises(RecordError, match="NoneType is given, and the path of a folder is needed"):
        read_runs(None)
