import math

import pytest

from simulator.report import drawings, pareto, pareto_table
from tests.record.builders import build_record, like

CHEAP, GOOD, BEATEN = (10.0, 9.0), (100.0, 5.0), (100.0, 7.0)


def run(variant, cost, perplexity, *, seed=0, **overrides):
    record = build_record(variant, overrides=overrides)
    changes = {"simulated_seconds": cost, "final_perplexity": perplexity, "bytes_sent": 7, "seed": seed}
    return like(record, variant, **changes)


RECORDS = [run("cheap", *CHEAP), run("good", *GOOD), run("beaten", *BEATEN), run("lost", 1.0, math.inf)]


def test_the_front_is_of_those_that_none_beats():
    table = pareto_table(RECORDS).set_index("group")
    assert table["on_front"].to_dict() == {"cheap": True, "good": True, "beaten": False, "lost": False}
    assert math.isnan(table.loc["lost", "final_perplexity"])
    assert table["simulated_s"].tolist() == [10.0, 100.0, 100.0, 1.0]


def test_who_costs_as_much_and_reaches_as_far_is_on_the_front_too():
    table = pareto_table([*RECORDS, run("twin", *GOOD)]).set_index("group")
    assert table.loc["twin", "on_front"]
    assert table.loc["good", "on_front"]
    by_bytes = pareto_table(RECORDS, against="bytes_sent").set_index("group")
    assert by_bytes["on_front"].tolist() == [False, True, False, False]


def test_runs_of_several_seeds_have_a_mean_and_a_range():
    table = pareto_table([run("one", 10.0, 8.0), run("one", 30.0, 6.0, seed=1)])
    row = table.iloc[0]
    assert (row["runs"], row["final_perplexity"], row["simulated_s"]) == (2, 7.0, 20.0)
    assert (row["final_perplexity_low"], row["final_perplexity_high"]) == (6.0, 8.0)


def test_clusters_have_a_panel_and_a_front_each():
    records = [run(variant, *result, network=network) for network in ("slow", "fast") for variant, result in (
        ("cheap", CHEAP), ("good", GOOD), ("beaten", BEATEN))]  # fmt: skip
    table = pareto_table(records)
    assert table.groupby("panel", sort=False)["on_front"].sum().to_dict() == {"network=slow": 2, "network=fast": 2}
    figure = pareto(records)
    assert [axes.get_title() for axes in figure.axes] == ["network=slow", "network=fast"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["cheap", "good", "beaten"]
    steps = figure.axes[0].lines[-1]
    assert steps.get_ydata().tolist() == [9.0, 5.0]
    assert [text.get_text() for text in figure.axes[0].texts] == ["cheap", "good"]
    assert figure.axes[0].get_xscale() == "log"  # ten times as long


@pytest.mark.parametrize(
    ("against", "name"), [(None, ["pareto_vs_time", "pareto_vs_bytes_sent"]), (["tokens"], ["pareto_vs_tokens"])]
)
def test_it_is_drawn_where_it_is_asked_for(against, name):
    assert [each.name for each in drawings(RECORDS, against, figures=["pareto"])] == name
    assert "pareto" not in " ".join(each.name for each in drawings(RECORDS))
