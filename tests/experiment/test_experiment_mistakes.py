import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from experiment_files import messages, mistakes, tree, without

from simulator.cluster import PEAK_FLOPS
from simulator.experiment import ExperimentError, Problem, load
from simulator.experiment.problems import OF_PLUGINS, nearest
from simulator.experiment.schema.json_schema import file_schema

BAD = """\
name: 2024
sed: 0
model: {kind: transformr, layers: 2}
data: {source: synthetic, vocabulary: 1, tokens: many}
cluster:
  devices: {seconds_per_step: [0.5, -1, 3 parsecs]}
  network:
    latency: 50 msec
    bandwidth: 1000
    efficiency: 1.5
    server_link: {efficiency: 0.5}
  server_update_time: infinite
inner: {learning_rate: .nan, batch_size: 2.5, local_step: 50, state: kept}
budget: {local_steps: 100}
evaluate: yes
variants:
  barrier: {synchronization: {kind: barier}, outer: {optimizer: nestrov, learning_rate: 1, momentum: 0.9}}
  delayed:
    synchronization: {kind: asynchronous}
    outer: {optimizer: delayed_nesterov, learning_rate: 1, momentum: 1, c: 0.5}
  other: {synchronization: {kind: asynchronous}, name: other, inner: {batch_size: 0}, outer: []}
sweep:
  seed: 3
  inner.local_steps: [1, 0]
"""

EXPECTED = """\
bad.yaml:1: name = 2024: expected text (quotes make text of anything)
bad.yaml:2: sed = 0: unknown key; did you mean 'seed'?
bad.yaml:3: model.kind = 'transformr': unknown kind; did you mean 'transformer'?
bad.yaml:4: data.vocabulary = 1: must be at least 2
bad.yaml:4: data.tokens = 'many': expected a whole number
bad.yaml:6: cluster.devices.seconds_per_step.1 = -1: must be above 0
bad.yaml:6: cluster.devices.seconds_per_step.2 = '3 parsecs': 'parsecs' is not a unit of duration \
(units: ns, us, µs, ms, s, min, h, d)
bad.yaml:8: cluster.network.latency = '50 msec': 'msec' is not a unit of duration; did you mean 'ms'? \
(units: ns, us, µs, ms, s, min, h, d)
bad.yaml:9: cluster.network.bandwidth = 1000: a bandwidth needs its unit: write for instance 1Gbit/s or 125MB/s
bad.yaml:10: cluster.network.efficiency = 1.5: must be at most 1
bad.yaml:11: cluster.network.server_link.bandwidth: is missing; it has no default
bad.yaml:12: cluster.server_update_time = 'infinite': must be a finite number
bad.yaml:13: inner.learning_rate = nan: must be a finite number
bad.yaml:13: inner.batch_size = 2.5: expected a whole number
bad.yaml:13: inner.state = 'kept': not a valid choice; did you mean 'keep'?
bad.yaml:13: inner.local_step = 50: unknown key; did you mean 'local_steps'?
bad.yaml:15: evaluate = True: expected a mapping of keys to values
bad.yaml:17: variants.barrier.synchronization.kind = 'barier': unknown kind; did you mean 'barrier'? \
(a name of your own needs the file that registers it: plugins: [FILE], or --plugin FILE)
bad.yaml:17: variants.barrier.outer.optimizer = 'nestrov': unknown optimizer; did you mean 'nesterov'? \
(a name of your own needs the file that registers it: plugins: [FILE], or --plugin FILE)
bad.yaml:20: variants.delayed.outer.momentum = 1: must be below 1
bad.yaml:20: variants.delayed.outer.buffer: is missing; it has no default
bad.yaml:21: variants.other.name: cannot be set by a variant: move it to the top level
bad.yaml:21: variants.other.inner.batch_size = 0: must be at least 1
bad.yaml:21: variants.other.outer: expected a mapping of keys to values
bad.yaml:23: sweep.seed = 3: expected a list of at least one value
bad.yaml:24: inner.local_steps = 0: must be at least 1
"""


