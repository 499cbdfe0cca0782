"""Making, varying, simulating and comparing experiments in Python."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from rich.text import Text

from simulator import (
    Cache,
    ExperimentError,
    Point,
    PointsFailedError,
    Runs,
    build_experiment,
    check,
    expand,
    import_plugins,
    load,
    run_points,
    simulate,
    simulate_all,
    vary,
)
from simulator.progress import notebook
from simulator.progress.live import LiveView
from simulator.progress.notebook import NotebookView
from simulator.record import RecordError
from simulator.report import read_runs
from simulator.timeline import NoProgressError
from tests.experiments import TINY, tiny

CACHE = Cache()
BARRIER = {"kind": "barrier"}
SYNC = {"synchronization": BARRIER, "outer": {"optimizer": "nesterov", "learning_rate": 0.5}}


class TestBuildExperiment:
    def test_sections_and_dotted_settings_make_what_a_file_makes(self):
        sections = {key: value for key, value in TINY.items() if key != "name"}
        built = build_experiment(**sections, seed=3, **{"inner.local_steps": 7})
        expected = tiny(name="experiment", variant="experiment", seed=3, inner={"local_steps": 7})
        assert built == expected

    def test_settings_are_laid_over_an_experiment_as_those_of_a_variant(self):
        changed = build_experiment(tiny(), synchronization=BARRIER, **{"inner.batch_size": 2})
        assert changed.synchronization.kind == "barrier"  # no grace is left behind
        assert changed.inner.batch_size == 2
        assert changed.inner.learning_rate == tiny().inner.learning_rate

    def test_values_of_numpy_tuples_and_paths_are_taken(self):
        devices = {"seconds_per_step": np.array([0.5, 1.0])}
        built = build_experiment(tiny(), cluster={"devices": devices}, seed=np.int64(2))
        assert built.cluster.devices.seconds_per_step == (0.5, 1.0)
        assert built.seed == 2
        text = {"source": "text", "files": Path("a.txt")}
        assert build_experiment(tiny(), data=text).data.files == ("a.txt",)

    def test_sections_of_another_experiment_are_taken(self):
        other = tiny(cluster={"devices": {"seconds_per_step": [9.0]}})
        assert build_experiment(tiny(), cluster=other.cluster).cluster == other.cluster

    def test_every_mistake_is_told_as_of_a_file(self):
        with pytest.raises(ExperimentError) as raised:
            build_experiment(tiny(), inner={"learning_rte": 1}, sede=3, **{"outer.momentum": 2})
        assert sorted(str(problem) for problem in raised.value.problems) == [
            "inner.learning_rte = 1: unknown key; did you mean 'learning_rate'?",
            "outer.momentum = 2: must be below 1",
            "sede = 3: unknown key; did you mean 'seed'?",
        ]

    def test_several_experiments_and_keys_that_are_no_text_are_refused(self):
        with pytest.raises(ExperimentError, match=r"several experiments: load\(\.\.\.\) returns all of them: a, b"):
            build_experiment(TINY, variants={"a": {}, "b": SYNC})
        with pytest.raises(ExperimentError, match=r"^inner\.3 = 3: keys must be text$"):
            build_experiment(TINY, inner={3: 4})

    def test_what_it_writes_is_the_same_experiment_again(self, tmp_path):
        experiment = build_experiment(tiny(), shard_choice={"kind": "fixed"}, seed=4)
        (tmp_path / "file.yaml").write_text(experiment.to_yaml(), encoding="utf-8")
        [point] = load(tmp_path / "file.yaml")
        assert point.experiment == experiment


def test_a_mapping_is_loaded_as_a_file_is(tmp_path):
    tree = TINY | {"variants": {"sync": SYNC, "async": {}}, "sweep": {"seed": range(2)}}
    points = load(tree, "budget.local_steps=20")
    assert [point.label for point in points] == ["sync, seed=0", "sync, seed=1", "async, seed=0", "async, seed=1"]
    assert points[0].experiment.budget.local_steps == 20
    (tmp_path / "base.yaml").write_text(tiny().to_yaml(), encoding="utf-8")
    [extended] = load({"extends": str(tmp_path / "base.yaml"), "seed": 5})
    assert extended.experiment == tiny(seed=5, variant="tiny")
    with pytest.raises(ExperimentError, match=r"^sede = 1: unknown key; did you mean 'seed'\?$"):
        load(TINY | {"sede": 1})


class TestVary:
    def test_axes_are_all_combined_and_noted(self):
        points = vary(tiny(), {"inner.local_steps": [2, 5]}, seed=range(2))
        assert [point.overrides for point in points] == [
            {"inner.local_steps": steps, "seed": seed} for steps in (2, 5) for seed in (0, 1)
        ]
        assert [point.experiment.inner.local_steps for point in points] == [2, 2, 5, 5]
        assert {point.variant for point in points} == {"tiny"}

    def test_every_variant_meets_every_point_and_keeps_what_it_had(self):
        methods = {"sync": tiny(**SYNC), "async": tiny()}
        points = vary(vary(methods, seed=[1, 2]), size={"small": {"model.width": 8}, "large": {"model.width": 16}})
        assert len(points) == 8
        assert points[1].label == "sync, seed=1, size=large"
        assert points[1].experiment == tiny(**SYNC, variant="sync", seed=1, model={"width": 16})

    def test_points_that_would_become_one_run_are_refused(self):
        swept = vary(tiny(), seed=[0, 1])
        with pytest.raises(ExperimentError, match=r"sweep.seed: makes one run of 'tiny, seed=0' and 'tiny, seed=1'"):
            vary(swept, seed=[5])
        with pytest.raises(ExperimentError, match=r"sweep.seed.1 = 1: makes the same run as sweep.seed.0"):
            vary(tiny(), seed=[1, 1])

    def test_without_axes_nothing_changes(self):
        assert vary(tiny(variant="a")) == [Point("a", {}, tiny(variant="a"))]

    def test_mistakes_name_the_path_and_the_value(self):
        with pytest.raises(ExperimentError) as raised:
            vary({"a": tiny(), "b": tiny()}, {"inner.local_step": [2], "seed": 3})
        assert str(raised.value).split("\n") == [
            "sweep.seed = 3: expected a list of at least one value",
            "inner.local_step = 2: unknown key; did you mean 'local_steps'?",
        ]


@pytest.fixture(scope="module")
def runs():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_NUMPY_DTYPE_PROMOTION", "standard")
        points = vary({"sync": tiny(**SYNC), "async": tiny()}, seed=[0, 1])
        return simulate_all(points, trainer="null", cache=CACHE, progress=False)


class TestRuns:
    def test_a_frame_has_a_row_per_run_with_what_was_swept(self, runs):
        frame = runs.frame()
        assert frame[["variant", "seed"]].values.tolist() == [["sync", 0], ["sync", 1], ["async", 0], ["async", 1]]
        assert frame["simulated_seconds"].tolist() == [run.summary["simulated_seconds"] for run in runs]
        assert not {"overrides", "versions"} & set(frame)
        steps = simulate_all(vary(tiny(), {"inner.local_steps": [2, 5]}), trainer="null", progress=False)
        assert steps.frame()["inner.local_steps"].tolist() == [2, 5]

    def test_tables_of_all_runs_are_stacked(self, runs):
        rounds = runs.rounds()
        assert len(rounds) == sum(len(run.rounds) for run in runs)
        assert list(rounds.columns[:3]) == ["variant", "seed", "round"]
        assert len(runs.evaluations()) == sum(len(run.evaluations) for run in runs)
        assert Runs().rounds().empty

    def test_a_comparison_has_ratios_to_the_baseline_of_the_same_seed(self, runs):
        compared = runs.compare("sync")
        assert compared.loc["sync", "time_ratio"] == 1.0
        frame = runs.frame().set_index(["variant", "seed"])["simulated_seconds"]
        ratios = [frame["async", seed] / frame["sync", seed] for seed in (0, 1)]
        assert compared.loc["async", "time_ratio"] == pytest.approx(np.mean(ratios))
        assert compared["runs"].tolist() == [2, 2]
        with pytest.raises(RecordError, match=r"no run is of the variant 'snc': choose from 'sync', 'async'"):
            runs.compare("snc")

    def test_a_comparison_is_made_at_every_sweep_point(self):
        points = vary({"sync": tiny(**SYNC), "async": tiny()}, {"inner.local_steps": [2, 5]})
        compared = simulate_all(points, trainer="null", cache=CACHE, progress=False).compare("sync")
        assert compared.loc["sync", "time_ratio"].tolist() == [1.0, 1.0]
        assert compared.loc[("async", 5), "time_ratio"] < 0.5

    def test_slices_and_what_is_read_are_runs_too(self, runs, tmp_path):
        assert isinstance(runs[1:], Runs)
        assert len(runs[1:]) == 3
        runs[0].write(tmp_path / "one")
        read = read_runs([tmp_path])
        assert isinstance(read, Runs)
        pd.testing.assert_frame_equal(read.frame(), runs[:1].frame(), check_dtype=False)

    def test_everything_shows_itself(self, runs):
        table = runs._repr_html_()
        assert table.count("</tr>") == 5
        assert "<th>simulated_seconds</th>" in table
        assert "final_perplexity" not in table  # nothing was trained
        assert "<td>sync</td>" in runs[0]._repr_html_()
        assert Runs()._repr_html_() == "<p>no runs</p>"
        named = tiny(name="<b>")
        assert "&lt;b&gt;" in named._repr_html_()
        assert "<b>x, seed=1</b><pre>" in Point("x", {"seed": 1}, named)._repr_html_()


@pytest.mark.usefixtures("mixed_dtypes")
def test_what_was_trained_is_shared_and_drawn():
    network = {"cluster.network.latency": ["1ms", "2ms"]}
    sync = tiny(**SYNC, budget={"local_steps": 20}, compute={"lanes": 1})
    runs = simulate_all(vary(sync, network), cache=CACHE, progress=False)
    assert runs[0].summary["reused"] is None
    assert runs[1].summary["reused"]["from"] == "tiny, cluster.network.latency=1ms"
    assert "<svg" in runs[0]._repr_html_()
    assert "final_perplexity" in runs._repr_html_()
    apart = simulate_all(vary(sync, network), cache=CACHE, progress=False, reuse=False)
    assert apart[1].summary["reused"] is None
    pd.testing.assert_frame_equal(apart[1].rounds, runs[1].rounds, check_exact=True)


def test_all_that_is_wrong_is_told_before_anything_is_simulated():
    with pytest.raises(ExperimentError) as raised:
        simulate_all([*vary(tiny(), {"inner.optimizer": ["adamww", "sdg"]}), tiny()], trainer="null", progress=False)
    assert len(raised.value.problems) == 2


def test_a_simulation_that_cannot_go_on_stops_no_other(monkeypatch):
    dead = tiny(cluster={"faults": {"departures": {"after": "1s"}}})
    ended = []
    monkeypatch.setattr(LiveView, "ended", lambda self, run, *, failed=False: ended.append(failed))
    with pytest.raises(PointsFailedError, match=r"(?s)1 of 3 points failed:\n  dead: .*") as raised:
        simulate_all({"a": tiny(), "dead": dead, "b": tiny()}, trainer="null", cache=CACHE)
    assert ended == [False, True, False]
    assert raised.value.records.frame()["variant"].tolist() == ["a", "b"]
    [failure] = raised.value.failures
    assert (failure.run.label, failure.kind) == ("dead", "NoProgressError")
    assert isinstance(raised.value.__cause__, NoProgressError)
    with pytest.raises(NoProgressError):
        simulate_all(dead, trainer="null", cache=CACHE, progress=False)


# Notebooks.


class Displays:
    """Stands in for IPython's display of outputs."""

    def __init__(self):
        self.pages = []

    def HTML(self, page):  # noqa: N802 - IPython's name
        return page

    def display(self, page, display_id):
        assert display_id is True
        assert self.pages == []
        self.pages.append(page)
        return self

    def update(self, page):
        self.pages.append(page)


