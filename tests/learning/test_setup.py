import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import models
from simulator.data import DataOrder
from simulator.experiment import Experiment
from simulator.experiment.schema.experiment import TransformerModel
from simulator.host.errors import SettingError
from simulator.learning import BatchedTrainer, Cache, ModelError, SerialTrainer, Setup, pretraining
from simulator.learning.model import context_of, transformer_config
from tests.learning.quadratic import Workers, result_of, stretch

TINY: dict[str, Any] = {
    "name": "tiny",
    "model": {"kind": "transformer", "layers": 1, "width": 16, "heads": 2, "context": 8},
    "data": {"source": "synthetic", "vocabulary": 8, "tokens": 800, "validation_tokens": 200, "concentration": 1.0},
    "cluster": {"devices": {"seconds_per_step": [1.0, 2.0]}},
    "inner": {"optimizer": "sgd", "learning_rate": 0.5, "batch_size": 2, "local_steps": 4},
    "synchronization": {"kind": "asynchronous"},
    "outer": {"optimizer": "sgd", "learning_rate": 1.0},
    "pretrain": {"steps": 5},
    "budget": {"local_steps": 100},
}


TOY = TINY | {
    "model": {"kind": "mlp", "hidden": [3]},
    "data": {
        "source": "gaussian-clusters",
        "dimension": 5,
        "clusters_per_class": 1,
        "points": 64,
        "evaluation_points": 8,
    },
}


def experiment_of(base: dict[str, Any], **changes: Any) -> Experiment:
    """A mapping changes a section's keys, anything else takes its place."""
    sections = {
        key: base[key] | value if isinstance(value, dict) and key in base else value for key, value in changes.items()
    }
    return Experiment.model_validate(base | sections)


tiny = functools.partial(experiment_of, TINY)
toy = functools.partial(experiment_of, TOY)  # compiles faster


@pytest.fixture(scope="module")
def shared() -> Cache:
    return Cache()


def assert_close(one: Any, other: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one, other)


def largest_difference(one: Any, other: Any) -> float:
    return max(float(jnp.abs(a - b).max()) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


# Starting points.

VARIANTS = [
    {"outer": {"optimizer": "nesterov", "learning_rate": 0.7}},
    {"synchronization": {"kind": "barrier"}},
    {"inner": {"local_steps": 3}},
    {"inner": {"schedule": {"kind": "cosine"}}},
    {"inner": {"state": "reset"}},
    {"budget": {"local_steps": 200}},
    {"cluster": {"devices": {"seconds_per_step": [1.0, 9.0]}}},
]


def test_pretraining_is_done_once_for_variants_that_share_it(shared: Cache):
    told: list[Any] = []

    def progress(*done: Any) -> None:
        told.append(done)

    start = Setup(tiny(), shared).start(progress)
    assert [done[:2] for done in told] == [(5, 5)]
    for changes in VARIANTS:
        setup = Setup(tiny(**changes), shared)
        assert setup.start(progress) is start
        assert setup.exchanges.server(-1, setup.exchanges.fragments.take(start, 0)).params is start
    assert len(told) == 1


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"pretrain": {"steps": 4}}, {"inner": {"learning_rate": 0.25}}, {"inner": {"clip_norm": 0.01}}],
)
def test_pretraining_of_another_kind_is_done_anew(shared: Cache, changes: dict[str, Any]):
    assert largest_difference(Setup(toy(**changes), shared).start(), Setup(toy(), shared).start()) > 1e-4


@pytest.mark.parametrize("changes", [{"batch_size": 8}, {"learning_rate": 0.25}])
def test_pretraining_with_settings_of_its_own_is_shared_by_rounds_with_others(shared: Cache, changes: dict[str, Any]):
    own = {"batch_size": 3, "learning_rate": 0.2}
    assert Setup(toy(pretrain=own, inner=changes), shared).start() is Setup(toy(pretrain=own), shared).start()


