from pathlib import Path
from typing import Any

import pytest
from experiment_files import SMALL, experiment, messages, mistakes, tree

from simulator.experiment import load
from simulator.experiment.schema.outer import NamedOuter


def test_conflicts_between_sections_are_reported_together():
    found = mistakes(
        tree(
            synchronization={"kind": "barrier"},
            outer__arrivals_per_update=2,
            outer__staleness={"kind": "polynomial"},
            inner__schedule={"kind": "cosine", "warmup_steps": 99},
            cluster__network={"latency": 0},
        )
    )
    assert [key for key, _ in found] == ["outer.arrivals_per_update", "outer.staleness", "inner.schedule.warmup_steps"]
    found = mistakes(tree(cluster__network={"latency": [1], "down": {"latency": [1, 2, 3], "bandwidth": []}}))
    assert [key for key, _ in found] == [
        "cluster.network.latency",
        "cluster.network.down.latency",
        "cluster.network.down.bandwidth",
    ]


def test_conflicts_stand_at_the_line_of_the_variant_that_has_them(tmp_path: Path):
    path = tmp_path / "file.yaml"
    path.write_text(
        f"{SMALL}variants:\n  fine: {{}}\n  barrier:\n    synchronization: {{kind: barrier}}\n"
        "    outer:\n      arrivals_per_update: 2\n"
    )
    assert messages(lambda: load(path), tmp_path) == [
        "file.yaml:15: variants.barrier.outer.arrivals_per_update = 2: averages asynchronous arrivals, and a barrier "
        "already averages: leave it out"
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {"outer": {"optimizer": "delayed_nesterov", "learning_rate": 1, "buffer": 4, "c": 0.25}},
        {
            "outer": {"optimizer": "delayed_nesterov", "learning_rate": 1, "buffer": 2},
            "synchronization": {"kind": "barrier"},
        },
        {"outer": {"optimizer": "lion", "learning_rate": 1, "arguments": {"b1": 0.9}}},
        {"inner__schedule": {"kind": "cosine", "warmup_steps": 49}, "budget__local_steps": 99},
        {"inner__schedule": {"kind": "cosine", "total_steps": 9}, "budget": {"local_steps": None, "server_updates": 3}},
        {"pretrain": {"steps": 10, "warmup_steps": 10}},
        {"pretrain": {"steps": 0, "warmup_steps": 10}},
        {"model": {"kind": "transformer", "preset": "20m", "context": 64}},
        {"model__heads": 3, "model__head_width": 4},
        {"model": {"kind": "mlp", "hidden": []}, "data": {"source": "gaussian-clusters"}},
        {"data": {"source": "text", "files": "one.txt"}},
        {"cluster__devices": {"seconds_per_step": "500ms", "workers": 3}},
        {"synchronization__grace": "infinite"},
    ],
    ids=str,
)
def test_what_stands_at_the_edge_is_allowed(settings: dict[str, Any]):
    assert mistakes(tree(**settings)) == []


def test_shards_are_as_many_as_workers_unless_given():
    assert experiment().shards == 2
    assert experiment(data__shards=5).shards == 5


@pytest.mark.parametrize("name", ["adamw", "nadam", "my_nesterov"])
def test_names_like_a_built_in_outer_optimizer_are_free(name: str):
    outer = experiment(outer={"optimizer": name, "learning_rate": 0.1, "arguments": {"b1": 0.8}}).outer
    assert isinstance(outer, NamedOuter)
    assert outer.optimizer == name
