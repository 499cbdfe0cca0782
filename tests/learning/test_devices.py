"""The same numbers on one device and on eight: virtual devices of the CPU, in a process of their own."""

import json
import os
import subprocess
import sys

import pytest

SIMULATE = """
import json, sys
import jax
from simulator import Workshop, simulate
from tests.experiments import tiny

jax.config.update("jax_numpy_dtype_promotion", "standard")
workshop, found = Workshop(), {"devices": jax.local_device_count()}
for kind in ("barrier", "asynchronous"):
    # Six unequal workers: five of eight devices idle, two rounds on each of two, dynamic rounds of different lengths.
    experiment = tiny(
        cluster={"devices": {"seconds_per_step": [0.5, 0.6, 0.9, 1.1, 1.5, 3.3]}},
        synchronization={"kind": kind},
        local_steps={"kind": "fixed" if kind == "barrier" else "dynamic"},
        compute={"lanes": json.loads(sys.argv[1])},
    )
    record = simulate(experiment, workshop=workshop)
    found[kind] = [record.evaluations["loss"].tolist(), record.rounds["train_loss"].tolist()]
programs = workshop.programs(experiment)
found["used"], found["compilations"] = len(programs.devices), programs.compilations
print(json.dumps(found))
"""


def simulated(devices, lanes=None):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    command = [sys.executable, "-c", SIMULATE, json.dumps(lanes)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


@pytest.fixture(scope="module")
def alone():
    return simulated(1)


@pytest.mark.parametrize(("devices", "lanes", "used", "compilations"), [(8, None, 6, 1), (2, 4, 2, 2)])
def test_rounds_on_several_devices_give_the_numbers_of_one(alone, devices, lanes, used, compilations):
    spread = simulated(devices, lanes)
    assert (spread["devices"], spread["used"], spread["compilations"]) == (devices, used, compilations)
    assert (alone["devices"], alone["used"], alone["compilations"]) == (1, 1, 1)
    for kind in ("barrier", "asynchronous"):
        for values, expected in zip(spread[kind], alone[kind], strict=True):
            assert values == pytest.approx(expected, rel=1e-4)


def test_the_same_on_two_devices_twice_is_the_same_bits():
    assert simulated(2) == simulated(2)
