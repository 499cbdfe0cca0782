"""Whatever a figure shows can be had as a table with one call, and everything public is documented."""

import inspect
import io

import numpy as np
import pandas as pd
import pytest

from simulator import report
from simulator.host.nodes import SERVER
from simulator.report import csv_text, drawings, save_table, staleness, staleness_table, timeline_table, write_figures
from simulator.report.spans import UPDATE
from tests.record.builders import build_record, like

FIGURES = {
    "perplexity_curves": "perplexity_table",
    "pareto": "pareto_table",
    "pseudo_gradients": "pseudo_gradients_table",
    "staleness": "staleness_table",
    "utilization": "utilization_table",
    "heat_map": "heat_map_table",
    "timeline": "timeline_table",
    "value_curves": "value_table",
}


def test_every_figure_has_a_table():
    drawn = {
        name
        for name in report.__all__
        if inspect.isfunction(function := getattr(report, name))
        and inspect.signature(function, eval_str=True).return_annotation is report.figure_files.Figure
    }
    assert drawn - {"plan_figure"} == set(FIGURES)  # of no runs: the rows that it is given are its table
    for name in FIGURES.values():
        assert inspect.signature(getattr(report, name), eval_str=True).return_annotation is pd.DataFrame


@pytest.mark.parametrize("name", report.__all__)
def test_everything_public_is_documented(name):
    public = getattr(report, name)
    if not inspect.isfunction(public) and not inspect.isclass(public):
        return
    text = inspect.getdoc(public) or ""
    assert len(text) > 40
    if inspect.isfunction(public):
        parameters = list(inspect.signature(public).parameters)
        several = len(parameters) > 2
        assert not several or "Args:" in text, "arguments are not explained"
        described = text.partition("Args:")[2]
        assert not described or all(f"{name}:" in described for name in parameters)
        if FIGURES.keys() & {name}:
            assert "size: Width and height in inches." in text


def test_the_staleness_table_holds_what_is_drawn():
    records = [build_record("async", seed=seed) for seed in range(2)] + [build_record("sync", barrier=True)]
    table = staleness_table(records)
    assert list(table.columns[:4]) == ["group", "variant", "place", "rounds"]
    of_all = table["place"] == "all"
    rounds = sum(len(record.rounds) for record in records)
    assert table.loc[of_all, "rounds"].sum() == table.loc[~of_all, "rounds"].sum() == rounds
    stale = np.concatenate([r.rounds.loc[r.rounds["worker"] == 3, "staleness"] for r in records[:2]])
    row = table.set_index(["group", "place"]).loc[("async", "3")]
    quartiles = np.quantile(stale, [0, 0.25, 0.75, 1])
    np.testing.assert_allclose(row[["min", "first_quartile", "third_quartile", "max"]].to_numpy(float), quartiles)
    markers = [line for line in staleness(records).axes[0].lines if line.get_marker() != "None"]
    assert sorted(line.get_ydata()[0] for line in markers) == sorted(table.loc[~of_all, "mean"])


def test_the_timeline_table_holds_every_phase_of_every_round():
    record = build_record(barrier=True)
    table = timeline_table(record, last_s=np.inf)
    spent = (table["last_s"] - table["first_s"]).groupby(table["what"]).sum()
    assert spent["compute"] == pytest.approx((record.rounds["push_start_s"] - record.rounds["compute_start_s"]).sum())
    assert (table["what"] == "compute").sum() == len(record.rounds)
    updates = table[table["worker"] == SERVER]
    assert set(updates["what"]) == {UPDATE}
    assert len(updates) == record.summary["server_updates"]
    part = timeline_table(record, first_s=200.0, last_s=210.0)
    assert part["first_s"].max() <= 210.0
    assert part["last_s"].min() >= 200.0


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tables_are_written_beside_their_figures(tmp_path, suffix):
    records = [build_record("a"), build_record("b", barrier=True)]
    paths = write_figures(records, tmp_path, tables=suffix, figures=["perplexity", "utilization"], targets=[7.0])
    assert [path.name for path in paths] == [
        f"{name}.{end}"
        for name in ("perplexity_vs_time", "perplexity_vs_local_steps", "utilization")
        for end in ("png", "svg", suffix)
    ]
    read = pd.read_csv if suffix == "csv" else pd.read_parquet
    for drawing in drawings(records, figures=["perplexity", "utilization"]):
        pd.testing.assert_frame_equal(read(tmp_path / f"{drawing.name}.{suffix}"), drawing.table(), check_dtype=False)


def test_a_pivot_table_keeps_its_keys(tmp_path):
    index = pd.MultiIndex.from_tuples([("a", 50), ("a", 100)], names=["variant", "inner.local_steps"])
    table = pd.DataFrame([[1.0, np.nan], [3.0, np.inf]], index=index, columns=pd.Index([0.1, 0.2], name="x"))
    assert csv_text(table) == "variant,inner.local_steps,0.1,0.2\na,50,1.0,\na,100,3.0,inf\n"
    read = pd.read_parquet(save_table(table, tmp_path / "pivot.parquet"))
    assert list(read.columns) == ["variant", "inner.local_steps", "0.1", "0.2"]
    assert pd.read_csv(io.StringIO(csv_text(table))).shape == (2, 4)


def test_money_has_a_figure_where_all_have_prices():
    records = [build_record("a"), build_record("b")]
    assert "perplexity_vs_money" not in [drawing.name for drawing in drawings(records)]
    for record in records:
        record.experiment["cluster"]["devices"] = {"price_per_hour": 2.0}
    assert "perplexity_vs_money" in [drawing.name for drawing in drawings(records)]


def test_more_groups_than_one_figure_tells_apart_have_numbered_figures():
    base = build_record(local_steps=50)
    records = [like(base, f"variant {number}") for number in range(101)]
    names = [drawing.name for drawing in drawings(records, figures=["perplexity", "staleness"], against=["tokens"])]
    assert names == [*(f"perplexity_vs_tokens_{part}" for part in (1, 2, 3)), "staleness_1", "staleness_2"]


def test_many_groups_have_a_row_of_staleness_each():
    base = build_record(local_steps=400)
    records = [like(base, f"variant {number}") for number in range(13)]
    (axes,) = staleness(records).axes
    table = staleness_table(records)
    assert [text.get_text() for text in axes.get_yticklabels()] == [f"variant {number}" for number in range(13)]
    (means,) = axes.lines
    np.testing.assert_allclose(means.get_xdata(), table.loc[table["place"] == "all", "mean"])
    with pytest.raises(report.ReportError, match="101 groups in one figure, of which at most 100 fit"):
        staleness([like(base, str(number)) for number in range(101)])


def test_groups_of_drawings_are_those_that_were_asked_for():
    records = [build_record(v, overrides={"inner.local_steps": h}, local_steps=400) for v in "ab" for h in (50, 100)]
    names = [drawing.name for drawing in drawings(records, by=["variant"])]
    assert names[-2:] == ["timeline_a", "timeline_b"]
    table = next(drawings(records, by=["inner.local_steps"])).table()
    assert set(table["group"]) == {"local_steps=50", "local_steps=100"}
