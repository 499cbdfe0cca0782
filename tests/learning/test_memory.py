import dataclasses
import gc
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from simulator.experiment import Experiment, ExperimentError
from simulator.experiment.file import merge
from simulator.learning import (
    BatchedTrainer,
    Cache,
    MemoryNeedError,
    OfferInfo,
    OuterPrograms,
    Programs,
    SerialTrainer,
    Server,
    Setup,
    Training,
)
from simulator.learning.memory import Layout, Sizes, fitting_lanes, memory_limit, needs
from simulator.learning.memory_remedies import remedies
from simulator.simulation.checks import check
from simulator.simulation.simulate import Simulation, simulate
from tests.experiments import tiny
from tests.learning.quadratic import START, Workers, momentum_recipe, round_data, stretch

SIZES = Sizes(params=10, inner=20, outer=30, data=1000, activations=100, evaluation=70)


# The estimate.


def test_the_parts_by_hand():
    alone = needs(SIZES, Layout(workers=4, lanes=1)).parts
    assert alone == {
        "server": 2 * (10 + 30) + 10,
        "versions": 4 * 10,
        "results": 2 * (10 + 20),  # one that is due, and one computed meanwhile
        "inner states": (4 + 1) * 20,
        "data": 1000,
        "1 x lane": 2 * (10 + 20) + 10 + 100,
    }
    assert needs(SIZES, Layout(workers=4, lanes=1, barrier=True)).parts["versions"] == 10
    assert needs(SIZES, Layout(workers=4, lanes=1, barrier=True)).parts["results"] == 4 * 10 + 2 * 20
    together = needs(SIZES, Layout(workers=4, lanes=4)).parts
    assert (together["results"], together["4 x lane"]) == (4 * 30, 4 * 170)
    assert needs(SIZES, Layout(workers=4, lanes=1, copies=3)).parts["versions"] == 4 * 3 * 10
    assert needs(SIZES, Layout(workers=4, lanes=1, servers=4)).parts["server"] == (4 + 1) * (10 + 30) + 10


@pytest.mark.parametrize("changes", [{"lanes": 2}, {"lanes": 4, "devices": 4}, {"serial": True}], ids=str)
def test_rounds_that_are_computed_before_they_are_due_wait(changes: dict[str, Any]):
    assert needs(SIZES, Layout(**{"workers": 64, "lanes": 1} | changes)).parts["results"] == 64 * (10 + 20)


@pytest.mark.parametrize("shared", [False, True])
def test_a_serial_trainer_uses_one_device_where_evaluation_uses_all(shared: bool):
    found = needs(SIZES, Layout(workers=4, lanes=4, devices=4, shared=shared, serial=True)).parts
    assert found["inner states"] == (4 + 1) * 20
    assert found["data"] == (4000 if shared else 1000)
    assert found["1 x lane"] == (4 * (10 + 70) if shared else 170)


def test_pretraining_counts_where_it_needs_more_than_what_comes_after_it():
    layout = Layout(workers=4, lanes=1)
    simulating = needs(SIZES, layout)
    little, much = (needs(dataclasses.replace(SIZES, pretraining=size), layout) for size in (1, 9000))
    assert little == simulating
    assert much.parts == {"data": 1000, "pretraining": 9000}
    cache, pretrain = Cache(), {"steps": 1, "optimizer": "sgd"}
    plain = Setup(tiny(), cache).sizes.pretraining
    small, large = (Setup(tiny(pretrain=pretrain | {"batch_size": size}), cache).sizes.pretraining for size in (4, 64))
    assert plain == 0 < small < large
    assert Setup(tiny(pretrain={"steps": 1}), cache).sizes.pretraining > small  # which has no moments
    assert "pretraining" in str(Setup(tiny(pretrain={"steps": 1, "batch_size": 256}), cache).needs)


def test_devices_share_the_states_and_those_of_a_cpu_the_memory():
    apart = needs(SIZES, Layout(workers=4, lanes=4, devices=2)).parts
    assert (apart["inner states"], apart["data"], apart["2 x lane"]) == (3 * 20, 1000, 2 * 170)
    shared = needs(SIZES, Layout(workers=4, lanes=4, devices=2, shared=True)).parts
    assert (shared["inner states"], shared["data"], shared["4 x lane"]) == (5 * 20, 2000, 4 * 170)


