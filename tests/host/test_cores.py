import os
import subprocess
import sys

import pytest

SHOW = "import simulator; simulator.use_cpu_cores({}); import jax; print(jax.local_device_count())"
LATE = "import jax, simulator; jax.numpy.ones(1).block_until_ready(); simulator.use_cpu_cores(3)"
IN_TIME = "import jax, simulator; simulator.use_cpu_cores(3); print(jax.local_device_count())"


def run(code, check=True, **environment):
    kept = {name: value for name, value in os.environ.items() if name not in ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS")}
    command = [sys.executable, "-c", code]
    environment = kept | {"JAX_PLATFORMS": "cpu"} | environment
    return subprocess.run(command, check=check, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize(
    ("code", "environment", "devices"),
    [
        (SHOW.format(3), {}, 3),
        (SHOW.format(""), {}, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        (SHOW.format(3), {"JAX_NUM_CPU_DEVICES": "2"}, 2),
        (SHOW.format(3), {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}, 2),
        (IN_TIME, {}, 3),
    ],
)
def test_cores_are_devices_unless_the_environment_says_otherwise(code, environment, devices):
    assert run(code, **environment).stdout == f"{devices}\n"


def test_it_is_an_error_once_jax_has_computed_something():
    failed = run(LATE, check=False)
    assert failed.returncode == 1
    assert "RuntimeError" in failed.stderr
