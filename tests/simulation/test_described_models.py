"""Models that are only described, groups of accelerators, and what fits into their memory."""

import math
from typing import Any

import jax
import pytest

from simulator import Cache, ExperimentError, Setup, Simulation, check, simulate
from simulator.experiment import Experiment
from simulator.learning.device_memory import activation_bytes, worker_needs
from simulator.verify import verify
from tests.experiment.experiment_files import mistakes, points
from tests.experiments import tiny

CACHE = Cache()
T4 = {"name": "T4", "utilization": 0.5}
DESCRIBED: dict[str, Any] = {
    "name": "described",
    "model": {"kind": "described", "parameters": 1e9, "layers": 10, "context": 1000},
    "cluster": {"devices": {"accelerators": [T4 | {"count": 2}]}, "network": {"bandwidth": "8Gbit/s"}},
    "inner": {"batch_size": 2, "local_steps": 5, "optimizer": "sgd"},
    "method": "diloco",
    "budget": {"rounds": 3},
}


def described(**settings: Any) -> Experiment:
    """A model of a billion parameters on two T4, with dotted paths set (`__` for the dots)."""
    [point] = points(laid(**settings))
    return point.experiment


def laid(**settings: Any) -> dict[str, Any]:
    from simulator.experiment.file import merge, nested

    tree = DESCRIBED
    for path, value in settings.items():
        tree = merge(tree, nested(tuple(path.split("__")), value))
    return tree


def problems(**settings: Any) -> list[str]:
    return [str(problem) for problem in check(described(**settings), Cache())]


# Times and messages.


def test_a_step_is_six_operations_for_each_parameter_and_token():
    simulation = Simulation(described(), trainer="null", cache=CACHE)
    step_s = 6 * 1e9 * 2 * 1000 / (65e12 * 0.5)
    assert simulation.cluster.step_s.tolist() == pytest.approx([step_s, step_s], rel=1e-12)
    given = Simulation(described(model__flops_per_token=1e9), trainer="null", cache=CACHE)
    assert given.cluster.step_s[0] == pytest.approx(step_s / 6, rel=1e-12)


def test_a_round_takes_its_messages_and_its_steps():
    record = simulate(described(), trainer="null", cache=CACHE)
    step_s, message_s = 6e9 * 2000 / 32.5e12, 4e9 / 1e9
    assert record.summary["simulated_seconds"] == pytest.approx(3 * (2 * message_s + 5 * step_s), rel=1e-9)
    assert record.summary["parameters"] == 10**9
    assert record.summary["bytes_sent"] == 2 * 3 * 2 * 4 * 10**9
    assert record.summary["tokens"] == 3 * 2 * 5 * 2 * 1000
    assert record.summary["utilization"] == pytest.approx(5 * step_s / (2 * message_s + 5 * step_s), rel=1e-9)
    assert record.experiment["data"] == {"source": "none", "shards": None}
    assert list(verify(record)) == []


def test_the_time_of_a_step_is_that_of_relative_speed_one():
    devices = {"relative_speed": [1, 0.5]}
    settings = {"model__step": "800ms", "cluster__devices": devices}
    simulation = Simulation(described(**settings), trainer="null", cache=CACHE)
    assert simulation.cluster.step_s.tolist() == [0.8, 1.6]
    record = simulation.run()
    assert list(verify(record)) == []
    again = Experiment.model_validate(record.experiment)  # a resolved experiment says what the defaults are too
    assert Simulation(again, trainer="null", cache=CACHE).cluster.step_s.tolist() == [0.8, 1.6]


def test_layers_are_divided_evenly_and_embeddings_are_in_the_first_fragment():
    model = {"width": 100, "vocabulary": 1000, "parameters": 1_100_003, "tied": True}
    experiment = described(model=model, schedule={"fragments": 2})
    offers, answers = Setup(experiment, CACHE).exchanges.shares
    # 10 layers of 100,000 parameters, the first three with one more: 0, 2, 4 ... and 1, 3, 5 ...
    assert offers == answers == pytest.approx([(100_000 + 500_002) / 1_100_003, 500_001 / 1_100_003], abs=1e-15)
    ten = {"schedule": {"fragments": 10}, "inner__local_steps": 10}
    untied = Setup(described(model=model | {"tied": False}, **ten), CACHE).exchanges.shares[0]
    assert untied[0] == pytest.approx((200_000 + 90_001) / 1_100_003, abs=1e-15)
    assert math.fsum(untied) == pytest.approx(1, abs=1e-14)