def test_pretraining_is_plain_training_on_all_shards_in_turn(shared: Cache):
    experiment = toy(pretrain={"batch_size": 3, "learning_rate": 0.2, "warmup_steps": 4})
    model, dataset = Setup(experiment, shared).model, Setup(experiment, shared).dataset
    order = DataOrder(dataset, 3, experiment.seed)
    params = Setup(toy(pretrain={"steps": 0}), shared).start()
    gradients = jax.jit(jax.value_and_grad(lambda params, batch: model.loss(params, batch, None)))
    losses = []
    for step in range(5):
        batch = dataset.fetch(Setup(experiment, shared).arrays(), order.batch(step % 2, step // 2))
        loss, gradient = gradients(params, batch)
        losses.append(float(loss))
        rate = 0.2 * min(1.0, (step + 1) / 4)
        params = optax.apply_updates(params, jax.tree.map(lambda g, rate=rate: -rate * g, gradient))
    told: list[Any] = []
    assert_close(Setup(experiment, shared).start(lambda *done: told.append(done)), params)
    assert told == [(5, 5, pytest.approx(np.mean(losses), rel=1e-4))]


def test_pretraining_with_an_optimizer_of_its_own_does_not_depend_on_the_inner_one(shared: Cache):
    own = {"optimizer": "sgd", "learning_rate": 0.2}
    start = Setup(toy(pretrain=own), shared).start()
    assert Setup(toy(pretrain=own, inner={"optimizer": "adamw", "weight_decay": 0.1}), shared).start() is start
    same = Setup(toy(pretrain={"learning_rate": 0.2}, inner={"optimizer": "sgd"}), shared).start()
    jax.tree.map(np.testing.assert_array_equal, same, start)
    with pytest.raises(AssertionError):
        jax.tree.map(
            np.testing.assert_array_equal, Setup(toy(pretrain=own | {"optimizer": "sign_sgd"}), shared).start(), start
        )


def test_pretraining_in_chunks_is_pretraining_in_one_go(shared: Cache, monkeypatch: pytest.MonkeyPatch):
    experiment = toy(inner={"arguments": {"momentum": 0.9}})  # a state that has to be handed on
    told: list[Any] = []
    in_one_go = Setup(experiment, shared).start()
    monkeypatch.setattr(pretraining, "PRETRAIN_CHUNK", 2)
    in_chunks = Setup(experiment).start(lambda *done: told.append(done))
    assert [done[:2] for done in told] == [(2, 5), (4, 5), (5, 5)]
    assert_close(in_chunks, in_one_go)
    assert largest_difference(in_one_go, Setup(toy(), shared).start()) > 1e-3  # without momentum


def test_without_pretraining_the_start_depends_on_the_seed_alone(shared: Cache):
    start = Setup(tiny(pretrain={"steps": 0}), shared).start()
    for changes in (*VARIANTS, {"inner": {"learning_rate": 0.25}}):
        assert Setup(tiny(pretrain={"steps": 0}, **changes), shared).start() is start
    other = Setup(tiny(pretrain={"steps": 0}, seed=1), shared).start()
    assert largest_difference(other, start) > 1e-2
    jax.tree.map(np.testing.assert_array_equal, Setup(tiny(pretrain={"steps": 0})).start(), start)


@pytest.mark.parametrize(
    ("steps", "pretrain_batch", "batch", "skipped"),
    [(0, 3, 2, (0, 0)), (4, 2, 2, (2, 2)), (5, 2, 2, (3, 2)), (5, 4, 1, (12, 8)), (4, 3, 2, (3, 3)), (1, 1, 4, (1, 0))],
)
def test_rounds_go_on_behind_the_data_of_pretraining(
    shared: Cache, steps: int, pretrain_batch: int, batch: int, skipped: tuple[int, int]
):
    # Shards take turns, each step with pretrain_batch examples: those are not seen again.
    experiment = tiny(pretrain={"steps": steps, "batch_size": pretrain_batch}, inner={"batch_size": batch})
    dataset = Setup(experiment, shared).dataset
    for shard in (0, 1):
        pretrained = DataOrder(dataset, pretrain_batch, 0).batches(shard, 0, math.ceil((steps - shard) / 2))
        rounds = Setup(experiment, shared).round_data().order(shard, 0, 4)
        assert not set(pretrained.ravel()) & set(rounds.ravel())
        np.testing.assert_array_equal(rounds, DataOrder(dataset, batch, 0).batches(shard, skipped[shard], 4))


# Compiled programs.


def test_variants_and_seeds_share_the_compiled_rounds(shared: Cache):
    programs = Setup(tiny(), shared).programs()
    for changes in (*VARIANTS[:3], *VARIANTS[5:], {"seed": 1}, {"pretrain": {"steps": 0}}):
        assert Setup(tiny(**changes), shared).programs() is programs
    for seed, outer in ((0, {"optimizer": "sgd"}), (1, {"optimizer": "nesterov"})):
        experiment = tiny(seed=seed, outer=outer)
        workers = Workers(Setup(experiment, shared).trainer("serial"))
        for steps in (4, 1, 3):
            workers.submit(stretch(0, steps=steps), Setup(experiment, shared).start())
    assert programs.compilations == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"inner": {"optimizer": "lion"}},
        {"inner": {"clip_norm": 1.0}},
        {"inner": {"state": "reset"}},
        {"model": {"width": 32}},
        {"data": {"tokens": 900}},
    ],
)
def test_what_trains_differently_shares_no_programs(shared: Cache, changes: dict[str, Any]):
    assert Setup(tiny(**changes), shared).programs() is not Setup(tiny(), shared).programs()


