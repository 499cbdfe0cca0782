"""Tables and figure of a plan."""

from typing import Any

import pytest

from simulator.report import ReportError, plan_figure, plan_markdown, plan_notes
from simulator.report.plan import bandwidth_cells, plan_cells

GROUP = {"label": "T4", "workers": 2, "compute": 0.5, "communicate": 0.3, "wait": 0.2, "last": 0.75}
ROW: dict[str, Any] = {
    "label": "DiLoCo",
    "totals": {
        "simulated_time": 7200.0,
        "local_steps": 20.0,
        "tokens": 2e9,
        "rounds": 10.0,
        "server_updates": 10.0,
        "bytes_up": 3e12,
        "bytes_down": 1e12,
        "money": 12.5,
    },
    "simulated_rounds": 1234,
    "extrapolated": True,
    "utilization": 0.5,
    "staleness": [1.5, 3],
    "currency": "USD",
    "bandwidth": {"0.5": 0.25, "0.9": None, "0.99": 0.0},
    "base": [125e6, 1.25e9],
    "searched_rounds": 40,
    "within": 1.02,
    "is_limited": True,
    "unlimited": [0.8, 0.05, 0.15],
    "groups": [GROUP | {"bytes_up": 1e12, "bytes_down": 1e12}],
    "fits": [
        {
            "index": 0,
            "name": "T4",
            "group": 1,
            "memory": 16e9,
            "needs": {"parts": {"parameters": 4e9, "gradients": 8e9}},
        },
        {"index": 1, "name": "A100", "group": 1, "memory": 80e9, "needs": {"parts": {"parameters": 12e9}}},
    ],
}


def test_cells_say_numbers_with_their_units():
    assert plan_cells(ROW) == {
        "simulated\ntime": "~2 h",
        "utili-\nzation": "50.0 %",
        "tokens": "~2 G",
        "data up": "~3 TB",
        "data down": "~1 TB",
        "data of a\nworker": "~2 TB",
        "staleness\nmean / max": "1.50 / 3",
        "money\nUSD": "~12.50",
        "memory\nneeded": "12 GB of\n16 GB, T4",
    }
    exact = plan_cells(ROW | {"extrapolated": False, "totals": ROW["totals"] | {"money": None}, "fits": []})
    assert (exact["simulated\ntime"], exact["tokens"]) == ("2 h", "2 G")
    assert not {"money\nUSD", "memory\nneeded"} & exact.keys()


def test_bandwidths_are_multiples_and_what_that_is():
    assert bandwidth_cells(ROW) == {"50 %": "0.25×\n0.25 to 2.5 Gbit/s", "90 %": "not reached", "99 %": "any"}  # noqa: RUF001
    assert bandwidth_cells(ROW | {"is_limited": False, "base": [125e6, 125e6]})["50 %"] == "0.25 Gbit/s"


def test_what_is_not_exact_or_not_reached_is_said():
    assert list(plan_notes([ROW])) == [
        "DiLoCo: extrapolated from 1,234 rounds; ~ marks the numbers",
        "DiLoCo: 90 % not reached: with unlimited links workers compute 80.0 % of the time, wait 15.0 %, for T4 most "
        "often, and communicate 5.0 %, which is latency",
        "DiLoCo: memory of activations is not counted: give model.width",
    ]
    plain = ROW | {"extrapolated": False, "bandwidth": {"0.5": 1.0}, "fits": [], "is_limited": False}
    assert list(plan_notes([plain])) == ["no link is limited: bandwidths are those that all workers' links would need"]


def test_a_page_has_the_same_cells():
    first, second = plan_markdown([ROW]).split("\n\n")
    assert first.splitlines()[0].startswith("| variant | simulated time | utilization | tokens |")
    assert first.splitlines()[2].startswith("| DiLoCo | ~2 h | 50.0 % | ~2 G | ~3 TB |")
    assert second.splitlines()[2] == "| DiLoCo | 0.25× 0.25 to 2.5 Gbit/s | not reached | any |"  # noqa: RUF001


@pytest.mark.parametrize("money", [12.5, None])
def test_the_figure_has_a_row_for_each_variant(money: float | None):
    rows = [ROW | {"label": label, "totals": ROW["totals"] | {"money": money}} for label in ("one", "other", "third")]
    figure = plan_figure(rows)
    time, shares, *_ = axes = figure.axes
    assert len(axes) == (4 if money else 3)
    assert [label.get_text() for label in time.get_yticklabels()] == ["one", "other", "third"]
    assert [patch.get_width() for patch in time.patches] == [2.0] * 3
    assert [patch.get_width() for patch in shares.patches] == pytest.approx([0.5] * 3 + [0.3] * 3 + [0.2] * 3)


def test_no_rows_are_refused():
    with pytest.raises(ReportError, match="no variant"):
        plan_figure([])
