import math

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from simulator.record import RunRecord
from simulator.report import ReportError, perplexity_curves, perplexity_table
from simulator.report.axes import log_ticks
from tests.record.builders import build_record, like

VARIANTS = ("sync DiLoCo", "async Nesterov", "delayed Nesterov", "delayed Nesterov + DyLU")


def _lines(figure):
    """The variants' curves, without the ring at the start and the line of the best possible."""
    return [line for line in figure.axes[0].lines if line.get_markevery() is not None]


def _bands(figure):
    return [collection for collection in figure.axes[0].collections if isinstance(collection, PolyCollection)]


def _legend(figure):
    (legend,) = figure.legends
    title = legend.get_title().get_text()
    return title, [text.get_text() for text in legend.get_texts() if text.get_text() != "common start"]


def _legend_entries(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def _texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def _with_evaluations(record, evaluations):
    return RunRecord(
        experiment=record.experiment, summary=record.summary, rounds=record.rounds, evaluations=evaluations
    )


def test_one_curve_per_variant_with_the_values_of_the_record():
    records = [build_record(name, perplexities=(9.0, 6.0 + i)) for i, name in enumerate(VARIANTS)]
    figure = perplexity_curves(records)
    lines = _lines(figure)
    assert len(lines) == len(VARIANTS)
    for line, record in zip(lines, records, strict=True):
        np.testing.assert_allclose(line.get_xdata(), record.evaluations["simulated_s"] / 60)
        np.testing.assert_allclose(line.get_ydata(), record.evaluations["perplexity"])
    assert _legend(figure) == ("", list(VARIANTS))
    assert _bands(figure) == []


@pytest.mark.parametrize(
    ("against", "steps", "label"),
    [
        ("simulated_s", 400, "simulated time (s)"),
        ("simulated_s", 4000, "simulated time (min)"),
        ("simulated_s", 50_000, "simulated time (h)"),
        ("local_steps", 4000, "local steps (over all workers)"),
        ("tokens", 400, "tokens"),
        ("tokens", 4000, "tokens (millions)"),
        ("bytes_sent", 4000, "data sent (MB)"),
    ],
)
def test_axis_labels_have_the_unit_that_suits_the_data(against, steps, label):
    record = build_record(local_steps=steps)
    figure = perplexity_curves([record], against=against)
    axes = figure.axes[0]
    assert axes.get_xlabel() == label
    assert axes.get_ylabel() == "validation perplexity"
    assert axes.get_yscale() == "log"
    assert 1 <= _lines(figure)[0].get_xdata()[-1] <= 300_000
    figure.canvas.draw()
    ticks = [text.get_text() for text in axes.get_xticklabels()]
    assert ("1,000" in ticks) == (against == "local_steps")
    assert not any("e" in text or "10^" in text for text in ticks)


def test_y_ticks_are_plain_numbers():
    figure = perplexity_curves([build_record(perplexities=(8000.0, 40.0))])
    figure.canvas.draw()
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert "1,000" in labels
    assert figure.axes[0].yaxis.get_minorticklocs().size == 0


@pytest.mark.parametrize("low", [1e-3, 0.7, 1.0, 5.5, 9.0, 37.0])
@pytest.mark.parametrize("factor", [1.001, 1.04, 1.5, 2.4, 2.6, 4, 9, 40, 1e3, 1e5, 1e12])
def test_log_ticks_are_few_enough_and_enough(low, factor):
    ticks = log_ticks(low, low * factor)
    assert ticks == sorted(ticks)
    assert 2 <= len(ticks) <= 8
    assert low <= ticks[0]
    assert ticks[-1] <= low * factor


def test_every_variant_differs_without_colour():
    records = [build_record(f"variant {number}", local_steps=400) for number in range(36)]
    lines = _lines(perplexity_curves(records))
    # the dash pattern is the one that is drawn; get_linestyle says "--" for all custom ones
    looks = {(str(line._unscaled_dash_pattern), line.get_marker()) for line in lines}
    assert len(lines) == len(looks) == 36
    with pytest.raises(ReportError, match=r"37 variants .* at most 36"):
        perplexity_curves([*records, build_record("one more")])


def test_seeds_make_one_mean_in_a_band_where_all_have_values():
    record = build_record()
    evaluations = record.evaluations.iloc[:3].assign(simulated_s=[0.0, 10.0, 20.0])
    first = _with_evaluations(record, evaluations.assign(perplexity=[8.0, 4.0, 2.0]))
    second = _with_evaluations(
        build_record(seed=1), evaluations.assign(simulated_s=[5.0, 10.0, 30.0], perplexity=[8.0, 6.0, 6.0])
    )
    figure = perplexity_curves([first, second])
    (line,) = _lines(figure)
    np.testing.assert_allclose(line.get_xdata(), [5, 10, 20])
    # at 5 s the first is halfway from 8 to 4 in the loss: sqrt(32)
    np.testing.assert_allclose(line.get_ydata(), [(math.sqrt(32) + 8) / 2, 5, 4])
    (band,) = _bands(figure)
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices.round(6)}
    assert {(5, 8), (10, 4), (10, 6), (20, 2), (20, 6)} <= corners
    assert _legend(figure) == ("mean, min to max, n = 2", ["async Nesterov (ends with the shortest run)"])