def test_every_mistake_of_a_file_is_reported_at_once_and_each_once(tmp_path: Path):
    path = tmp_path / "bad.yaml"
    path.write_text(BAD)
    assert sorted(messages(lambda: load(path), tmp_path)) == sorted(EXPECTED.splitlines())


def test_mistakes_come_in_the_order_of_the_file(tmp_path: Path):
    path = tmp_path / "bad.yaml"
    path.write_text(BAD)
    with pytest.raises(ExperimentError) as caught:
        load(path)
    lines = [problem.line for problem in caught.value.problems if problem.line]
    assert lines == sorted(lines)
    assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]


def test_a_problem_shows_place_key_value_and_remedy():
    assert str(Problem("a.b", "no", 3, Path("f.yaml"), 7)) == "f.yaml:7: a.b = 3: no"
    assert str(Problem("a.b", "no", [3], Path("f.yaml"))) == "f.yaml: a.b: no"
    assert str(Problem("", "no", file=Path("f.yaml"))) == "f.yaml: no"
    assert str(Problem("a", "no", "x" * 300)) == f"a = '{'x' * 198}…: no"


MISTAKES: dict[str, tuple[dict[str, Any], str, str]] = {
    "sizes or a preset": (
        {"model__width": None, "model__heads": None},
        "model",
        "also give width, heads, or a preset (20m, 60m, 150m)",
    ),
    "unknown preset": (
        {"model__preset": "70m"},
        "model.preset",
        "not a valid choice; did you mean '60m'?",
    ),
    "width into heads": (
        {"model__heads": 3},
        "model.width",
        "does not divide into 3 heads: change one, or give head_width",
    ),
    "no layers": ({"model__layers": 0}, "model.layers", "must be at least 1"),
    "text for a truth value": ({"model__tied": "perhaps"}, "model.tied", "expected true or false"),
    "a number for a truth value": ({"model__tied": 2.5}, "model.tied", "expected true or false"),
    "mlp on text": (
        {"model": {"kind": "mlp"}},
        "model.kind",
        "cannot learn from data source 'synthetic': a transformer takes text, an mlp takes gaussian-clusters",
    ),
    "transformer on clusters": (
        {"data": {"source": "gaussian-clusters"}},
        "model.kind",
        "cannot learn from data source 'gaussian-clusters': a transformer takes text, an mlp takes gaussian-clusters",
    ),
    "a discriminator that is a list": (
        {"model": {"kind": []}},
        "model.kind",
        "unknown kind; valid: described, mlp, transformer",
    ),
    "no source": (
        {"data": {"source": None}},
        "data.source",
        "is missing; choose from gaussian-clusters, jsonl, none, parquet, python-stdlib, synthetic, text, tfds",
    ),
    "no files": ({"data": {"source": "text", "files": []}}, "data.files", "is empty: give at least one"),
    "a file that is a number": (
        {"data": {"source": "text", "files": ["a", 3]}},
        "data.files.1",
        "expected text (quotes make text of anything)",
    ),
    "everything for validation": (
        {"data": {"source": "python-stdlib", "validation_fraction": 1}},
        "data.validation_fraction",
        "must be below 1",
    ),
    "empty devices": (
        {"cluster__devices__seconds_per_step": []},
        "cluster.devices.seconds_per_step",
        "is empty: a cluster needs at least one worker",
    ),
    "one time and no number of workers": (
        {"cluster__devices__seconds_per_step": "500ms"},
        "cluster.devices.seconds_per_step",
        "is one value for all workers: also give workers, or a list",
    ),
    "two numbers of workers": (
        {"cluster__devices__workers": 3},
        "cluster.devices.workers",
        "seconds_per_step has 2 values: leave workers out, or make them equal",
    ),
    "negative speed": (
        {"cluster__devices": {"relative_speed": [1, -2]}},
        "cluster.devices.relative_speed.1",
        "must be above 0",
    ),
    "negative step time": (
        {"cluster__devices__seconds_per_step": [1, "-5ms"]},
        "cluster.devices.seconds_per_step.1",
        "must be above 0",
    ),
    "one speed for a list": (
        {"cluster__devices": {"relative_speed": 2}},
        "cluster.devices.relative_speed",
        "expected a list",
    ),
    "no accelerators": (
        {"cluster__devices": {"accelerators": []}},
        "cluster.devices.accelerators",
        "is empty: give at least one",
    ),
    "a nameless accelerator": (
        {"cluster__devices": {"accelerators": [{"name": "T4"}, {"count": 3}]}},
        "cluster.devices.accelerators.1.name",
        "is missing; it has no default",
    ),
    "more than the peak": (
        {"cluster__devices": {"accelerators": [{"name": "T4", "utilization": 1.1}]}},
        "cluster.devices.accelerators.0.utilization",
        "must be at most 1",
    ),
    "unknown profile": (
        {"cluster__devices": {"profile": "sligth"}},
        "cluster.devices.profile",
        "not a valid choice; did you mean 'slight'?",
    ),
    "low above high": (
        {"cluster__devices": {"workers": 2, "distribution": {"kind": "uniform", "low": 2, "high": 1}}},
        "cluster.devices.distribution.high",
        "must be at least low, which is 2.0 s",
    ),
    "weights of another length": (
        {
            "cluster__devices": {
                "workers": 2,
                "distribution": {"kind": "mixture", "seconds_per_step": [1, 2], "weights": [1]},
            }
        },
        "cluster.devices.distribution.weights",
        "has 1 values for 2 seconds_per_step: give one for each",
    ),
    "a list per worker of the wrong length": (
        {"cluster__network__latency": [1, 2, 3]},
        "cluster.network.latency",
        "has 3 values for 2 workers: give one for all, or one for each",
    ),
    "the same in one direction": (
        {"cluster__network__up__bandwidth": ["1MB/s"]},
        "cluster.network.up.bandwidth",
        "has 1 values for 2 workers: give one for all, or one for each",
    ),
    "bare bandwidth in a list": (
        {"cluster__network__bandwidth": ["1MB/s", 3]},
        "cluster.network.bandwidth.1",
        "a bandwidth needs its unit: write for instance 1Gbit/s or 125MB/s",
    ),
    "misspelt key": (
        {"inner__learning_rte": 1},
        "inner.learning_rte",
        "unknown key; did you mean 'learning_rate'?",
    ),
    "misspelt top-level key": ({"varients": {}}, "varients", "unknown key; did you mean 'variants'?"),
    "misspelt key of a union's member": (
        {"synchronization__grac": 1},
        "synchronization.grac",
        "unknown key; did you mean 'grace'?",
    ),
    "a key of another member": (
        {"outer__momentum": 0.9},
        "outer.momentum",
        "unknown key; valid: arrivals_per_update, delay_compensation, learning_rate, non_finite, optimizer, "
        "restart_every, staleness, weight",
    ),
    "arguments that are not plain": (
        {"inner__arguments": {"a": [{1, 2}]}},
        "inner.arguments",
        "{1, 2} is not a number, text, true, false, null, list or mapping",
    ),
    "an argument without end": ({"inner__arguments": {"a": math.inf}}, "inner.arguments", "inf is not a finite number"),
    "an argument that is no number": (
        {"inner__arguments": {"a": [math.nan]}},
        "inner.arguments",
        "nan is not a finite number",
    ),
    "arguments with keys that are not text": (
        {"inner__arguments": {"a": {1: 2}}},
        "inner.arguments",
        "the key 1 must be text: put it in quotes",
    ),
    "N = 0": (
        {"outer": {"optimizer": "delayed_nesterov", "learning_rate": 1, "buffer": 0}},
        "outer.buffer",
        "must be at least 1",
    ),
    "c above 1/N": (
        {"outer": {"optimizer": "delayed_nesterov", "learning_rate": 1, "buffer": 4, "c": 0.26}},
        "outer.c",
        "is above 1/buffer = 0.25: choose c from 0 to 1/buffer",
    ),
    "delayed without momentum": (
        {"outer": {"optimizer": "delayed_nesterov", "learning_rate": 1, "buffer": 4, "momentum": 0}},
        "outer.momentum",
        "must be above 0",
    ),
    "evaluations that leave no time": (
        {"evaluate__every_simulated": "1s", "evaluate__takes": "2s"},
        "evaluate.takes",
        "leaves the server no time: choose less than every_simulated",
    ),
    "the class of an optimizer": (
        {"outer__optimizer": "HeavyBall", "outer__learning_rate": 1, "outer__momentum": 0.5},
        "outer.optimizer",
        f"unknown optimizer; did you mean 'heavy_ball'? {OF_PLUGINS}",
    ),
    "a policy of one's own": (
        {"synchronization": {"kind": "majority"}},
        "synchronization.kind",
        f"unknown kind; valid: asynchronous, barrier, quorum {OF_PLUGINS}",
    ),
    "local steps of one's own": (
        {"local_steps": {"kind": "halving"}},
        "local_steps.kind",
        f"unknown kind; valid: dynamic, fixed {OF_PLUGINS}",
    ),
    "a choice of shards of one's own": (
        {"shard_choice": {"kind": "newest"}},
        "shard_choice.kind",
        f"unknown kind; valid: fixed, least_visited, proportional {OF_PLUGINS}",
    ),
    "a size that is no 32-bit number": ({"model__vocabulary": 2**31}, "model.vocabulary", "must be below 2147483648"),
    "a batch that is no 32-bit number": ({"inner__batch_size": 2**63}, "inner.batch_size", "must be below 2147483648"),
    "a seed that is no 32-bit number": ({"seed": 2**31}, "seed", "must be below 2147483648"),
    "layers without end": ({"model__layers": 10_001}, "model.layers", "must be at most 10000"),
    "jitter without end": ({"cluster__devices__jitter": 11}, "cluster.devices.jitter", "must be at most 10"),
    "workers without end": (
        {"cluster__devices": {"profile": "very", "workers": 10**8}},
        "cluster.devices.workers",
        "must be at most 1e+07",
    ),
    "a message without end": (
        {"cluster__network__message_size": 1e19},
        "cluster.network.message_size",
        "must be at most 1e+18",
    ),
    "misspelt optimizer": (
        {"outer__optimizer": "heavyball", "outer__learning_rate": 1, "outer__momentum": 0.5},
        "outer.optimizer",
        f"unknown optimizer; did you mean 'heavy_ball'? {OF_PLUGINS}",
    ),
    "no optimizer": (
        {"outer": {"optimizer": None}},
        "outer.optimizer",
        "is missing; choose from adam, delayed_nesterov, dude, heavy_ball, heloco, mla, nesterov, noloco, ringleader, "
        "sgd",
    ),
    "negative staleness limit": (
        {"outer__staleness": {"kind": "threshold", "drop_above": -1}},
        "outer.staleness.drop_above",
        "must be at least 0",
    ),
    "barrier with staleness": (
        {"synchronization": {"kind": "barrier"}, "outer__staleness": {"kind": "polynomial"}},
        "outer.staleness",
        "has no effect on the mean of a meeting: leave it out",
    ),
    "barrier with delay compensation": (
        {"synchronization": {"kind": "barrier"}, "outer__delay_compensation": 0.1},
        "outer.delay_compensation",
        "has no effect on the mean of a meeting: leave it out",
    ),
    "barrier with arrivals per update": (
        {"synchronization": {"kind": "barrier"}, "outer__arrivals_per_update": 2},
        "outer.arrivals_per_update",
        "averages asynchronous arrivals, and a barrier already averages: leave it out",
    ),
    "barrier with grace": (
        {"synchronization": {"kind": "barrier", "grace": 1}},
        "synchronization.grace",
        "unknown key; valid: kind, quorum, sample, timeout",
    ),
    "empty budget": (
        {"budget": {"local_steps": None}},
        "budget",
        "give at least one of local_steps, tokens, rounds, simulated_time, server_updates",
    ),
    "endless budget": ({"budget__simulated_time": "infinite"}, "budget.simulated_time", "must be a finite number"),
    "huge budget": ({"budget__local_steps": 10**30}, "budget.local_steps", "must be below 9223372036854775808"),
    "cosine without an end": (
        {"inner__schedule": {"kind": "cosine"}, "budget": {"local_steps": None, "server_updates": 3}},
        "inner.schedule.total_steps",
        "is missing, so the cosine has no end: give it, or budget.local_steps from which it follows",
    ),
    "warm-up as long as the cosine": (
        {"inner__schedule": {"kind": "cosine", "warmup_steps": 5, "total_steps": 5}},
        "inner.schedule.warmup_steps",
        "must be below total_steps, which is 5",
    ),
    "warm-up as long as the budget": (  # 2 workers, so 2 shards: ceil(99 / 2) = 50 steps on each
        {"inner__schedule": {"kind": "cosine", "warmup_steps": 50}, "budget__local_steps": 99},
        "inner.schedule.warmup_steps",
        "must be below total_steps, which is 50 (budget.local_steps 99 over 2 shards)",
    ),
    "pretraining that never warms up": (
        {"pretrain": {"steps": 10, "warmup_steps": 11}},
        "pretrain.warmup_steps",
        "must not exceed pretrain.steps, which is 10",
    ),
    "evaluating all the time": ({"evaluate__every_simulated": 0}, "evaluate.every_simulated", "must be above 0"),
    "evaluating forever": ({"evaluate__takes": "infinite"}, "evaluate.takes", "must be a finite number"),
    "negative seed": ({"seed": -1}, "seed", "must be at least 0"),
    "a seed beyond 31 bits": ({"seed": 2**31}, "seed", "must be below 2147483648"),
    "a seed of yes": ({"seed": True}, "seed", "expected a number, not yes/no or true/false"),
    "no name": ({"name": ""}, "name", "must not be empty"),
    "unknown trainer": ({"compute__trainer": "fast"}, "compute.trainer", "not a valid choice; valid: batched, serial"),
    "a section that is a list": ({"budget": [1]}, "budget", "expected a mapping of keys to values"),
    "a union that is text": ({"model": "transformer"}, "model", "expected a mapping of keys to values"),
    "devices that are text": ({"cluster__devices": "A100"}, "cluster.devices", "expected a mapping of keys to values"),
}


