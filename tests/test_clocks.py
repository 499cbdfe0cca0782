"""Published tables of time: the general clock gives them, and the pages show what it gave."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simulator import load
from simulator.cluster import build_cluster
from simulator.timeline import timeline_of

FOLDER = Path(__file__).parents[1] / "experiments/clocks"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER.parent))


@pytest.mark.parametrize("table", ["table4", "table6"])
def test_every_fifth_cell_is_found_again(table):
    """One of each model and method, and three of each target."""
    from clocks.bandwidth import PUBLISHED, TARGETS, cell, read, utilization_of

    committed = read(table, "own").set_index(["variant", "target"])
    assert list(committed.index) == [(variant, target) for variant in PUBLISHED[table] for target in TARGETS]
    for row, variant in enumerate(PUBLISHED[table]):
        target = TARGETS[(row + row // 5) % len(TARGETS)]
        found = cell(table, variant, target, utilization_of(table, variant))
        kept = committed.loc[(variant, target)]
        assert (found["found"], found["apart"]) == (kept["found"], kept["apart"]), (variant, target)


@pytest.mark.parametrize(("table", "least"), [("table4", 74), ("table6", 72)])
def test_nearly_all_cells_are_the_published_point_of_the_grid_or_the_next(table, least):
    from clocks.bandwidth import READINGS, read

    for reading in READINGS[table]:
        own = read(table, reading)
        assert len(own) == 75
        assert (own["apart"].abs() <= 1).sum() >= least, reading


def test_published_values_are_points_of_the_grid():
    from clocks.bandwidth import GRID, PUBLISHED, place

    for table in PUBLISHED.values():
        for values in table.values():
            assert list(values) == sorted(values)
            assert all(abs(GRID[place(value)] / value - 1) < 0.11 for value in values)  # as printed: 0.4 for 0.37


def test_the_steps_of_a_worker_take_their_time_where_nothing_is_awaited():
    from clocks.bandwidth import utilization

    [point] = load(FOLDER / "table4.yaml", variant="1B, overlap")
    assert utilization(point.experiment, 1e6) == pytest.approx(1, abs=1e-6)
    [point] = load(FOLDER / "table4.yaml", variant="1B, data parallel")
    # The first layer alone is reduced while nothing is computed: 1/24 of 16 Gbit, at 1000 Gbit/s.
    step_s = 0.1 * 71 / 72
    assert utilization(point.experiment, 1000) == pytest.approx(step_s / (step_s + 16 / 24 / 1000), rel=1e-6)


@pytest.mark.parametrize("network", ["high", "medium", "low"])
@pytest.mark.parametrize(("replicas", "local_steps"), [(1, None), (1, 5), (2, 5), (4, 10)])
def test_the_formulae_of_the_scaling_laws_are_the_general_clock(network, replicas, local_steps):
    from clocks.wall_clock import NETWORKS, Training

    training = Training(1e9, 1e8, 20, 8, NETWORKS[network], replicas, local_steps)
    changes = [f"{key}={value}" for key, value in training.as_experiment().items()]
    [point] = load(FOLDER / "base.yaml", *changes)
    experiment = point.experiment
    size = experiment.model.parameters
    cluster = build_cluster(
        experiment.cluster, parameters=size, flops_per_step=1.0, seed=0, topology=experiment.topology
    )
    timeline = timeline_of(experiment, cluster)
    for _ in timeline:
        pass
    assert timeline.now_s == pytest.approx(training.total_s, abs=1e-9 * 50)


def test_the_formulae_by_hand():
    """1e9 parameters are 16 Gbit; 8 chips have 2 * 16 / 10 * 7/8 = 2.8 s + 10 ms on the low network."""
    from clocks.wall_clock import NETWORKS, Training

    low = NETWORKS["low"]
    assert Training(1e9, 1e9, 20, 8, low).compute_s == pytest.approx(6e18 / 2400e12)
    assert Training(1e9, 1e9, 20, 8, low).across_s == pytest.approx(20 * 2.81)
    one = Training(1e9, 1e9, 20, 8, low, 1, 5)
    assert one.inside_s + one.across_s == pytest.approx(20 * 2.81 * (1 + 1 / 5))
    two = Training(1e9, 1e9, 20, 8, low, 2, 5)
    assert two.inside_s == pytest.approx(20 * (2 * 16 / 400 * (1 - 2 / 8) + 1e-4))
    assert two.across_s == pytest.approx(4 * 2.81)
    assert np.isclose(two.total_s, two.compute_s + two.inside_s + two.across_s)


class TestMeasuredCluster:
    """Four real machines: what is committed is what the clock says, and how far it holds."""

    def test_predictions_are_found_again(self):
        from clocks import l40s

        runs = l40s.measured()
        assert runs["calibrates"].sum() == 4
        settings, committed = l40s.calibrated(runs), pd.read_csv(l40s.RESULTS / "l40s.csv")
        assert committed["repeats"].sum() == 44  # of 48, without those that are calibrated on
        rows = runs[(runs["local_steps"] == 8) & (runs["rate"] == 1000)]
        told = [l40s.predicted(run, settings, waits=False) for run in rows.itertuples()]
        [row] = committed.query("local_steps == 8 and rate == 1000").itertuples()
        assert np.mean(told, axis=0) == pytest.approx([row.all_reduce_s, row.utilization_alone], rel=1e-5)

    def test_an_all_reduce_takes_as_long_as_bytes_over_rate_and_efficiency(self):
        from clocks import l40s

        runs = l40s.measured()
        run = next(runs[(runs["local_steps"] == 1) & (runs["rate"] == 1000)].itertuples())
        settings = l40s.calibrated(runs)
        reached = np.interp(
            np.log(run.link_bits_per_s),
            [np.log(float(rate.split()[0])) for rate, _ in settings["efficiency"]],
            [efficiency for _, efficiency in settings["efficiency"]],
        )
        took_s, _ = l40s.predicted(run, settings, waits=False)
        assert took_s == pytest.approx(2 * 3 / 4 * 32 * 30_846_720 / (run.link_bits_per_s * reached), rel=1e-7)

    def test_how_far_it_holds(self):
        from clocks import l40s

        rows = pd.read_csv(l40s.RESULTS / "l40s.csv")
        off = rows["all_reduce_s"] / rows["synchronization_s"] - 1
        assert set(rows.loc[off.abs() > 0.05, "local_steps"]) == {128}  # in which somebody is waited for
        compared = rows[rows["utilization"] > l40s.LEAST_UTILIZATION]
        off = compared["utilization_waiting"] / compared["utilization"] - 1
        assert compared.loc[off.abs() > 0.05, ["local_steps", "rate"]].to_numpy().tolist() == [[1, 5000], [8, 5000]]


class TestGoodput:
    """Failures of chips: the clock, theory, and the times of repairs at which published numbers come out."""

    def test_the_clock_agrees_with_theory(self):
        from clocks.goodput import PUBLISHED, expected, simulated

        [claim] = [each for each in PUBLISHED if each.learners == 2]
        found = simulated(claim, 20, failures=400)
        assert found == pytest.approx(expected(claim, 20), rel=0.04)

    def test_the_committed_repairs_give_the_published_numbers(self):
        from clocks.goodput import PUBLISHED, RESULTS, expected

        rows = pd.read_csv(RESULTS / "goodput.csv")
        for claim, row in zip(PUBLISHED, rows.itertuples(), strict=True):
            assert (row.chips, row.learners, row.goodput) == (claim.chips, claim.learners, claim.goodput)
            assert expected(claim, row.repair_s) == pytest.approx(claim.goodput, rel=1e-4)
            assert row.simulated == pytest.approx(claim.goodput, rel=0.03)
        assert rows["repair_s"].between(18, 36).sum() == 7