def test_legend_says_n_of_each_where_they_differ():
    records = [build_record("a", seed=seed) for seed in range(3)] + [build_record("b")]
    figure = perplexity_curves(records)
    assert _legend(figure) == ("mean, min to max over n runs", ["a (n = 3)", "b (n = 1)"])
    assert len(_bands(figure)) == 1


def test_seeds_without_a_common_range_are_refused():
    record = build_record()
    late = _with_evaluations(
        build_record(seed=1), record.evaluations.assign(simulated_s=record.evaluations["simulated_s"] + 1e6)
    )
    with pytest.raises(ReportError, match="async Nesterov: its 2 runs have no range in common"):
        perplexity_curves([record, late])


def test_sweep_points_and_experiments_are_not_averaged():
    points = [build_record(overrides={"seed": s, "inner.local_steps": h}, seed=s) for h in (50, 100) for s in (0, 1)]
    assert _legend(perplexity_curves(points))[1] == [
        "async Nesterov, local_steps=50",
        "async Nesterov, local_steps=100",
    ]
    clash = [build_record(overrides={"up.latency": 1, "down.latency": 2})]
    assert _legend(perplexity_curves(clash, size=(7, 3)))[1] == ["async Nesterov, up.latency=1, down.latency=2"]
    experiments = [build_record(name="first"), build_record(name="second")]
    assert _legend(perplexity_curves(experiments))[1] == ["first: async Nesterov", "second: async Nesterov"]


def test_best_possible_line_only_when_known():
    without = perplexity_curves([build_record()])
    assert not any("best possible" in text for text in _texts(without))
    figure = perplexity_curves([build_record(best_loss=math.log(5.1))])
    assert "best possible: 5.1" in _texts(figure)
    assert any(np.allclose(line.get_ydata(), 5.1) for line in figure.axes[0].lines)
    assert figure.axes[0].get_ylim()[0] < 5.1
    several = perplexity_curves([build_record(seed=s, best_loss=math.log(5 + s)) for s in range(2)])
    assert "best possible: 5 to 6" in _texts(several)


def test_common_start_is_marked_only_where_there_is_one():
    same = [build_record("a"), build_record("b", perplexities=(9.0, 7.0))]
    figure = perplexity_curves(same)
    assert _legend_entries(figure) == ["a", "b", "common start"]
    assert figure.axes[0].get_xlim()[0] < 0
    other = [build_record("a"), build_record("b", perplexities=(8.9, 7.0))]
    assert _legend_entries(perplexity_curves(other)) == ["a", "b"]
    assert _legend_entries(perplexity_curves(same[:1])) == ["a"]


