import functools
import inspect
from pathlib import Path
from typing import Any

import jsonschema
import numpy
import pytest
from experiment_files import tree

from simulator.experiment import Experiment, ExperimentError, registry
from simulator.experiment.explain import Keys
from simulator.experiment.file import merge
from simulator.experiment.key_tree import ANY
from simulator.experiment.methods import methods
from simulator.experiment.schema.json_schema import file_schema
from simulator.experiment.yaml_text import parse_value
from tests.experiment.experiment_files import mistakes

KEYS = Keys()
ROWS = KEYS.rows(depth=99)
EXAMPLES = sorted(set(KEYS.examples()))
OF_OTHERS = (  # mistakes that another key mends, besides the one that is explained
    "belongs to pretrain.optimizer: give that too, or leave this out",
    "cannot learn from data source ",
    "has no effect where each arrival is an update by itself",
    "has 2 values for 1 fragments",
    "is of 1 workers, and there are",
    "is of sites, and there are none",
    "is there, and devices have no sites",
    "must be a barrier without a timeout where there is no server",
    "must be a barrier without a timeout where merge is ",
    "must be true where outer is noloco",
    "has no effect on sgd, which keeps nothing",
    "has no effect on nesterov: leave it out, or choose outer.optimizer: noloco",
    "must be inner.local_steps, 50, where merge is eager",
    "is a share of the time that schedule.overlap leaves, which is none",
    "is the longest of the adaptive ones, and none",
    "has no effect without width",
    "has no effect without vocabulary and width",
    "is of relative speed 1",
    "of nothing can be learned",
    "is of a trace, and there is none",
    "has no effect on a whole model, which a step needs",
    "must be those of the model, ",
    "has several fragments offered in one step, which needs schedule.layers",
    "is of a hierarchical all-reduce, which needs it",
    "is of transfers between groups, and there are none",
    "must be a barrier or a quorum where workers all-reduce",
)


def meanings(key: str, keys: Keys = KEYS) -> list[tuple[str, dict[str, str]]]:
    return [(meaning.under, meaning.facts) for meaning in keys.explain(key).meanings]


def refusal(key: str) -> str:
    with pytest.raises(ExperimentError) as caught:
        KEYS.explain(key)
    return str(caught.value)


def test_every_key_of_the_schema_is_there():
    schema = file_schema()
    sections = [schema, schema["properties"]["reference"], *schema["$defs"].values()]
    names = {name for section in sections for name in section.get("properties", {})}
    names |= {setting for method in methods().values() for setting in inspect.signature(method).parameters}
    assert {row.key.rpartition(".")[2] for row in ROWS} == {*names, ANY}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_every_key_has_a_meaning_and_an_example(row: Any):
    assert row.meaning
    explanation = KEYS.explain(row.key)
    assert explanation.meanings
    for meaning in explanation.meanings:
        assert meaning.facts["meaning"]
        assert meaning.facts["example"]


def test_every_example_fits_the_schema():
    validator = jsonschema.Draft202012Validator(file_schema())
    assert [each for each in EXAMPLES if not validator.is_valid(parse_value(each[1]))] == []


def test_every_example_laid_over_an_experiment_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("workers.csv").write_text("seconds_per_step,latency\n1,0\n2,0\n")
    Path("faults.csv").write_text("worker,time,event\n0,1,crash\n")
    Path("steps.csv").write_text("time,worker,seconds_per_step\n0,0,1\n0,1,2\n")
    Path("links.csv").write_text("time,worker,rate\n0,0,1Gbit/s\n")
    wrong = []
    for key, example in EXAMPLES:
        content = parse_value(example)
        assert len(content) == 1
        if set(content) <= set(Experiment.model_fields) - {"method"}:
            with registry.any_name():
                found = mistakes(merge(tree(), content))
            wrong += [(key, example, at, message) for at, message in found if not message.startswith(OF_OTHERS)]
    assert wrong == []


def test_a_key_of_some_kinds_says_which():
    assert [under for under, _ in meanings("synchronization.grace")] == ["synchronization.kind is asynchronous"]
    assert [under for under, _ in meanings("outer.momentum")] == [
        "outer.optimizer is heavy_ball or nesterov",
        "outer.optimizer is delayed_nesterov",
        "outer.optimizer is noloco",
        "outer.optimizer is mla or heloco",
    ]
    assert [under for under, _ in meanings("outer.learning_rate")] == [""]
    assert [under for under, _ in meanings("cluster.devices.profile")] == [
        "in place of seconds_per_step, trace, relative_speed, accelerators or distribution"
    ]
    assert [under for under, _ in meanings("cluster.devices.scale")] == ["beside cluster.devices.profile"]
    assert [under for under, _ in meanings("data.tokenizer.train_megabytes")] == [
        "data.source is python-stdlib, text, jsonl, parquet or tfds; data.tokenizer.kind is bpe"
    ]


def test_facts_of_a_key():
    assert meanings("cluster.network.message_size") == [
        (
            "",
            {
                "meaning": "of one transfer, such as 2GiB; parameters * bytes_per_parameter when absent",
                "value": "a size",
                "unit": "B, or as written: B, kB, MB, GB, TB, PB, KiB, MiB, GiB, TiB",
                "default": "none",
                "example": "cluster: {network: {message_size: 500MB}}",
            },
        )
    ]
    ((_, facts),) = meanings("cluster.network.bandwidth")
    assert facts["default"] == "unlimited"
    assert facts["value"] == "a bandwidth or unlimited, or a list, each a bandwidth or unlimited"
    ((_, facts),) = meanings("inner.learning_rate")
    assert (facts["value"], facts["default"]) == ("a number, above 0", "none: it has to be given")
    ((_, facts),) = meanings("inner.state")
    assert (facts["choices"], facts["default"]) == ("keep, reset", "keep")