def test_a_group_of_accelerators_is_as_fast_as_its_efficiency_says():
    group = [T4 | {"each": 8, "efficiency": 0.75}]
    simulation = Simulation(described(cluster__devices={"accelerators": group}), trainer="null", cache=CACHE)
    assert simulation.cluster.step_s.tolist() == pytest.approx([6e9 * 2000 / (8 * 65e12 * 0.5 * 0.75)], rel=1e-12)


def test_a_hundred_billion_parameters_on_a_thousand_workers_make_no_array():
    before = {id(array) for array in jax.live_arrays()}
    experiment = described(
        model={"parameters": 100e9, "layers": 80, "width": 8192, "vocabulary": 32_000},
        cluster__devices={"accelerators": [{"name": "H100", "each": 64, "count": 1000}]},
        inner={"batch_size": 64, "optimizer": "adamw"},
        budget={"rounds": 2},
    )
    assert check(experiment, CACHE) == []
    record = simulate(experiment, trainer="null", cache=CACHE)
    assert len(record.rounds) == 2000
    assert record.summary["bytes_sent"] == 2000 * 2 * 4 * 100 * 10**9
    assert sum(array.nbytes for array in jax.live_arrays() if id(array) not in before) < 1e6


# Refusals.


@pytest.mark.parametrize("kind", ["batched", "serial"])
def test_it_is_never_trained(kind: Any):
    refused = "model.kind = 'described': cannot be trained"
    with pytest.raises(ExperimentError, match=refused):
        simulate(described(), trainer=kind, cache=CACHE)
    assert check(described(), Cache()) == []
    [problem] = check(described(), Cache(), train=True)
    assert str(problem).startswith(refused)


def test_nothing_of_it_has_values():
    model = Setup(described(), CACHE).model
    with pytest.raises(TypeError, match="no values"):
        model.init(jax.random.key(0))


@pytest.mark.parametrize(
    ("settings", "key", "message"),
    [
        ({"model__step": 1}, "model.step", "is of relative speed 1, and cluster.devices.accelerators says speeds"),
        (
            {"model__step": 1, "cluster__devices": {"relative_speed": [1], "seconds_per_step": 2}},
            "model.step",
            "beside cluster.devices.seconds_per_step, which is 2 s",
        ),
        ({"model": {"step": 1, "flops_per_token": 5.0}}, "model.step", "beside flops_per_token"),
        ({"model__vocabulary": 50}, "model.vocabulary", "has no effect without width"),
        ({"model__tied": False}, "model.tied", "has no effect without vocabulary"),
        ({"model": {"vocabulary": 10**6, "width": 10**4}}, "model.parameters", "is too few for 10 layers"),
        ({"pretrain__steps": 5}, "pretrain.steps", "is of training"),
        ({"inner__micro_batches": {"threshold": 0.5}}, "inner.micro_batches.threshold", "is of training"),
        (
            {"data": {"source": "python-stdlib", "partition": {"kind": "grouped"}}},
            "data.partition",
            "divides data by what they are",
        ),
        ({"model": {"context": None}}, "model.context", ""),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], key: str, message: str):
    from simulator.experiment.methods import filled

    found = mistakes(filled([laid(**settings)], lambda below, above: {**below, **above}))
    assert any(found_key == key and message in text for found_key, text in found), found


def test_data_of_a_model_that_is_trained_must_be_given():
    tree = tiny().model_dump(mode="json") | {"data": {"source": "none"}}
    assert mistakes(tree)[0][0] == "data.source"


# Memory of a device.


def test_the_parts_of_a_described_worker_by_hand():
    experiment = described(model__width=2000, inner={"optimizer": "adamw"})
    needs = worker_needs(Setup(experiment, CACHE))
    assert needs is not None
    params = 4e9
    assert needs.parts == pytest.approx(
        {
            "parameters": params,
            "gradients": params,
            "inner optimizer": 2 * params + 4,  # and the number of steps
            "what it last accepted": params,
            "activations": 2 * 1000 * 10 * 32 * 2000,
        }
    )