@pytest.fixture
def displays(monkeypatch):
    shown = Displays()
    monkeypatch.setattr(notebook, "_outputs", lambda: shown)
    return shown


def test_a_notebook_has_one_output_that_is_replaced_now_and_then(displays, monkeypatch):
    now_s = [10.0]
    monkeypatch.setattr(notebook.time, "monotonic", lambda: now_s[0])
    text = Text("one <two>")
    view = NotebookView(text, 40)
    view.start()
    assert displays.pages == []
    view.changed()
    for now_s[0], text.plain in ((10.1, "too soon"), (10.3, "three"), (10.4, "last")):
        view.changed()
    view.stop()
    assert [page.split(">", 1)[1].removesuffix("</pre>").strip() for page in displays.pages] == [
        "one &lt;two&gt;",
        "three",
        "last",
    ]


def test_the_live_view_is_drawn_into_a_notebook(displays):
    console = Console(force_jupyter=True)
    with LiveView(console, 1) as view:
        observer = view.add_run("sync")
        observer.pretrained(1, 2, math.pi)
        observer.finished()
    assert "[1/1] sync" in displays.pages[-1]
    assert "took" in displays.pages[-1]
    assert "\x1b" not in "".join(displays.pages)


# What functions are given.


ANY = {
    "simulate": lambda given: simulate(given, trainer="null", cache=CACHE),
    "check": lambda given: check(given, CACHE),
    "build_experiment": lambda given: build_experiment(given, seed=3),
}


