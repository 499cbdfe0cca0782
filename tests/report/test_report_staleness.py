import numpy as np
import pytest

from simulator.record import RunRecord
from simulator.report import ReportError, staleness
from tests.record.builders import STEP_S, build_record


def _means(figure):
    """The markers, as (x, mean) in order of drawing."""
    return [(line.get_xdata()[0], line.get_ydata()[0]) for line in figure.axes[0].lines if line.get_marker() != "None"]


def _spans(figure):
    return [segment[:, 1].tolist() for lines in figure.axes[0].collections for segment in lines.get_segments()]


def _ticks(figure):
    figure.canvas.draw()
    return [text.get_text() for text in figure.axes[0].get_xticklabels()]


def test_each_worker_shows_the_distribution_of_its_rounds():
    record = build_record()
    figure = staleness([record])
    values = [record.rounds.loc[record.rounds["worker"] == worker, "staleness"] for worker in range(4)]
    np.testing.assert_allclose(_means(figure), [(worker, values[worker].mean()) for worker in range(4)])
    expected = [list(np.quantile(v, pair)) for v in values for pair in ((0, 1), (0.25, 0.75))]
    np.testing.assert_allclose(_spans(figure), expected)
    assert _ticks(figure) == ["0\n0.58 s", "1\n0.75 s", "2\n1.51 s", "3\n3.33 s"]
    assert figure.axes[0].get_xlabel() == "worker, seconds per local step"
    assert figure.axes[0].get_ylabel() == "staleness (server updates)"


def test_variants_stand_side_by_side_and_repeats_are_pooled():
    records = [build_record("async", seed=seed) for seed in range(2)] + [build_record("sync", barrier=True)]
    figure = staleness(records)
    means = _means(figure)
    assert len(means) == 2 * len(STEP_S)
    assert len({x for x, _ in means}) == len(means)
    assert all(y == 0 for _, y in means[len(STEP_S) :])
    assert all(y > 0 for _, y in means[: len(STEP_S)])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["async", "sync"]
    markers = {line.get_marker() for line in figure.axes[0].lines if line.get_marker() != "None"}
    assert len(markers) == 2


def test_many_workers_are_shown_in_tenths_by_speed():
    step_s = np.random.default_rng(0).permutation(np.linspace(0.5, 5, 40))
    record = build_record(step_s=list(step_s), local_steps=20_000)
    figure = staleness([record])
    means = _means(figure)
    assert len(means) == 10
    fastest = np.argsort(step_s)[:4]
    expected = record.rounds.loc[record.rounds["worker"].isin(fastest), "staleness"].mean()
    assert means[0][1] == pytest.approx(expected)
    assert means[-1][1] > 3 * means[0][1]
    assert _ticks(figure) == ["fastest\ntenth", *map(str, range(2, 10)), "slowest\ntenth"]
    assert figure.axes[0].get_xlabel() == "tenths of the 40 workers, by seconds per local step"


def test_clusters_of_different_sizes_are_compared_by_tenths():
    figure = staleness([build_record("a"), build_record("b", step_s=[1.0, 2.0])])
    assert figure.axes[0].get_xlabel() == "tenths of the 2 to 4 workers, by seconds per local step"
    assert len(_means(figure)) == 4 + 2


def test_workers_whose_speed_differs_between_runs_have_no_time_in_their_label():
    figure = staleness([build_record("a"), build_record("b", step_s=STEP_S[::-1])])
    assert _ticks(figure) == ["0", "1", "2", "3"]
    assert figure.axes[0].get_xlabel() == "worker"


def test_a_worker_without_rounds_keeps_its_place():
    record = build_record()
    rounds = record.rounds[record.rounds["worker"] != 2]
    parts = {"experiment": record.experiment, "summary": record.summary, "evaluations": record.evaluations}
    figure = staleness([RunRecord(rounds=rounds, **parts)])
    assert _ticks(figure)[2] == "2\n–"  # noqa: RUF001 - an en dash stands for what is not known
    assert [x for x, _ in _means(figure)] == [0, 1, 3]
    with pytest.raises(ReportError, match="async Nesterov: no round arrived"):
        staleness([RunRecord(rounds=rounds[:0], **parts)])