@pytest.mark.parametrize("changes", [{"learning_rate": 0.25}, {"schedule": {"kind": "cosine"}}])
def test_learning_rates_are_no_part_of_the_programs(shared: Cache, changes: dict[str, Any]):
    assert Setup(tiny(inner=changes), shared).programs() is Setup(tiny(), shared).programs()


def test_a_cosine_ends_with_the_shards_part_of_the_budget(shared: Cache):
    short, long = (tiny(inner={"schedule": {"kind": "cosine"}}, budget={"local_steps": steps}) for steps in (100, 200))
    # 50 and 100 steps for each of two shards
    assert Setup(short, shared).round_data().rates(0, 50, 1) == pytest.approx([0.0], abs=1e-6)
    assert Setup(long, shared).round_data().rates(0, 50, 1) == pytest.approx([0.25], rel=1e-5)


def test_the_first_step_of_every_round_may_be_at_the_highest_rate(shared: Cache):
    schedule = {"kind": "cosine", "warmup_steps": 10, "peak_first_step": True}
    rates = Setup(tiny(inner={"schedule": schedule}, budget={"local_steps": 100}), shared).round_data().rates
    for first in (0, 4):
        assert rates(0, first, 3) == pytest.approx([0.5, 0.05 * (first + 1), 0.05 * (first + 2)])


def test_data_models_and_evaluators_are_made_once_for_those_that_share_them(shared: Cache):
    one, other = tiny(), tiny(seed=1, outer={"optimizer": "nesterov"})
    assert Setup(one, shared).dataset is Setup(other, shared).dataset
    assert Setup(one, shared).arrays()["tokens"] is Setup(other, shared).arrays()["tokens"]
    assert Setup(one, shared).model is Setup(other, shared).model
    assert Setup(one, shared).evaluation.evaluator is Setup(other, shared).evaluation.evaluator
    few = Setup(tiny(evaluate={"windows": 4}), shared)
    assert few.evaluation.evaluator is not Setup(one, shared).evaluation.evaluator
    assert Setup(tiny(data={"shards": 3}), shared).dataset is not Setup(one, shared).dataset


def test_serial_and_batched_trainers_agree_on_the_model(shared: Cache):
    experiment = tiny(compute={"lanes": 2})
    start = Setup(experiment, shared).start()
    serial, batched = Setup(experiment, shared).trainer("serial"), Setup(experiment, shared).trainer("batched")
    assert isinstance(serial, SerialTrainer)
    assert isinstance(batched, BatchedTrainer)
    rounds = [stretch(0, worker=0, shard=0, steps=4), stretch(1, worker=1, shard=1, steps=2)]
    outcomes = []
    for trainer in (serial, batched):
        workers = Workers(trainer)
        trainings = [workers.submit(round, start) for round in rounds]
        outcomes.append([result_of(training) for training in trainings])
    assert_close(outcomes[0], outcomes[1])
    assert largest_difference(outcomes[0][0].params, outcomes[0][1].params) > 1e-3


def test_a_seed_changes_the_keys_and_the_order_of_the_data(shared: Cache):
    one, other = Setup(tiny(), shared).round_data(), Setup(tiny(seed=1), shared).round_data()
    assert not (jax.random.key_data(one.key) == jax.random.key_data(other.key)).all()
    assert not np.array_equal(one.order(0, 0, 4), other.order(0, 0, 4))