def test_as_many_lanes_as_fit_and_an_error_that_says_what_is_needed_where_none_does():
    layout = Layout(workers=8, lanes=8)
    total = {lanes: needs(SIZES, dataclasses.replace(layout, lanes=lanes)).total for lanes in (8, 4, 2, 1)}
    assert sorted(total.values(), reverse=True) == list(total.values())
    for lanes, bytes_needed in total.items():
        assert fitting_lanes(SIZES, bytes_needed, layout) == lanes
    assert total[8] - total[4] == 4 * SIZES.lane
    with pytest.raises(MemoryNeedError, match=r"one round at a time \(server .*, 1 x lane .*\): use inner"):
        fitting_lanes(SIZES, total[1] - 1, layout)


def test_a_limit_is_a_share_or_a_size():
    assert memory_limit(2e9) == 2e9
    assert 0 < memory_limit(0.5) == memory_limit(1.0) / 2


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"inner": {"batch_size": 32}},
        {"model": {"vocabulary": 3000}},
        {"inner": {"optimizer": "sgd"}},
        {"model": {"layers": 4}, "inner": {"stages": {"kind": "asynchronous", "count": 4}}},
        {"inner": {"batch_size": 32, "accumulation": 4}},
        {"model": {"layers": 4, "remat": True}, "inner": {"batch_size": 32}},
        {"model": {"layers": 4, "remat": True}, "inner": {"batch_size": 32, "accumulation": 8}},
    ],
)
def test_the_estimate_of_a_lane_is_what_xla_allocates_and_not_much_more(
    changes: dict[str, Any], lanes: int, mixed_dtypes: None
):
    base: dict[str, Any] = {"model": {"width": 32, "context": 16}}
    experiment = tiny(**{key: base.get(key, {}) | changes.get(key, {}) for key in {*base, *changes}})
    cache = Cache()
    setup = Setup(experiment, cache)
    programs, params = setup.programs(1), setup.start()
    state = programs.recipe.initial_state(params)
    inputs = setup.round_data().inputs(stretch(0), params, state)
    found = programs.memory(setup.arrays(), round_data().key, [inputs] * lanes)
    assert found <= lanes * setup.sizes.lane <= 2.5 * found


def test_fewer_lanes_where_memory_does_not_suffice_for_those_asked_for():
    cache = Cache()
    experiment = tiny(compute={"lanes": 4})
    setup = Setup(experiment, cache)
    assert setup.lanes == 4
    sizes = setup.sizes
    enough_for_two = needs(sizes, Layout(workers=4, lanes=2, shared=True)).total
    assert Setup(tiny(compute={"lanes": 4, "memory": enough_for_two}), cache).lanes == 2
    assert Setup(tiny(compute={"lanes": 4, "memory": f"{enough_for_two / 1e3} kB"}), cache).lanes == 2


def test_a_simulation_that_does_not_fit_says_so_before_it_runs(mixed_dtypes: None):
    with pytest.raises(ExperimentError) as error:
        simulate(tiny(compute={"memory": "50kB"}))
    [problem] = error.value.problems
    assert (problem.key, problem.value) == ("compute.memory", "50 kB")
    remedies = ("inner.batch_size", "evaluate.batch_size", "pretrain.batch_size", "raise compute.memory")
    for what in ("server", "versions", "inner states", "data", "1 x lane", *remedies):
        assert what in problem.message


def paper(preset: str = "150m", **changes: Any) -> Experiment:
    """The paper's setting on an accelerator: AdamW and float32 parameters, activations of 16 bits, batches of 512."""
    tree: dict[str, Any] = {
        "model": {"kind": "transformer", "preset": preset, "context": None, "dtype": "bfloat16", "attention": "fused"}
        | dict.fromkeys(("layers", "width", "heads")),
        "data": {"tokens": 900_000},
        "inner": {"batch_size": 512},
        "compute": {"memory": "78GB"},  # 2 GB are left for logits: an accelerator makes more of them at a time
    }
    return tiny(**merge(tree, changes))


def test_the_papers_largest_model_with_its_largest_batch_fits_an_accelerator_of_80_gigabytes():
    cache = Cache()
    whole = Setup(paper(), cache)
    assert whole.model.parameters == 150_034_304
    assert not whole.fits
    for changes in ({"inner": {"accumulation": 16}}, {"inner": {"accumulation": 4}, "model": {"remat": True}}):
        assert Setup(paper(**changes), cache).fits


def of_divisors(*, with_remat: int, without: int) -> Any:
    """Returns whether an experiment fits that needs so many parts of a batch."""
    return lambda made: made.inner.accumulation >= (with_remat if made.model.remat else without)