@pytest.mark.parametrize(("settings", "key", "message"), MISTAKES.values(), ids=MISTAKES)
def test_one_mistake(settings: dict[str, Any], key: str, message: str):
    assert mistakes(tree()) == []
    assert mistakes(tree(**settings)) == [(key, message)]


@pytest.mark.parametrize("section", ["name", "model", "data", "cluster", "inner", "synchronization", "outer", "budget"])
def test_a_section_without_a_default(section: str):
    assert mistakes(without(section)) == [(section, "is missing; it has no default")]


def enumerations(schema: Any, definitions: Mapping[str, Any]) -> Iterator[list[str]]:
    """The names that every choice of the format has."""
    if isinstance(schema, list):
        for item in schema:
            yield from enumerations(item, definitions)
    elif isinstance(schema, dict):
        if "enum" in schema:
            yield schema["enum"]
        if "anyOf" in schema and all("$ref" in member for member in schema["anyOf"]):
            sections = [definitions[member["$ref"].rpartition("/")[2]] for member in schema["anyOf"]]
            fields = [field for section in sections for field in section.get("properties", {}).values()]
            yield [field["const"] for field in fields if "const" in field]
        for item in schema.values():
            yield from enumerations(item, definitions)


def test_a_name_in_another_case_or_with_other_punctuation_names_the_right_one():
    schema = file_schema()
    choices = [names for names in enumerations(schema, schema["$defs"]) if names]
    assert {"20m", "60m", "150m"} in map(set, choices)
    assert any({"text", "jsonl"} <= set(names) for names in choices)
    for names in [*choices, list(PEAK_FLOPS)]:
        for name in names:
            for typed in (name.upper(), name.title().replace("_", ""), name.replace("_", "-"), name.replace(" ", "")):
                assert typed in names or nearest(typed, names) == f"did you mean {name!r}?"
