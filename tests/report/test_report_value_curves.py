"""A result over a key that is a number: table, figure and laws."""

import math

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from simulator.report import ReportError, power_law_rich_table, power_law_table, value_curves, value_table
from tests.record.builders import build_record, like

BASE = build_record(local_steps=400)
H = "inner.local_steps"
SIZES = {"11k": 10_848, "21k": 20_880, "42k": 41_688}


def _run(size, loss, *, variant="plain", seed=0, h=None, **changes):
    overrides = {"size": size} | ({"seed": seed} if seed else {}) | ({H: h} if h else {})
    numbers = {"parameters": SIZES.get(size, 0), "final_loss": loss}
    return like(BASE, variant, seed=seed, overrides=overrides, **(numbers | changes))


def _sweep(exponents=None):
    """Losses that are 20 N^a but for a factor of 1.01 at the second seed."""
    return [
        _run(size, factor * 20.0 * number**exponent, variant=variant, seed=seed)
        for variant, exponent in (exponents or {"plain": -0.1, "DiLoCo": -0.09}).items()
        for size, number in SIZES.items()
        for seed, factor in enumerate((1.0, 1.01))
    ]


def test_the_table_has_the_mean_and_the_range_of_the_seeds_at_every_x():
    table = value_table(_sweep(), "parameters", value="final_loss")
    assert list(table) == ["group", "variant", "parameters", "final_loss", "low", "high", "runs"]
    assert table["group"].tolist() == ["plain"] * 3 + ["DiLoCo"] * 3
    assert table["parameters"].tolist() == list(SIZES.values()) * 2
    exact = 20.0 * np.array(list(SIZES.values())) ** -0.1
    plain = table[table["group"] == "plain"]
    np.testing.assert_allclose(plain[["final_loss", "low", "high"]], np.outer(exact, [1.005, 1.0, 1.01]))
    assert set(table["runs"]) == {2}


def test_the_laws_of_groups():
    """Seeds 1 % apart: the law goes through their geometric means, and every residual of log y is log(1.01) / 2."""
    laws = power_law_table(_sweep(), "parameters", value="final_loss").set_index("group")
    np.testing.assert_allclose(laws["exponent"], [-0.1, -0.09], rtol=1e-9)
    np.testing.assert_allclose(laws["coefficient"], 20.0 * math.sqrt(1.01), rtol=1e-9)
    np.testing.assert_allclose(laws["scatter"], math.log(1.01) / 2 * math.sqrt(6 / 4), rtol=1e-9)
    assert laws[["points", "runs", "first", "last"]].to_numpy().tolist() == [[3, 6, 10_848, 41_688]] * 2
    u = np.log(list(SIZES.values()))
    half = 2.776445 * laws["scatter"] / math.sqrt(2 * ((u - u.mean()) ** 2).sum())  # t of 95 % with 4 degrees
    np.testing.assert_allclose(laws["exponent_high"], laws["exponent"] + half, rtol=1e-6)
    np.testing.assert_allclose(laws["exponent_low"], laws["exponent"] - half, rtol=1e-6)
    assert (laws["coefficient_low"] < laws["coefficient"]).all()
    np.testing.assert_allclose(laws["coefficient_low"] * laws["coefficient_high"], laws["coefficient"] ** 2)


def test_with_a_fit_the_table_has_the_law_and_its_band():
    table = value_table(_sweep(), "parameters", value="final_loss", fit="power")
    assert list(table)[-4:] == ["runs", "law", "law_low", "law_high"]
    laws = power_law_table(_sweep(), "parameters", value="final_loss").set_index("group")
    for group, own in table.groupby("group"):
        law = laws.loc[group]
        np.testing.assert_allclose(own["law"], law["coefficient"] * own["parameters"] ** law["exponent"])
    assert (table["law_low"] < table["law"]).all()
    assert (table["law"] < table["law_high"]).all()


def test_the_figure_draws_the_table_and_the_laws_between_its_ends():
    records = _sweep()
    figure = value_curves(records, "parameters", value="final_loss", fit="power")
    [axes] = figure.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("parameters", "final loss")
    means, law = axes.lines[:2]
    table = value_table(records, "parameters", value="final_loss", fit="power")
    np.testing.assert_allclose(means.get_ydata(), table["final_loss"][:3])
    assert (means.get_linestyle(), law.get_marker()) == ("None", "None")
    np.testing.assert_allclose(law.get_ydata()[[0, -1]], table["law"][[0, 2]])
    np.testing.assert_allclose(law.get_xdata()[[0, -1]], [10_848, 41_688])
    legend = figure.legends[0]
    texts = " ".join(text.get_text() for text in legend.get_texts()).replace("\n", " ")
    assert "plain (exponent \N{MINUS SIGN}0.1, " in texts
    assert "DiLoCo (exponent \N{MINUS SIGN}0.09, " in texts
    assert legend.get_title().get_text() == "mean, min to max, n = 2; power laws with 95 % intervals"