def test_the_activations_of_a_transformer_by_hand():
    # width 16, two heads of 8, feed-forward 64: 4 * 16 + 4 * 16 + 2 * 64 numbers of 2 bytes, of 4 * 8 tokens
    assert activation_bytes(tiny()) == 2 * 4 * 8 * 1 * (4 * 16 + 4 * 16 + 2 * 64)
    other = tiny(model={"head_width": 3, "feed_forward": 5, "layers": 2})
    assert activation_bytes(other) == 2 * 4 * 8 * 2 * (4 * 16 + 4 * 6 + 2 * 5)
    assert math.isnan(activation_bytes(described()))


@pytest.mark.parametrize(
    ("settings", "part", "copies"),
    [
        ({"compression": {"kind": "fp4", "feedback": 0.9}}, "error feedback", 1),
        ({"merge": {"kind": "outer"}}, "outer optimizer", 1),  # the momentum
        ({"topology": {"kind": "groups"}}, "outer optimizer", 1),
        ({"schedule": {"overlap": 1}}, "offers on their way", 1),
        ({"schedule": {"overlap": 1, "fragments": 5}}, "offers on their way", 0.4),  # one that is late, and a new one
        ({"schedule": {"overlap": 1}, "merge": {"kind": "keep_progress"}}, "offers on their way", 2),
        ({"inner": {"micro_batches": {"start": 4}}}, "gradients", 2),
    ],
    ids=str,
)
def test_what_a_method_keeps_at_a_worker(settings: dict[str, Any], part: str, copies: float):
    needs = worker_needs(Setup(described(**settings), CACHE))
    assert needs is not None
    assert needs.parts[part] == pytest.approx(copies * 4e9, rel=1e-6)


def test_a_device_that_is_too_small_is_refused_with_what_needs_the_memory():
    # 4 GB each of parameters, gradients, momentum and what was accepted
    settings: dict[str, Any] = {"inner": {"optimizer": "sgd", "arguments": {"momentum": 0.9}}, "model__width": 1000}
    assert problems(**settings, cluster__devices={"accelerators": [T4 | {"memory": "17GB"}]}) == []
    small = {"accelerators": [{"name": "H100"}, T4]}
    [problem] = problems(**settings, cluster__devices=small)
    assert problem == (
        "cluster.devices.accelerators.1.memory = '16 GB': an accelerator needs about 16.6 GB (parameters 4 GB, "
        "gradients 4 GB, inner optimizer 4 GB, what it last accepted 4 GB, activations 640 MB): use more of them "
        "(each), larger ones, inner.accumulation, model.remat, or a smaller batch or model"
    )
    with pytest.raises(ExperimentError, match=r"accelerators\.1\.memory"):
        simulate(described(**settings, cluster__devices=small), trainer="null", cache=Cache())
    group = [T4 | {"each": 2}]
    assert problems(**settings, cluster__devices={"accelerators": group}) == []
    [problem] = problems(**settings, cluster__devices={"accelerators": [group[0] | {"memory": "8GB"}]})
    assert "each of a worker's 2 accelerators needs about 8.32 GB (parameters 2 GB" in problem
    unknown = {"accelerators": [{"name": "mine", "peak": "1TFLOP/s"}]}
    assert problems(**settings, cluster__devices=unknown) == []


def test_the_stages_of_a_pipeline_share_too():
    stages = {"kind": "gpipe", "count": 2, "micro_batches": 2}
    devices = {"accelerators": [T4 | {"memory": "7GB"}]}
    settings: dict[str, Any] = {"cluster__devices": devices, "model__width": 1000}
    assert "accelerators.0.memory" in problems(**settings)[0]
    assert problems(**settings, inner={"stages": stages}) == []


def test_a_transformer_that_is_trained_has_to_fit_too():
    devices = {"devices": {"accelerators": [{"name": "mine", "peak": "1TFLOP/s", "memory": "1kB"}]}}
    with pytest.raises(ExperimentError, match="activations"):
        simulate(tiny(cluster=devices), cache=CACHE)