def test_a_diverged_curve_ends_and_says_so():
    record = build_record()
    evaluations = record.evaluations.copy()
    evaluations.loc[4:, "perplexity"] = math.inf
    figure = perplexity_curves([_with_evaluations(record, evaluations), build_record("fine")])
    assert _legend(figure)[1] == ["async Nesterov (diverged)", "fine"]
    assert len(_lines(figure)[0].get_xdata()) == 4
    lost = _with_evaluations(record, evaluations.assign(perplexity=math.nan))
    assert _legend(perplexity_curves([lost]))[1] == ["async Nesterov (diverged)"]
    figure = perplexity_curves([record, _with_evaluations(build_record(seed=1), lost.evaluations)])
    assert _legend(figure)[1] == ["async Nesterov (1 of 2 diverged)"]


def test_what_has_no_perplexity_is_refused():
    with pytest.raises(ReportError, match="async Nesterov: a run of it trained nothing"):
        perplexity_curves([build_record(trainer="null")])
    with pytest.raises(ReportError, match="no records given"):
        perplexity_curves([])
    with pytest.raises(ReportError, match="against is 'epochs', but must be one of simulated_s, local_steps, tokens"):
        perplexity_curves([build_record()], against="epochs")


@pytest.mark.parametrize("name", ["$x^2_3$", "_hidden", "two\nlines", "a" * 100])
def test_any_variant_name_is_shown_as_it_is(name):
    figure = perplexity_curves([build_record(name, local_steps=400)])
    figure.canvas.draw()
    (shown,) = _legend(figure)[1]
    assert "".join(shown.split()) == "".join(name.split())
    (text,) = figure.legends[0].get_texts()
    assert not text.get_parse_math()


def test_unnamed_variant_is_called_after_the_experiment():
    assert _legend(perplexity_curves([build_record("", name="quickstart")]))[1] == ["quickstart"]


def test_global_settings_and_figures_stay_as_they_are():
    before = dict(mpl.rcParams)
    figure = perplexity_curves([build_record()], size=(6.0, 2.0))
    assert dict(mpl.rcParams) == before
    assert figure.get_size_inches().tolist() == [6.0, 2.0]


def test_a_users_settings_do_not_leak_in():
    with mpl.rc_context({"font.size": 30.0, "axes.facecolor": "black"}):
        figure = perplexity_curves([build_record()])
    assert figure.axes[0].xaxis.label.get_fontsize() == 8.0
    assert figure.axes[0].get_facecolor() == (1.0, 1.0, 1.0, 1.0)


def test_nothing_is_cut_off():
    records = [build_record(name, best_loss=1.5) for name in VARIANTS]
    figure = perplexity_curves(records)
    figure.canvas.draw()
    width, height = figure.bbox.width, figure.bbox.height  # not rounded to pixels
    box = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= width
    assert box.y1 <= height
    legend = figure.legends[0].get_window_extent()
    assert legend.y0 >= figure.axes[0].get_window_extent().y1


def test_a_curve_that_ends_with_the_shortest_of_its_runs_says_so():
    records = [build_record("a", local_steps=steps, overrides={"budget.local_steps": steps}) for steps in (2000, 4000)]
    figure = perplexity_curves(records, by=["variant"])
    assert _legend(figure) == ("mean, min to max, n = 2", ["a (ends with the shortest run)"])
    table = perplexity_table(records, by=["variant"])
    ends = [record.evaluations["simulated_s"].iloc[-1] for record in records]
    assert (table["simulated_s"].max(), table["longest"].unique().tolist()) == (ends[0], [ends[1]])
    assert _legend(perplexity_curves(records))[1] == ["a, local_steps=2000", "a, local_steps=4000"]
    base = build_record("a", local_steps=2000)
    grid = [like(base, "a", overrides={"x": x, "y": 1}) for x in range(9)]
    long = [like(build_record("a", local_steps=4000), "a", overrides={"x": x, "y": 2}) for x in range(9)]
    assert _legend(perplexity_curves([*grid, *long], by=["x"]))[0].endswith("; curves end with the shortest run")


def test_a_diverged_run_is_no_shorter_one():
    record = build_record(seed=1)
    evaluations = record.evaluations.copy()
    evaluations.loc[4:, "perplexity"] = math.inf
    figure = perplexity_curves([build_record(), _with_evaluations(record, evaluations)])
    assert _legend(figure)[1] == ["async Nesterov (1 of 2 diverged)"]