@pytest.mark.parametrize("name", ANY)
def test_a_point_is_as_good_as_its_experiment(name):
    [point] = load(TINY)
    for given in (point, point.experiment, [point]):
        ANY[name](given)


@pytest.mark.usefixtures("mixed_dtypes")
def test_a_simulated_point_has_its_overrides_in_its_record(tmp_path):
    point = vary(tiny(), seed=[5])[0]
    assert simulate(point, trainer="null", cache=CACHE).summary["overrides"] == {"seed": 5}
    assert simulate(point, trainer="null", cache=CACHE, overrides={}).summary["overrides"] == {}
    record = run_points(point.experiment, tmp_path / "runs")[0]
    assert record.summary["seed"] == 5
    searched = load(TINY | {"sweep": {"inner.learning_rate": {"search": "log", "low": 0.1, "high": 1}}}, searched=True)
    with pytest.raises(ExperimentError, match=r"sweep.inner.learning_rate: is searched, so it has no value yet"):
        simulate(searched[0], trainer="null")


@pytest.mark.parametrize("function", [*ANY.values(), simulate_all, vary, lambda given: run_points(given, "nowhere")])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("file.yaml", r"'file.yaml' is given, and an experiment is needed: load\('file.yaml'\) reads those of a file"),
        (Path("file.yaml"), r"'file.yaml' is given, and an experiment is needed: load\('file.yaml'\) reads"),
        (7, r"int is given, and an experiment is needed: load\(file\) and build_experiment\(\.\.\.\) return some"),
        ([tiny(), "file.yaml"], "'file.yaml' is given, and an experiment is needed"),
    ],
)
def test_what_is_given_by_mistake_is_named_with_the_remedy(function, given, message):
    with pytest.raises(ExperimentError, match=message):
        function(given)


def test_of_several_experiments_one_has_to_be_chosen():
    points = load(TINY | {"variants": {"a": {}, "b": SYNC}})
    message = r"one experiment is needed, and 2 are given: choose one of them, such as points\[0\], or simulate_all"
    for function in ANY.values():
        with pytest.raises(ExperimentError, match=message):
            function(points)
    with pytest.raises(ExperimentError, match=r"one experiment is needed, and 0 are given"):
        simulate([])
    with pytest.raises(ExperimentError, match="dict is given, and an experiment is needed: load"):
        simulate(TINY)


def test_files_are_for_load():
    for given in (tiny(), [TINY], None):
        with pytest.raises(ExperimentError, match="is given, and a file is needed, or a mapping with its keys"):
            load(given)
    with pytest.raises(ExperimentError, match=r"str is given, and a document is needed: load\(\.\.\.\) reads"):
        expand("file.yaml")
    with pytest.raises(ExperimentError, match="no such file: give the path of a Python file"):
        import_plugins("nowhere.py")
