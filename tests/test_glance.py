"""What is told of an experiment without JAX is what is told of it with JAX."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

import models
from simulator import Workshop, check
from simulator.data import load_dataset, token_store
from simulator.data.sufficient import shard_sizes_at_once
from simulator.experiment import Experiment
from simulator.experiment.data_schema import Data
from simulator.experiment.document import merge
from simulator.experiment.outer_schema import Outer
from simulator.experiment.schema import Inner
from simulator.glance import INNER, PRESETS, Glance
from simulator.learning import OptimizerError, build_inner, build_outer
from simulator.learning.memory import Layout, needs
from tests.data.corpora import topics
from tests.experiments import TINY, outside, tiny
from tests.killed_runs import CLASSIFIER

COSINE = {"schedule": {"kind": "cosine", "warmup_steps": 20}}
FOLDERS = {"kind": "folder"}
MISTAKES = {
    "vocabulary": {"model": {"vocabulary": 15}},
    "context": {"model": {"context": 5_000}},
    "validation": {"data": {"validation_tokens": 8}},
    "shards": {"data": {"shards": 10_000}},
    "batch": {"inner": {"batch_size": 3_000}},
    "pretraining batch": {"pretrain": {"steps": 1, "batch_size": 3_000}},
    "warm-up": {
        "data": {
            "shards": 4,
            "source": "text",
            "tokenizer": "bytes",
            "partition": {"kind": "iid", "sizes": [9, 9, 9, 1]},
        },
        "inner": COSINE,
    },
    "accelerator": {"cluster": {"devices": {"accelerators": [{"name": "A1000", "utilization": 0.5}]}}},
    "optimizer": {"inner": {"optimizer": "adamv"}},
    "weight decay": {"inner": {"optimizer": "sgd", "weight_decay": 0.1}},
    "argument": {"inner": {"arguments": {"b7": 0.9}}},
    "pretraining optimizer": {"pretrain": {"steps": 1, "optimizer": "adamx"}},
    "pretraining weight decay": {"pretrain": {"steps": 1, "optimizer": "adam", "weight_decay": 0.1}},
    "outer optimizer": {"outer": {"optimizer": "nobody", "learning_rate": 1.0}},
    "memory": {"compute": {"memory": "100kB"}},
    "transition probabilities": {"data": {"concentration": 1e-9}},
}


@pytest.fixture(scope="module")
def workshop() -> Workshop:
    return Workshop()


def of(change: dict[str, Any], folder: Path) -> Experiment:
    if change.get("data", {}).get("source") == "text":
        change = merge(change, {"data": {"files": f"{topics(folder)}/**/*.txt"}})
    return Experiment.model_validate(merge(TINY, change))


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_left_to_the_thorough_check(name: str, tmp_path: Path, mixed_dtypes: None, workshop: Workshop):
    experiment = of(MISTAKES[name], tmp_path)
    assert check(experiment, workshop)
    assert not Glance().surely_valid(experiment)


@pytest.mark.parametrize(
    "change",
    [
        {},
        CLASSIFIER | {"inner": {"optimizer": "sgd", "learning_rate": 0.1}},
        {
            "inner": {"optimizer": "lion", "weight_decay": 0.1, "clip_norm": 1.0} | COSINE,
            "budget": {"local_steps": 400},
        },
        {"pretrain": {"steps": 5, "optimizer": "adamw", "weight_decay": 0.1}},
        {"outer": {"optimizer": "delayed_nesterov", "learning_rate": 0.5, "momentum": 0.9, "buffer": 4}},
        {"cluster": {"devices": {"profile": "very", "workers": 3}, "faults": {"joins": [0, 0, "1h"]}}},
    ],
    ids=["plain", "classifier", "cosine", "pretraining", "delayed", "faults"],
)
def test_what_is_valid_is_told_at_a_glance(change: dict[str, Any], mixed_dtypes: None, workshop: Workshop):
    experiment = Experiment.model_validate(merge(TINY, change))
    assert Glance().surely_valid(experiment)
    assert check(experiment, workshop) == []
    assert_bounded(experiment, workshop)


def assert_bounded(experiment: Experiment, workshop: Workshop) -> None:
    glance = Glance()
    glance.surely_valid(experiment)
    layout = Layout(experiment.cluster.workers, lanes=1, shared=True, serial=True)
    bound = glance.memory_bound(experiment)
    assert bound is not None
    assert bound > needs(workshop.sizes(experiment), layout).total


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"vocabulary": 3000}, "inner": {"batch_size": 64}},
        {"model": {"context": 96, "heads": 8}, "inner": {"batch_size": 16}},
        {"model": {"layers": 3, "feed_forward": 500, "tied": False}, "pretrain": {"steps": 1, "batch_size": 128}},
        {"evaluate": {"windows": 200, "batch_size": 200}, "inner": {"optimizer": "sgd"}},
        {"cluster": {"devices": {"seconds_per_step": [1.0] * 64}}, "model": {"width": 64}},
        CLASSIFIER | {"model": {"kind": "mlp", "hidden": [300, 200]}, "inner": {"batch_size": 50}},
    ],
    ids=str,
)
def test_no_estimate_is_above_what_is_told_at_a_glance(change: dict[str, Any], mixed_dtypes: None, workshop: Workshop):
    assert_bounded(Experiment.model_validate(merge(TINY, change)), workshop)


def test_what_may_not_fit_is_left_to_the_thorough_check():
    assert not Glance().surely_valid(tiny(compute={"memory": 0.001}))
    assert Glance().surely_valid(tiny(compute={"memory": "1MB"}), data=False)
    assert not Glance().surely_valid(tiny(model={"width": 4096, "layers": 24}))
    preset = {"kind": "transformer", "preset": "150m"}
    assert not Glance().surely_valid(Experiment.model_validate(TINY | {"model": preset}))


@pytest.mark.parametrize("absent", ["model", "data", "cluster", "inner", "outer"])
def test_what_is_left_of_an_experiment_with_mistakes_is_looked_at(absent: str):
    sections = {name: getattr(tiny(), name) for name in Experiment.model_fields if name != absent}
    wrong = sections | {"inner": Inner(optimizer="adamv", learning_rate=1.0, batch_size=1)}
    assert Glance().surely_valid(Experiment.model_construct(**sections))
    if absent != "inner":
        assert not Glance().surely_valid(Experiment.model_construct(**wrong))


def test_presets_are_those_of_the_models():
    sizes = {"vocabulary", "layers", "width", "heads", "context", "head_width", "tied"}
    known = {name: {size: getattr(config, size) for size in sizes} for name, config in models.PRESETS.items()}
    assert known == PRESETS


@pytest.mark.parametrize("preset", [None, *models.PRESETS])
@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"layers": 3, "tied": False, "vocabulary": 500},
        {"head_width": 5, "heads": 3, "context": 11},
        {"feed_forward": 7, "width": 24, "tied": True},
    ],
    ids=str,
)
def test_parameters_are_counted_as_the_model_has_them(preset: str | None, sizes: dict[str, Any], workshop: Workshop):
    experiment = tiny(model={"preset": preset} | sizes)
    assert Glance().parameters(experiment) == workshop.model(experiment).parameters
    classifier = tiny(**CLASSIFIER | {"model": {"kind": "mlp", "hidden": [30, 20]}})
    assert Glance().parameters(classifier) == workshop.model(classifier).parameters


@pytest.mark.parametrize("name", INNER)
def test_inner_optimizers_are_what_optax_has(name: str, mixed_dtypes: None):
    build_inner(Inner(optimizer=name, learning_rate=1e30, batch_size=1, clip_norm=1e-30))
    decaying = Inner(optimizer=name, learning_rate=1e-30, batch_size=1, weight_decay=1e30)
    if INNER[name]:
        build_inner(decaying)
    else:
        with pytest.raises(OptimizerError, match="takes none"):
            build_inner(decaying)


@pytest.mark.parametrize(
    "outer",
    [
        {"optimizer": "sgd", "learning_rate": 1e30, "weight": 1e-30},
        {"optimizer": "heavy_ball", "learning_rate": 1e-30, "momentum": 0.0},
        {"optimizer": "nesterov", "learning_rate": 1.0, "momentum": 0.999999, "arrivals_per_update": 10**6},
        {"optimizer": "adam", "learning_rate": 1.0, "b1": 0.0, "b2": 0.0, "eps": 1e-300},
        {"optimizer": "delayed_nesterov", "learning_rate": 1.0, "momentum": 1e-9, "buffer": 10**6, "c": 1e-6},
        {"optimizer": "delayed_nesterov", "learning_rate": 1.0, "buffer": 3, "c": 1 / 3, "delay_compensation": 1e9},
        {"optimizer": "sgd", "learning_rate": 1.0, "staleness": {"kind": "polynomial", "power": 0, "drop_above": 0}},
    ],
)
def test_outer_optimizers_with_names_of_their_own_are_never_refused(outer: dict[str, Any]):
    build_outer(TypeAdapter(Outer).validate_python(outer))


@pytest.mark.parametrize(
    ("data", "context"),
    [
        ({"source": "gaussian-clusters", "points": 403, "dimension": 4, "evaluation_points": 50}, None),
        ({"source": "synthetic", "vocabulary": 5, "tokens": 10_001, "validation_tokens": 99}, 7),
        ({"partition": {"kind": "iid"}}, 8),
        ({"partition": {"kind": "iid", "sizes": [4, 2, 1, 1]}}, 8),
        ({"partition": {"kind": "grouped", "groups": FOLDERS}}, 8),
        ({"partition": {"kind": "dirichlet", "alpha": 0.5, "groups": FOLDERS}}, 8),
    ],
    ids=["clusters", "synthetic", "iid", "sizes", "grouped", "dirichlet"],
)
def test_sizes_at_once_are_those_of_the_data_set(data: dict[str, Any], context: int | None, tmp_path: Path):
    given = data if "source" in data else {"source": "text", "files": f"{topics(tmp_path)}/**/*.txt"} | data
    section: Any = TypeAdapter(Data).validate_python(given)
    if given["source"] == "text":
        assert shard_sizes_at_once(section, shards=4, context=context) is None  # not before it is prepared
        token_store(section)
    sizes = load_dataset(section, shards=4, context=context).shard_sizes
    assert tuple(shard_sizes_at_once(section, shards=4, context=context) or ()) == sizes
    assert (len(set(sizes)) > 1) == ("sizes" in str(data) or "kind': 'grouped" in str(data) or "alpha" in str(data))


def test_a_prepared_file_is_validated_without_jax(tmp_path: Path):
    text = {"source": "text", "files": f"{topics(tmp_path / 'texts')}/**/*.txt", "shards": 2}
    document = {key: value for key, value in TINY.items() if key != "data"} | {"data": text}
    (tmp_path / "experiment.yaml").write_text(json.dumps(document))
    code = "import sys; from simulator.cli import main\ntry: main()\nexcept SystemExit: print('jax' in sys.modules)"
    command = [sys.executable, "-c", code, "validate", "experiment.yaml"]
    for loads in ("True", "False"):  # the text is read once
        done = subprocess.run(command, env=outside(), cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == [
            "experiment.yaml: valid; 1 simulation of 1 variant, 7,360 parameters",
            loads,
        ]
