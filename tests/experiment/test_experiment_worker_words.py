"""Numbers in terms of the number of workers, in the settings and in what one's own methods are given."""

from collections.abc import Iterator
from typing import Any

import pytest
from experiment_files import mistakes, tree

from simulator.experiment import Experiment, registry
from simulator.experiment.schema.json_schema import file_schema

OWN = {"synchronization": "mine", "local_steps": "mine", "shard_choice": "mine"}


@pytest.fixture(autouse=True)
def own_names() -> Iterator[None]:
    with registry.emptied():
        registry.register("local_steps", "mine", lambda local_steps, **arguments: lambda worker, step_s: 1)
        registry.register("shard_choice", "mine", lambda sizes, **arguments: lambda worker, assigned, random: 0)
        yield


def arguments(section: str, given: Any, workers: int = 4) -> Any:
    key = "optimizer" if section in ("outer", "inner", "pretrain") else "kind"
    settings = {key: "mine", "arguments": given}
    if section in ("outer", "inner"):
        settings |= {"learning_rate": 1.0} | ({"batch_size": 2} if section == "inner" else {})
    content = tree(cluster__devices={"seconds_per_step": [1.0] * workers}) | {section: settings}
    return getattr(Experiment.model_validate(content), section).arguments


@pytest.mark.parametrize("section", ["outer", "inner", "pretrain", "local_steps", "shard_choice"])
def test_a_word_in_the_arguments_is_its_number(section: str):
    given = {"a": "workers", "b": {"c": ["1/workers", "workers!", 3]}, "d": "1/sqrt(workers)", "mode": "co-workers"}
    expected = {"a": 9, "b": {"c": [1 / 9, "workers!", 3]}, "d": 1 / 3, "mode": "co-workers"}
    assert arguments(section, given, workers=9) == expected


def test_a_sample_of_workers_is_all_of_them():
    content = tree(cluster__devices={"seconds_per_step": [1.0] * 7})
    content |= {"synchronization": {"kind": "barrier", "sample": "workers"}}
    assert Experiment.model_validate(content).synchronization.sample == 7


@pytest.mark.parametrize(
    ("formula", "nearest"),
    [
        ("1 / workers", "did you mean '1/workers'?"),
        ("1/worker", "did you mean '1/workers'?"),
        ("2*workers", "did you mean 'workers'?"),
        ("workers/2", "did you mean 'workers'?"),
        ("1 / sqrt( workers )", "did you mean '1/sqrt(workers)'?"),
    ],
)
def test_a_formula_that_is_no_word_is_refused(formula: str, nearest: str):
    content = tree(outer={"optimizer": "mine", "learning_rate": 1, "arguments": {"deep": [{"size": formula}]}})
    assert mistakes(content) == [("outer.arguments.deep.0.size", f"is no word for a number; {nearest}")]


@pytest.mark.parametrize("text", ["", "worker", "worker-1", "a/b", "per worker", "1e3", "workers and/or servers"])
def test_other_text_is_itself(text: str):
    assert arguments("outer", {"mode": text}) == {"mode": text}


def test_words_of_the_built_in_settings_stay():
    content = tree(outer={"optimizer": "sgd", "learning_rate": 1, "weight": "1/sqrt(workers)"})
    assert Experiment.model_validate(content).outer.weight == 2**-0.5
    content["outer"]["weight"] = "workers"
    assert [key for key, _ in mistakes(content)] == ["outer.weight"]
    assert "are numbers there" in file_schema()["$defs"]["NamedSteps"]["properties"]["arguments"]["description"]
