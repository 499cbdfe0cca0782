"""Batches in parts, and blocks that are made again: the same training in less memory."""

from typing import Any

import numpy as np
import pytest

from simulator import Cache, simulate
from simulator.experiment import Experiment, ExperimentError, load
from simulator.experiment.file import merge
from simulator.learning import Setup
from simulator.record import RunRecord
from simulator.verify import verify
from tests.experiments import TINY, tiny
from tests.killed_runs import CLASSIFIER

pytestmark = pytest.mark.usefixtures("mixed_dtypes")
CACHE = Cache()
PRETRAIN = {"pretrain": {"steps": 4, "batch_size": 8}}


def run(*changes: dict[str, Any], trainer: Any = None) -> RunRecord:
    tree: dict[str, Any] = {}
    for each in changes:
        tree = merge(tree, each)
    return simulate(tiny(**tree), cache=CACHE, trainer=trainer)


@pytest.mark.parametrize(
    ("base", "changes"),
    [
        ({}, {"inner": {"accumulation": 2}}),
        ({}, {"inner": {"accumulation": 4}}),
        ({}, {"model": {"remat": True}}),
        (PRETRAIN, {"model": {"remat": True}, "inner": {"accumulation": 2}}),
        (CLASSIFIER | PRETRAIN, {"inner": {"accumulation": 4}, "pretrain": {"accumulation": 8}}),
    ],
    ids=str,
)
def test_losses_are_those_without_and_times_the_same(base: dict[str, Any], changes: dict[str, Any]):
    whole = run(base)
    for trainer in ("batched", "serial"):
        other = run(base, changes, trainer=trainer)
        assert other.summary["causal_hash"] == whole.summary["causal_hash"]
        columns = ["simulated_s", "local_steps", "tokens", "server_updates"]
        assert other.evaluations[columns].equals(whole.evaluations[columns])
        np.testing.assert_allclose(other.evaluations["loss"], whole.evaluations["loss"], rtol=2e-4)
        np.testing.assert_allclose(other.rounds["train_loss"], whole.rounds["train_loss"], rtol=1e-3)
        assert other.summary["parameters_hash"] != whole.summary["parameters_hash"]  # it was another program
        assert verify(other) == []


def test_devices_by_flops_take_the_time_of_what_is_made_again():
    tree = tiny().model_dump(mode="json", exclude_unset=True)
    tree["cluster"] = {"devices": {"accelerators": [{"name": "slow", "peak": "1MFLOP/s", "count": 2}]}}
    once, again, parts = (
        simulate(Experiment.model_validate(merge(tree, changes)), cache=CACHE, trainer="null").summary[
            "simulated_seconds"
        ]
        for changes in ({}, {"model": {"remat": True}}, {"inner": {"accumulation": 2}})
    )
    model = Setup(tiny(model={"remat": True}), CACHE).model
    assert again / once == pytest.approx(1 + model.repeated_flops(4) / model.train_flops(4), rel=1e-6)
    assert parts == once


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inner": {"accumulation": 3}}, "inner.accumulation = 3: does not divide batch_size, which is 4: change one"),
        ({"inner": {"accumulation": 8}}, "inner.accumulation = 8: does not divide batch_size, which is 4"),
        (
            {"inner": {"accumulation": 2}, "pretrain": {"steps": 2, "batch_size": 3}},
            "inner.accumulation = 2: does not divide pretrain.batch_size, which is 3: also give pretrain.accumulation",
        ),
        (
            {"pretrain": {"steps": 2, "batch_size": 3, "accumulation": 2}},
            "pretrain.accumulation = 2: does not divide pretrain.batch_size, which is 3: change one",
        ),
        ({**CLASSIFIER, "model": {"kind": "mlp", "remat": True}}, "model.remat"),
    ],
    ids=str,
)
def test_parts_that_are_not_equal_are_refused(changes: dict[str, Any], message: str):
    with pytest.raises(ExperimentError) as found:
        load(merge(TINY, changes))
    assert message in str(found.value)
