"""The same numbers on one device and on eight: virtual devices of the CPU, in a process of their own."""

import json
import os
import subprocess
import sys

import pytest

SIMULATE = """
import json, sys
import jax
from simulator import Cache, Setup, simulate
from tests.experiments import tiny

jax.config.update("jax_numpy_dtype_promotion", "standard")
cache, found = Cache(), {"devices": jax.local_device_count()}
for name in json.loads(sys.argv[2]):
    kind = name.split()[0]
    # Six unequal workers: five of eight devices idle, two rounds on each of two, dynamic rounds of different lengths.
    experiment = tiny(
        cluster={"devices": {"seconds_per_step": [0.5, 0.6, 0.9, 1.1, 1.5, 3.3]}},
        synchronization={"kind": kind},
        local_steps={"kind": "fixed" if kind == "barrier" else "dynamic"},
        compute={"lanes": json.loads(sys.argv[1])},
    )
    record = simulate(experiment, cache=cache)
    found[name] = [record.evaluations["loss"].tolist(), record.rounds["train_loss"].tolist()]
    found[name + " clock"] = [record.summary["causal_hash"], record.rounds.drop(columns="train_loss").to_json()]
programs = Setup(experiment, cache).programs()
found["used"], found["compilations"] = len(programs.devices), programs.compilations
print(json.dumps(found))
"""


VERSIONS = """
import gc, json, sys
sys.path.insert(0, "tests/learning")
import jax
import jax.numpy as jnp
from tests.learning.quadratic import ARRAYS, Workers, momentum_recipe, result_of, round_data, stretch
from simulator.learning import BatchedTrainer, Programs
from simulator.learning.compiled_rounds import everywhere
import dataclasses

SHAPE = (11, 13, 17)

def alive():
    gc.collect()
    return sum(array.shape == SHAPE for array in jax.live_arrays())

devices = jax.local_devices()
programs = Programs(momentum_recipe(loss=lambda params, batch, key: jnp.mean(jnp.square(params["x"]))), devices)
trainer = BatchedTrainer(programs, dataclasses.replace(round_data(), arrays=everywhere(ARRAYS, devices)), 8)
version = {"x": jax.device_put(jnp.ones(SHAPE), devices[0])}
found = [alive()]
workers = Workers(trainer)
trainings = [workers.submit(stretch(worker, worker, steps=1 + worker % 3), version) for worker in range(8)]
found.append(alive())
results = [result_of(training) for training in trainings]
states = [workers.inner[worker].get() for worker in range(8)]
found.append(alive())
home = {device for result in results for device in result.params["x"].devices()} == {devices[0]}
del version, results, states
trainings = trainings[:1]
found.append(alive())
del trainings
found.append(alive())
print(json.dumps([home, *found]))
"""


def on_devices(devices, code, *arguments):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    command = [sys.executable, "-c", code, *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


KINDS = ("barrier", "asynchronous")


def simulated(devices, lanes=None, kinds=KINDS):
    return on_devices(devices, SIMULATE, json.dumps(lanes), json.dumps(kinds))


@pytest.fixture(scope="module")
def alone():
    return simulated(1)


@pytest.mark.parametrize(("devices", "lanes", "used", "compilations"), [(8, None, 6, 1)])
def test_rounds_on_several_devices_give_the_numbers_of_one(alone, devices, lanes, used, compilations):
    spread = simulated(devices, lanes)
    assert (spread["devices"], spread["used"], spread["compilations"]) == (devices, used, compilations)
    assert (alone["devices"], alone["used"], alone["compilations"]) == (1, 1, 1)
    for kind in KINDS:
        for values, expected in zip(spread[kind], alone[kind], strict=True):
            assert values == pytest.approx(expected, rel=1e-4)
        assert spread[f"{kind} clock"] == alone[f"{kind} clock"]


def test_the_same_asynchronous_run_on_two_devices_twice_is_the_same_bits():
    found = simulated(2, 4, ["asynchronous", "asynchronous again"])
    assert found["asynchronous"] == found["asynchronous again"]
    assert found["asynchronous clock"] == found["asynchronous again clock"]


@pytest.mark.parametrize("devices", [1, 4])
def test_a_version_is_held_once_by_all_that_pulled_it_and_freed_with_the_last(devices):
    home, alone, submitted, computed, one_left, none_left = on_devices(devices, VERSIONS)
    assert home
    assert alone == submitted == 1
    # Eight ends and momenta, and the momentum of a worker that has not trained.
    assert computed == 1 + 8 + 8 + 1
    # One training holds the version and its end; the momenta stay.
    assert one_left == 1 + 1 + 8 + 1
    assert none_left == 8 + 1
