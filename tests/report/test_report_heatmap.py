import math
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import LogNorm

from simulator.report import ReportError, heat_map, heat_map_table
from tests.record.builders import build_record, like

BASE = build_record(local_steps=400)
X, Y = "inner.learning_rate", "inner.local_steps"


def _run(x, y, value, *, variant="a", seed=0, **changes):
    overrides = {X: x, Y: y} | ({"seed": seed} if seed else {})
    return like(BASE, variant, seed=seed, overrides=overrides, final_perplexity=value, **changes)


def _grid(variant="a", without=()):
    return [
        _run(x, y, 1.0 + i + 10 * j, variant=variant)
        for i, x in enumerate((0.1, 0.01, 0.3))
        for j, y in enumerate((100, 50))
        if (x, y) not in without
    ]


def _texts(axes):
    return {(round(t.get_position()[0]), round(t.get_position()[1])): t.get_text() for t in axes.texts}


def test_the_pivot_table_has_numbers_in_ascending_order():
    table = heat_map_table(_grid(), X, Y)
    assert list(table.columns) == [0.01, 0.1, 0.3]
    assert list(table.index) == [("a", 50), ("a", 100)]
    assert (table.columns.name, table.index.names) == (X, ["variant", Y])
    np.testing.assert_allclose(table.to_numpy(), [[12.0, 11.0, 13.0], [2.0, 1.0, 3.0]])


def test_cells_show_what_the_table_holds():
    figure = heat_map(_grid(), X, Y)
    axes, bar = figure.axes
    assert _texts(axes)[0, 0] == "12.00"
    assert _texts(axes)[2, 1] == "3.000"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0.01", "0.1", "0.3"]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("learning rate", "local steps", "a")
    assert bar.get_ylabel() == "final perplexity"
    assert figure.legends == []


def test_seeds_are_averaged_and_one_panel_per_variant_shares_a_scale():
    records = [
        _run(0.1, h, v + s, seed=s, variant=name) for name in "ab" for h, v in ((1, 2.0), (2, 200.0)) for s in (0, 2)
    ]
    table = heat_map_table(records, X, Y)
    np.testing.assert_allclose(table.to_numpy().ravel(), [3.0, 201.0] * 2)
    figure = heat_map(records, X, Y)
    assert [axes.get_title() for axes in figure.axes[:2]] == ["a", "b"]
    assert len(figure.axes) == 3  # with one scale


def test_missing_and_diverged_cells_are_told_apart():
    records = [*_grid(without={(0.1, 100), (0.3, 50)}), _run(0.1, 100, None)]
    table = heat_map_table(records, X, Y)
    np.testing.assert_array_equal(table.to_numpy(), [[12.0, 11.0, math.nan], [2.0, math.inf, 3.0]])
    figure = heat_map(records, X, Y)
    texts = _texts(figure.axes[0])
    assert (2, 0) not in texts
    assert texts[1, 1] == "∞"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["no run", "diverged"]


def test_what_reaching_a_target_took():
    records = _grid()
    table = heat_map_table(records, X, Y, value="steps_to_target", target=7.0)
    assert table.to_numpy().std() == 0.0
    assert 0 < table.iloc[0, 0] < 400
    assert np.isinf(heat_map_table(records, X, Y, value="time_to_target", target=1.0).to_numpy()).all()
    figure = heat_map(records, X, Y, value="time_to_target", target=7.0)
    assert figure.axes[1].get_ylabel() == "time to perplexity 7 (s)"
    never = heat_map(records, X, Y, value="time_to_target", target=1.0)
    assert [text.get_text() for text in never.legends[0].get_texts()] == ["never reached"]


def test_any_number_of_the_summary_and_money():
    records = [_run(0.1, h, 5.0, utilization=u) for h, u in ((1, 0.5), (2, 0.25))]
    assert heat_map_table(records, X, Y, value="utilization").to_numpy().ravel().tolist() == [0.5, 0.25]
    assert _texts(heat_map(records, X, Y, value="utilization").axes[0])[0, 0] == "50.0 %"
    priced = [
        replace(record, experiment=record.experiment | {"cluster": {"devices": {"price_per_hour": 9.0}}})
        for record in records
    ]
    hours = records[0].summary["simulated_seconds"] / 3600
    assert heat_map_table(priced, X, Y, value="money").iloc[0, 0] == pytest.approx(4 * 9 * hours)


def test_results_far_apart_have_a_logarithmic_scale():
    figure = heat_map([_run(0.1, h, v) for h, v in ((1, 2.0), (2, 2000.0))], X, Y)
    assert figure.axes[1].yaxis.get_scale() == "log"
    assert isinstance(figure.axes[1]._colorbar.norm, LogNorm)


def test_variants_may_be_an_axis():
    table = heat_map_table([*_grid("a"), *_grid("b")], X, "variant", by=[Y])
    assert list(table.index) == [(50, "a"), (50, "b"), (100, "a"), (100, "b")]
    alone = heat_map_table([_run(0.1, 1, 2.0), _run(0.1, 1, 3.0, variant="b")], X, "variant")
    assert list(alone.index) == [("a",), ("b",)]
    assert alone.to_numpy().ravel().tolist() == [2.0, 3.0]


def test_runs_of_one_cell_must_be_repeats():
    unlike = [
        replace(r, summary=r.summary | {"overrides": {**r.summary["overrides"], "size": i}})
        for i, r in enumerate(_grid())
    ]
    with pytest.raises(ReportError, match=r"differ in inner.local_steps and size too: add that to"):
        heat_map_table(unlike, X, "variant", by=[])
    with pytest.raises(ReportError, match="runs of one cell differ in variant too"):
        heat_map_table([*_grid("a"), *_grid("b")], X, Y, by=[])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": "final_perplexty"}, "no run has a number under 'final_perplexty'; did you mean 'final_perplexity'"),
        ({"value": "variant"}, "no run has a number under 'variant'"),
        ({"value": "time_to_target"}, "time_to_target needs a target: say which perplexity is to be reached"),
        ({"target": 3.0}, "final_perplexity has no target: leave it out, or choose one of time_to_target"),
        ({"value": "money"}, "its experiment gives no prices"),
        ({"y": "inner.lokal_steps"}, "no run has a key 'inner.lokal_steps'; did you mean 'inner.local_steps'"),
        ({"y": X}, "both axes are 'inner.learning_rate': choose two keys"),
    ],
)
def test_what_cannot_be_shown_is_refused(changes, message):
    settings = {"x": X, "y": Y} | changes
    with pytest.raises(ReportError, match=message):
        heat_map_table(_grid(), settings.pop("x"), settings.pop("y"), **settings)


def test_more_cells_than_can_be_read_are_refused():
    with pytest.raises(ReportError, match=r"inner.local_steps has 41 values, of which at most 40 can be read"):
        heat_map([_run(0.1, h, 5.0) for h in range(41)], X, Y)


def test_runs_of_one_cell_with_other_settings_are_refused_and_a_run_given_twice_counts_once():
    first = _run(0.1, 1, 2.0)
    other = replace(_run(0.1, 1, 4.0), experiment=first.experiment | {"batch_size": 8})
    with pytest.raises(ReportError, match="runs of one cell differ in batch_size too: add that to the keys"):
        heat_map_table([first, other], X, Y)
    assert heat_map_table([first, other], X, Y, by=["batch_size"]).to_numpy().ravel().tolist() == [4.0, 2.0]
    assert heat_map_table([first, _run(0.1, 1, 2.0), _run(0.1, 1, 5.0, seed=1)], X, Y).to_numpy().tolist() == [[3.5]]
