"""A resolved experiment has every argument as it is used, and gives what it was made from gives."""

from typing import Any

import numpy as np
import pytest

from simulator import Cache, simulate
from simulator.experiment import Experiment, registry
from simulator.learning import as_used, register_outer
from simulator.record import RunRecord
from tests.experiments import tiny
from tests.killed_runs import CLASSIFIER

ADAMW = {"b1": 0.9, "b2": 0.999, "eps": 1e-8, "eps_root": 0.0, "mu_dtype": None, "nesterov": False}
FEW = CLASSIFIER | {"budget": {"local_steps": 40}}


def test_the_defaults_of_the_inner_optimizer_are_shown():
    used = as_used(tiny())["inner"]
    assert (used["optimizer"], used["weight_decay"], used["decay"]) == ("adamw", 1e-4, "all")
    assert used["arguments"] == ADAMW
    given = {"weight_decay": 0.0, "arguments": {"b2": 0.95, "nesterov": True}}
    used = as_used(tiny(inner=given))["inner"]
    assert (used["weight_decay"], used["arguments"]) == (0.0, ADAMW | {"b2": 0.95, "nesterov": True})
    used = as_used(tiny(inner={"arguments": {"weight_decay": 0.3}}))["inner"]
    assert (used["weight_decay"], used["arguments"]) == (None, {"weight_decay": 0.3} | ADAMW)
    used = as_used(tiny(inner={"optimizer": "sgd"}))["inner"]
    assert (used["weight_decay"], used["arguments"]["momentum"]) == (None, None)
    used = as_used(tiny(inner={"optimizer": "adafactor"}))["inner"]
    assert used["arguments"]["dtype_momentum"] == "float32"
    assert "weight_decay_mask" not in used["arguments"]


def test_those_of_pretraining_are_shown_where_it_has_an_optimizer_of_its_own():
    assert as_used(tiny(pretrain={"steps": 5}))["pretrain"]["arguments"] == {}
    used = as_used(tiny(pretrain={"steps": 5, "optimizer": "lion", "arguments": {"b1": 0.8}}))["pretrain"]
    assert (used["weight_decay"], used["arguments"]) == (1e-3, {"b1": 0.8, "b2": 0.99, "mu_dtype": None})


def test_those_of_named_outer_optimizers_and_policies_are_shown():
    outer = {"optimizer": "own", "learning_rate": 0.5}
    policies = {"local_steps": {"kind": "own", "arguments": {"least": 2}}, "shard_choice": {"kind": "own"}}
    with registry.emptied():
        register_outer("own", lambda learning_rate=1.0, cap=2.0, shape=np.sum, rate=float("inf"): None)
        registry.register("local_steps", "own", lambda local_steps, least=1, name="few": lambda worker, step_s: least)
        registry.register("shard_choice", "own", lambda sizes=(), least=1: lambda worker, assigned, random: 0)
        used = as_used(tiny(outer=outer, **policies))
        assert used["outer"]["arguments"] == {"cap": 2.0}
        assert used["local_steps"]["arguments"] == {"least": 2, "name": "few"}
        assert used["shard_choice"]["arguments"] == {"least": 1}
        assert as_used(tiny(outer={"optimizer": "rmsprop", "learning_rate": 0.5}))["outer"]["arguments"]["decay"] == 0.9
        experiment = tiny(**policies)
    with registry.emptied():
        assert as_used(experiment)["local_steps"]["arguments"] == {"least": 2}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"inner": {"optimizer": "adamw", "learning_rate": 0.1}, "pretrain": {"steps": 3, "optimizer": "adafactor"}},
        {
            "inner": {"optimizer": "nadamw", "decay": "matrices"},
            "outer": {"optimizer": "rmsprop", "learning_rate": 0.1},
        },
    ],
)
def test_a_resolved_experiment_is_valid_stays_as_it_is_and_learns_the_same(changes: Any, mixed_dtypes: None, tmp_path):
    cache = Cache()
    experiment = tiny(**FEW | changes)
    record = simulate(experiment, cache=cache)
    assert record.experiment == as_used(experiment) != experiment.model_dump(mode="json")
    record.write(tmp_path)
    resolved = Experiment.model_validate(RunRecord.read(tmp_path).experiment)
    again = simulate(resolved, cache=cache)
    assert again.experiment == record.experiment
    assert again.summary["parameters_hash"] == record.summary["parameters_hash"]
    assert again.evaluations.equals(record.evaluations)
