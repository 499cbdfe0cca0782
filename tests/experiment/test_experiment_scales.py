"""Scales, selected variants, published results, and settings in terms of the number of workers."""

from pathlib import Path

import pytest
from experiment_files import SMALL, experiment, messages, mistakes, tree

from simulator.experiment import Point, load, load_document
from simulator.experiment.reference import reference_of

SCALED = f"""{SMALL}scale: small
variants:
  a: {{}}
  b: {{outer: {{learning_rate: 0.5}}}}
scales:
  small:
    inner: {{batch_size: 3}}
    variants: {{b: {{outer: {{weight: 0.25}}}}}}
  large:
    model: {{layers: 7}}
    sweep: {{seed: [1, 2]}}
"""


def write(folder: Path, text: str, name: str = "file.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def shown(points: list[Point]) -> list[tuple[str, str, int, int | None, int, float, float]]:
    return [
        (
            point.variant,
            point.experiment.scale,
            point.experiment.seed,
            point.experiment.model.layers,
            point.experiment.inner.batch_size,
            point.experiment.outer.learning_rate,
            point.experiment.outer.weight,
        )
        for point in points
    ]


def test_a_scale_is_laid_over_the_file_its_variants_and_its_sweep(tmp_path: Path):
    path = write(tmp_path, SCALED)
    assert shown(load(path)) == [("a", "small", 0, 1, 3, 1.0, 1.0), ("b", "small", 0, 1, 3, 0.5, 0.25)]
    large = [(name, "large", seed, 7, 2, rate, 1.0) for name, rate in (("a", 1.0), ("b", 0.5)) for seed in (1, 2)]
    assert shown(load(path, "scale=large")) == large


def test_the_command_line_wins_over_a_scale_and_replaces_a_whole_sweep(tmp_path: Path):
    points = load(write(tmp_path, SCALED), "scale=large", "model.layers=2", "sweep={inner.batch_size: [5]}")
    assert shown(points) == [("a", "large", 0, 2, 5, 1.0, 1.0), ("b", "large", 0, 2, 5, 0.5, 1.0)]
    assert [point.experiment.seed for point in load(write(tmp_path, SCALED), "scale=large", "sweep.seed=[9]")] == [9, 9]


def test_scales_of_an_extending_file_are_merged(tmp_path: Path):
    write(tmp_path, SCALED, "base.yaml")
    path = write(tmp_path, "extends: base.yaml\nselect: [b]\nscales: {small: {inner: {local_steps: 9}}}\n")
    (point,) = load(path)
    assert (point.variant, point.experiment.inner.local_steps, point.experiment.inner.batch_size) == ("b", 9, 3)


def test_a_file_wins_over_the_scales_of_what_it_extends_and_its_own_scales_over_it(tmp_path: Path):
    write(tmp_path, SCALED, "base.yaml")
    text = "extends: base.yaml\nselect: [a]\ninner: {batch_size: 8, local_steps: 8}\n"
    (point,) = load(write(tmp_path, text + "scales: {small: {inner: {local_steps: 9}}}\n"))
    assert (point.experiment.inner.batch_size, point.experiment.inner.local_steps) == (8, 9)
    assert load_document(tmp_path / "file.yaml").scales == ("small", "large")


def test_selected_variants_come_in_the_order_given(tmp_path: Path):
    path = write(tmp_path, SCALED)
    assert [point.variant for point in load(path, "select=[b, a]")] == ["b", "a"]
    assert [point.variant for point in load(path, "select=[b, a]", variant="a")] == ["a"]


@pytest.mark.parametrize(
    ("text", "settings", "expected"),
    [
        (SMALL, ["scale=small"], ["scale = 'small': the file has no scales to choose from"]),
        (SCALED, ["scale=smal"], ["scale = 'smal': no such scale; did you mean 'small'? (set on the command line)"]),
        (
            SCALED.replace("scale: small\n", ""),
            [],
            ["file.yaml: scale: is missing; valid: large, small"],
        ),
        (
            f"{SMALL}scales: [1]\n",
            [],
            ["file.yaml:10: scales: expected a mapping from each scale's name to a"],
        ),
        (
            SCALED.replace("inner: {batch_size: 3}", "inner: {batch_size: 0}\n    extends: other.yaml"),
            [],
            [
                "file.yaml:17: scales.small.extends: cannot be set by a scale: move it to the top level",
                "file.yaml:16: inner.batch_size = 0: must be at least 1",
            ],
        ),
        (SCALED, ["scale=[small]"], ["scale: no such scale; did you mean 'small'? (set on the command line)"]),
        (SCALED, ["select=[[a]]"], ["select.0: no such variant; did you mean 'a'? (set on the command line)"]),
        (SCALED, ["scales.small.seed=1"], ["scales.small.seed = 1: set the key itself, without scales and their name"]),
        (SCALED, ["outer.weight=1/worker"], ["outer.weight = '1/worker': expected a number or a word for one; did"]),
        (SCALED, ["select=[c]"], ["select.0 = 'c': no such variant; valid: a, b (set on the command line)"]),
        (SCALED, ["select=a"], ["select = 'a': expected a list of names of variants (set on the command line)"]),
    ],
)
def test_mistakes_in_scales_and_selections(tmp_path: Path, text: str, settings: list[str], expected: list[str]):
    found = messages(lambda: load(write(tmp_path, text), *settings), tmp_path)
    assert len(found) == len(expected)
    assert all(any(message.startswith(start) for message in found) for start in expected), found


def test_a_reference_is_read_and_checked(tmp_path: Path):
    sweep = "sweep: {inner.batch_size: [1, 2], seed: [0, 1]}\n"
    row = "{at: {inner.batch_size: 2}, values: {b: 2.5}}"
    reference = f"{sweep}reference: {{source: a table, baseline: a, results: [{row}]}}\n"
    document = load_document(write(tmp_path, SCALED + reference))
    read = reference_of(document)
    assert read is not None
    assert read.model_dump() == {
        "source": "a table",
        "metric": "final_perplexity",
        "baseline": "a",
        "results": ({"at": {"inner.batch_size": 2}, "values": {"b": 2.5}},),
    }
    assert reference_of(load_document(write(tmp_path, SCALED))) is None
    wrong = reference.replace("baseline: a", "baseline: x").replace("b: 2.5", "y: 2.5")
    assert messages(lambda: load(write(tmp_path, SCALED + wrong)), tmp_path) == [
        "file.yaml:22: reference.baseline = 'x': no such variant; valid: a, b",
        "file.yaml:22: reference.results.0.values.y = 'y': no such variant; valid: a, b",
    ]
    wrong = reference.replace("source", "sorce").replace("2.5", "-1")
    assert set(messages(lambda: load(write(tmp_path, SCALED + wrong)), tmp_path)) == {
        "file.yaml:22: reference.results.0.values.b = -1: must be above 0",
        "file.yaml:22: reference.sorce = 'a table': unknown key; did you mean 'source'?",
        "file.yaml:22: reference.source: is missing; it has no default",
    }


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("{seed: 1}", "seed = 1: the sweep sets no such path; valid: inner.batch_size"),
        ("{inner.batchsize: 2}", "inner.batchsize = 2: the sweep sets no such path; did you mean 'inner.batch_size'?"),
        ("{inner.batch_size: 3}", "inner.batch_size = 3: the sweep has no such value; it has 1, 2"),
    ],
)
def test_published_results_are_of_points_that_exist(tmp_path: Path, at: str, message: str):
    text = (
        f"{SMALL}sweep: {{inner.batch_size: [1, 2], seed: [0, 1]}}\n"
        f"reference: {{source: a table, baseline: small, results: [{{at: {at}, values: {{small: 2.5}}}}]}}\n"
    )
    path = write(tmp_path, text)
    assert messages(lambda: load(path), tmp_path) == [f"file.yaml:11: reference.results.0.at.{message}"]
    assert len(load(path, "sweep.seed=[0]")) == 2  # what is swept on the command line need not have been published


def test_settings_may_be_written_in_terms_of_the_number_of_workers():
    delayed = {"optimizer": "delayed_nesterov", "learning_rate": 1, "buffer": "workers", "weight": "1/sqrt(workers)"}
    for workers in (4, 16):
        devices = {"profile": "very", "workers": workers}
        outer = experiment(cluster__devices=devices, outer=delayed).outer
        assert (outer.buffer, outer.weight) == (workers, workers**-0.5)
        buffered = {"optimizer": "sgd", "learning_rate": 1, "arrivals_per_update": "workers", "weight": "1/workers"}
        outer = experiment(cluster__devices=devices, outer=buffered).outer
        assert (outer.arrivals_per_update, outer.weight) == (workers, 1 / workers)
    found = mistakes(tree(cluster__devices={"profile": "very", "workers": 16}, outer=delayed | {"c": 0.1}))
    assert found == [("outer.c", "is above 1/buffer = 0.0625: choose c from 0 to 1/buffer")]
    assert [key for key, _ in mistakes(tree(outer__weight="workers"))] == ["outer.weight"]