def test_infinity_is_said_where_it_is_accepted_and_nowhere_else():
    said = {row.key for row in ROWS if any("infinite" in facts.get("value", "") for _, facts in meanings(row.key))}
    assert said == {"synchronization.grace", "synchronization.timeout"}


def test_a_section_has_kinds_and_keys():
    explanation = KEYS.explain("outer.staleness")
    assert [kind for kind, _ in explanation.kinds] == ["constant", "polynomial", "threshold", "gate"]
    assert [(row.key, row.under) for row in explanation.keys] == [
        ("outer.staleness.kind", ""),
        ("outer.staleness.power", "outer.staleness.kind is polynomial"),
        ("outer.staleness.drop_above", "outer.staleness.kind is polynomial or threshold"),
        ("outer.staleness.decay", "outer.staleness.kind is gate"),
        ("outer.staleness.cutoff", "outer.staleness.kind is gate"),
    ]
    assert [kind for kind, _ in KEYS.explain("outer.staleness.kind").kinds] == [
        "constant",
        "polynomial",
        "threshold",
        "gate",
    ]
    assert KEYS.explain("inner.optimizer").kinds == ()


@pytest.mark.parametrize(
    "key",
    [
        "variants.fast.outer.momentum",
        "scales.laptop.variants.fast.outer.momentum",
        "cluster.devices.accelerators.0.count",
        "cluster.devices.seconds_per_step.1",
        "reference.results.0.values.barrier",
        "inner.arguments.b1",
    ],
)
def test_names_of_ones_own_and_places_in_lists_are_part_of_a_key(key: str):
    assert KEYS.explain(key).key == key


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("outer.momentm", "did you mean 'momentum'?"),
        ("outr.momentum", "did you mean 'outer.momentum'?"),
        ("momentum", "did you mean 'outer.momentum'?"),
        ("grce", "did you mean 'synchronization.grace'?"),
        ("outer.grace", "did you mean 'synchronization.grace'?"),
        ("cluster.devics.workers", "did you mean 'cluster.devices.workers'?"),
        ("Cluster", "did you mean 'cluster'?"),
        ("local_steps.qqq", "valid: arguments, kind, speed"),
        ("seed.x", "valid: "),
        ("budget.", "valid: local_steps, rounds, server_updates, simulated_time, tokens"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(key: str, hint: str):
    assert refusal(key) == f"{key}: unknown key; {hint}"


def share(local_steps: int, floor: int, part: float = 0.5, how: Any = inspect.getdoc) -> Any:
    """A part of H."""


def keys_with(**factories: dict[str, Any]) -> Keys:
    """The keys where these factories are registered, by section and name."""
    with registry.emptied():
        for section in registry.SLOTS:
            for name, factory in factories.get(section, {}).items():
                registry.register(section, name, factory)
        return Keys()


def test_policies_of_ones_own_are_explained_by_their_signature():
    own = keys_with(local_steps={"share": share}, outer={"plain": lambda learning_rate, **further: None})
    explanation = own.explain("local_steps")
    assert explanation.kinds[-1] == ("share", "A part of H.")
    assert explanation.keys[-1].meaning == "arguments of share: floor, part, how"
    assert [row.key for row in own.explain("local_steps.arguments").keys] == [
        f"local_steps.arguments.{name}" for name in ("floor", "part", "how")
    ]
    under = "local_steps.kind is share"
    assert meanings("local_steps.arguments.floor", own) == [
        (
            under,
            {"meaning": "argument of share: int", "value": "a whole number", "default": "none: it has to be given"},
        )
    ]
    ((_, facts),) = meanings("local_steps.arguments.how", own)
    assert facts["meaning"] == "argument of share: Any, getdoc when absent"
    ((_, facts),) = meanings("local_steps.arguments.part", own)
    assert facts["default"] == "0.5"
    with pytest.raises(ExperimentError, match="did you mean 'part'"):
        own.explain("local_steps.arguments.prt")
    assert own.explain("outer").kinds[-1] == ("plain", "Registered by a plugin.")


def test_a_section_whose_kind_has_a_default_shows_that_and_those_of_ones_own():
    own = keys_with(schedule={"share": share}, offer={"share": share})
    for section, built_in in (("schedule", "periodic"), ("offer", "pseudo_gradient")):
        explanation = own.explain(section)
        assert [kind for kind, _ in explanation.kinds] == [built_in, "share"]
        ((_, facts),) = meanings(f"{section}.kind", own)
        assert facts["default"] == built_in
        assert facts["meaning"] == f"{built_in} or share"
        assert f"{section}.arguments.floor" in {row.key for row in own.rows(section)}
    assert own.explain("outer.arguments.anything").meanings


def test_factories_of_every_sort_are_explained():
    odd = numpy.float64(0.5)
    factories = {
        "partial": functools.partial(share, floor=1),
        "builtin": dict,
        "odd": lambda learning_rate, scale=odd, names=(odd, {"a"}), nothing=None, *rest: None,
    }
    own = keys_with(outer=factories)
    kinds = dict(own.explain("outer").kinds)
    assert kinds["partial"] == "A part of H."
    assert set(kinds) > set(factories)
    assert {row.key.rpartition(".")[2] for row in own.explain("outer.arguments").keys} >= {"scale", "names", "nothing"}
    facts = dict(meanings("outer.arguments.scale", own))
    assert facts["outer.optimizer is odd"]["meaning"] == "argument of odd, np.float64(0.5) when absent"
    assert "outer.optimizer is any other name" in facts  # which may take one of the same name
    assert own.explain("variants.any.outer.arguments.scale").meanings