# Models.


def test_a_vocabulary_smaller_than_the_datas_is_refused(shared: Cache):
    with pytest.raises(ModelError, match="the tokenizer has 8 ids: give at least that") as caught:
        _ = Setup(tiny(model={"vocabulary": 7}), shared).model
    assert (caught.value.key, caught.value.value) == ("model.vocabulary", 7)
    rows = Setup(tiny(model={"vocabulary": 9}), shared).model.parameters - Setup(tiny(), shared).model.parameters
    assert rows == 16  # one more token of width 16


def test_sizes_that_do_not_fit_together_are_a_model_error():
    model = tiny().model.model_copy(update={"heads": 3})  # past the schema's own check
    assert isinstance(model, TransformerModel)
    with pytest.raises(ModelError, match="width 16 does not divide into 3 heads") as caught:
        transformer_config(model, 8)
    assert caught.value.key == "model"


def test_a_context_longer_than_the_data_is_refused(shared: Cache):
    with pytest.raises(SettingError) as caught:
        _ = Setup(tiny(model={"context": 500}), shared).dataset
    assert (caught.value.key, caught.value.value) == ("model.context", 500)


def test_classifiers_take_their_sizes_from_the_data(shared: Cache):
    # 5 -> 3 -> 4 and 6 -> 3 -> 4, with biases
    assert Setup(toy(), shared).model.parameters == (5 * 3 + 3) + (3 * 4 + 4)
    assert Setup(toy(data={"dimension": 6}), shared).model.parameters == (6 * 3 + 3) + (3 * 4 + 4)
    assert context_of(toy()) is None


def test_a_cluster_is_told_what_the_model_costs(shared: Cache):
    costs = Setup(tiny(), shared).costs
    leaves = jax.tree.leaves(Setup(tiny(), shared).start())
    assert costs.parameters == sum(leaf.size for leaf in leaves)
    assert costs.flops_per_step == Setup(tiny(), shared).model.train_flops(2)
    assert Setup(tiny(inner={"batch_size": 4}), shared).costs.flops_per_step == 2 * costs.flops_per_step
    assert Setup(tiny(inner={"accumulation": 2}), shared).costs == costs
    again = Setup(tiny(model={"remat": True}), shared)
    assert again.costs.flops_per_step == costs.flops_per_step + again.model.repeated_flops(2) > costs.flops_per_step


@pytest.mark.parametrize("preset", ["20m", "60m", "150m"])
def test_a_preset_keeps_its_sizes_where_nothing_else_is_given(preset: str):
    model = TransformerModel(kind="transformer", preset=preset, dtype="float32", attention="plain")
    assert transformer_config(model, 300) == models.PRESETS[preset]
    assert context_of(tiny(model={"preset": preset, "context": None})) == 256


def test_what_is_given_beside_a_preset_changes_it():
    model = TransformerModel(
        kind="transformer", preset="60m", layers=2, tied=False, context=64, vocabulary=400, dtype="bfloat16"
    )
    config = transformer_config(model, 300)
    expected = dataclasses.replace(
        models.PRESETS["60m"], layers=2, tied=False, context=64, vocabulary=400, dtype="bfloat16"
    )
    assert dataclasses.replace(config, attention="plain") == expected
    assert context_of(tiny(model={"preset": "60m", "context": 64})) == 64


def test_without_a_preset_the_vocabulary_is_the_datas():
    config = transformer_config(tiny().model, 8)
    assert (config.vocabulary, config.layers, config.width, config.heads, config.context) == (8, 1, 16, 2, 8)
    assert config.tied


@pytest.mark.parametrize(
    ("backend", "dtype", "attention"),
    [("cpu", "float32", "plain"), ("gpu", "bfloat16", "fused"), ("tpu", "bfloat16", "fused")],
)
def test_auto_is_decided_by_the_backend_and_what_is_named_is_not(
    monkeypatch: pytest.MonkeyPatch, backend: str, dtype: str, attention: str
):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    auto = transformer_config(tiny().model, 8)
    assert (auto.dtype, auto.attention) == (dtype, attention)
    for named in (("float32", "fused"), ("bfloat16", "plain")):
        model = tiny(model={"dtype": named[0], "attention": named[1]}).model
        config = transformer_config(model, 8)
        assert (config.dtype, config.attention) == named