@pytest.mark.parametrize(
    ("changes", "needed", "told"),
    [
        ({}, {"without": 3, "with_remat": 1}, "inner.accumulation: 4, or model.remat: true"),
        ({}, {"without": 8, "with_remat": 3}, "inner.accumulation: 8, or inner.accumulation: 4 and model.remat: true"),
        ({}, {"without": 9, "with_remat": 2}, "inner.accumulation: 2 and model.remat: true"),
        ({}, {"without": 2, "with_remat": 2}, "inner.accumulation: 2"),
        ({}, {"without": 9, "with_remat": 9}, ""),
        ({"model": {"remat": True}}, {"without": 1, "with_remat": 5}, "inner.accumulation: 8"),
        ({"inner": {"accumulation": 4}}, {"without": 9, "with_remat": 3}, "model.remat: true"),
        # Of pretraining's batch of 12 too, unless its parts are given.
        ({"pretrain": {"steps": 1, "batch_size": 12}}, {"without": 3, "with_remat": 5}, "inner.accumulation: 4"),
        (
            {"pretrain": {"steps": 1, "batch_size": 12, "accumulation": 6}},
            {"without": 5, "with_remat": 5},
            "inner.accumulation: 8",
        ),
    ],
    ids=str,
)
def test_remedies_by_hand(changes: dict[str, Any], needed: dict[str, int], told: str):
    experiment = tiny(**merge({"inner": {"batch_size": 8}}, changes))
    assert remedies(experiment, of_divisors(**needed)) == (f"; enough would be {told}" if told else "")


def test_the_message_of_a_simulation_that_does_not_fit_says_what_would_and_that_does():
    cache, large = Cache(), {"inner": {"optimizer": "sgd", "batch_size": 256}, "compute": {"lanes": 1}}
    parted = {parts: tiny(**merge(large, {"inner": {"accumulation": parts}})) for parts in (1, 4, 8)}
    total = {parts: Setup(made, cache).needs.total for parts, made in parted.items()}
    assert total[8] < total[4] < total[1]
    [problem] = check(tiny(**merge(large, {"compute": {"memory": total[4]}})), cache)
    assert re.search(r"; enough would be inner.accumulation: 4(, or|$)", problem.message)
    assert check(tiny(**merge(large, {"compute": {"memory": total[4]}, "inner": {"accumulation": 4}})), cache) == []


# Versions.


def alive(shape: tuple[int, ...]) -> int:
    """Returns how many arrays of a shape that nothing else has are held, on whatever device."""
    gc.collect()
    return sum(array.shape == shape for array in jax.live_arrays())


@pytest.mark.parametrize("make", [BatchedTrainer, lambda programs, data, lanes: SerialTrainer(programs, data)])
def test_a_version_is_held_once_however_many_pulled_it_and_freed_with_the_last(make: Any):
    shape = (11, 13, 17)
    programs = Programs(momentum_recipe(loss=lambda params, batch, key: jnp.mean(jnp.square(params["x"]))))
    server = Server({"x": jnp.ones(shape)}, OuterPrograms(optax.with_extra_args_support(optax.sgd(0.7))))
    trainer = make(programs, round_data(), 2)
    version = server.params
    workers = Workers(trainer)
    trainings: list[Training] = [workers.submit(stretch(worker, worker), version) for worker in range(4)]
    assert all(training.start.get()["x"] is version["x"] for training in trainings)
    del version
    before = alive(shape)
    server.apply(jax.tree.map(jnp.zeros_like, server.params), OfferInfo(0, 0), server.params)
    assert alive(shape) == before + 1  # the new one: the trainings still hold the old one
    if make is BatchedTrainer:
        assert before == 1
    while trainings:
        training = trainings.pop()
        workers.inner[training.stretch.worker].get()
        held = training.start.get()["x"]
        del training
        assert any(array is held for array in jax.live_arrays())
        del held
    # Left are the new version, the momentum of four workers and that of one that has not trained.
    assert alive(shape) == 1 + 4 + 1


def test_a_simulation_holds_no_more_versions_than_are_under_way(mixed_dtypes: None):
    of_its_own = {"width": 26}  # other tests of this process keep other shapes
    changes = {"model": of_its_own, "inner": {"optimizer": "sgd"}, "outer": {"momentum": 0.0}}
    simulation = Simulation(tiny(**changes), cache=Cache())
    simulation.run()
    assert simulation.learner is not None
    leaf = max(jax.tree.leaves(simulation.learner.params()), key=np.size)
    assert START["x"].shape != leaf.shape
    # The start, which the cache keeps, the present version, the momentum of the server, and what four rounds hold.
    assert alive(leaf.shape) <= 3 + 2 * 4
