import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from simulator.record import UpdateLog
from simulator.report import ReportError, drawings, pseudo_gradients, pseudo_gradients_table
from simulator.report.page.document import report_page
from tests.record.builders import build_record


def diagnosed(variant="async Nesterov", *, momentum=0.5, seed=0):
    """A run of 20 parts, in each of which there are two offers, of norms p and p + 2, and nobody met anybody."""
    record = build_record(variant, seed=seed)
    end_s = record.summary["simulated_seconds"]
    log = UpdateLog()
    for part in range(20):
        for norm in (part, part + 2):
            log.append(
                update_s=(part + 0.5) * end_s / 20, node=-1, fragment=0, version=part, sender=0, round=part,
                staleness=0, outcome="applied", meeting=part, norm=norm, momentum_cosine=momentum, drift=2.0 * norm,
            )  # fmt: skip
    return replace(record, updates=log.frame())


def test_a_row_has_the_means_of_the_offers_of_a_twentieth_of_the_time():
    record = diagnosed()
    table = pseudo_gradients_table(record)
    end_s = record.summary["simulated_seconds"]
    np.testing.assert_allclose(table["simulated_s"], (np.arange(20) + 0.5) * end_s / 20)
    assert table["offers"].tolist() == [2] * 20
    np.testing.assert_allclose(table["norm"], np.arange(20) + 1)
    np.testing.assert_allclose(table["drift"], 2 * np.arange(20) + 2)
    assert (table["momentum_cosine"] == 0.5).all()
    assert table["mean_cosine"].isna().all()


def test_runs_of_a_group_are_pooled_and_others_have_rows_of_their_own():
    table = pseudo_gradients_table([diagnosed(seed=0), diagnosed(seed=1), diagnosed("sync", momentum=-1.0)])
    offers = table.groupby("group", sort=False)["offers"].sum()
    assert offers.to_dict() == {"async Nesterov": 80, "sync": 40}


def test_a_panel_is_drawn_for_what_is_known():
    figure = pseudo_gradients([diagnosed(), diagnosed("none", momentum=math.nan)])
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "norm",
        "cosine with the outer momentum",
        "distance from the server",
    ]
    first, second = figure.axes[0].lines
    np.testing.assert_allclose(first.get_ydata(), np.arange(20) + 1)
    assert np.isnan(figure.axes[1].lines[1].get_ydata()).all()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["async Nesterov", "none"]
    assert first.get_linestyle() != second.get_linestyle()


def test_an_older_record_is_refused_by_name_and_drawn_without():
    older = build_record("older")
    with pytest.raises(ReportError, match=r"^older: seed 0 recorded no diagnostics of its offers: leave it out"):
        pseudo_gradients([diagnosed(), older])
    names = [each.name for each in drawings([diagnosed(), older], figures=["pseudo_gradients"])]
    assert names == ["pseudo_gradients"]
    assert not list(drawings([older], figures=["pseudo_gradients"]))


def test_the_page_holds_them():
    page = report_page([diagnosed()])
    assert '<option value="drift">distance from the server</option>' in page
    assert '"momentum_cosine":[0.5,0.5,' in page
    assert "there are no diagnostics" in report_page([build_record()])
    assert isinstance(pseudo_gradients_table(diagnosed()), pd.DataFrame)
