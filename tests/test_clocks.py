"""Published tables of time: the general clock gives them, and the pages show what it gave."""

from pathlib import Path

import numpy as np
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
    cluster = build_cluster(experiment.cluster, parameters=1, flops_per_step=1.0, seed=0, topology=experiment.topology)
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