def test_without_a_fit_a_line_goes_through_the_means():
    records = [_run("11k", loss, h=h) for h, loss in ((1, 2.5), (5, 2.4))]
    [axes] = value_curves(records, H, value="final_loss").axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "linear")
    assert axes.lines[0].get_linestyle() == "-"
    wide = [_run("11k", loss, h=h) for h, loss in ((1, 2.5), (100, 2.4))]
    assert value_curves(wide, H, value="final_loss").axes[0].get_xscale() == "log"


def test_runs_that_diverged_are_said_and_not_drawn():
    records = [_run("11k", 3.0), _run("21k", 2.9), _run("42k", None)]
    table = value_table(records, "parameters", value="final_loss")
    assert table["final_loss"].tolist() == [3.0, 2.9, math.inf]
    figure = value_curves(records, "parameters", value="final_loss")
    assert list(figure.axes[0].lines[0].get_xdata()) == [10_848, 20_880]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["plain (1 of 3 diverged)"]


def test_laws_of_what_reaching_a_perplexity_took():
    records = [_run("11k", 1.0, h=h) for h in (1, 2, 4)]
    laws = power_law_table(records, H, value="steps_to_target", target=7.0)
    assert laws["exponent"].item() == pytest.approx(0)
    with pytest.raises(
        ReportError, match="plain: steps_to_target of a run is inf, and a power law goes through finite"
    ):
        power_law_table(records, H, value="steps_to_target", target=1.0)


def test_a_repeated_run_counts_once_and_the_key_itself_tells_no_groups_apart():
    records = _sweep()
    laws = power_law_table([*records, *records[:3]], "parameters", value="final_loss", by=["variant", "parameters"])
    pd.testing.assert_frame_equal(laws, power_law_table(records, "parameters", value="final_loss"))


@pytest.mark.parametrize(
    ("x", "value", "changes", "message"),
    [
        ("size", "final_loss", {}, "plain: size of a run is 11k, and an axis has finite numbers: choose another key"),
        ("paramters", "final_loss", {}, "no run has a key 'paramters'; did you mean 'parameters'?"),
        ("parameters", "final_los", {}, "no run has a number under 'final_los'; did you mean 'final_loss'?"),
        (
            "parameters",
            "final_loss",
            {"by": []},
            "all runs, parameters = 10848: runs of one point differ in variant too",
        ),
        ("parameters", "time_to_target", {}, "time_to_target needs a target"),
        (
            "seed",
            "final_loss",
            {"by": ["variant", "size"]},
            "plain, size=11k: seed of a run is 0, and a power law goes",
        ),
    ],
)
def test_laws_that_cannot_be_had_are_refused(x, value, changes, message):
    with pytest.raises(ReportError, match=message):
        power_law_table(_sweep(), x, value=value, **changes)


def test_a_law_of_one_group_that_cannot_be_had_is_refused_by_its_name():
    records = [run for run in _sweep() if run.summary["variant"] == "plain" or run.summary["parameters"] < 40_000]
    with pytest.raises(
        ReportError, match=r"^DiLoCo: parameters has 2 values \(10848, 20880\), and a power law needs 3"
    ):
        value_curves(records, "parameters", value="final_loss", fit="power")


def test_the_terminal_shows_exponents_with_their_intervals():
    rows = power_law_table(_sweep(), "parameters", value="final_loss")
    console = Console(width=200, record=True)
    console.print(power_law_rich_table(rows, "parameters", "final_loss"))
    text = console.export_text()
    [line] = [line for line in text.splitlines() if line.startswith("plain")]
    ends = ["\N{MINUS SIGN}0.113", "to", "\N{MINUS SIGN}0.0874"]
    assert line.split() == ["plain", "20.1", "\N{MINUS SIGN}0.1", *ends, "0.6", "%", "3", "6"]
    assert "final_loss = coefficient" in text
    assert "Student's interval of the regression, 95 %" in text
