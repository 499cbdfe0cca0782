"""JAX's settings, also on a machine with a plugin for CUDA that crashes without a driver, as on a login node."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from simulator.experiment.file import merge
from simulator.host import jax_setup
from simulator.sweep.executors.environment import node_environment
from tests.experiments import TINY, outside
from tests.killed_runs import CLASSIFIER

CRASHING = """
import os, signal
from jax._src import config

def initialize():
    chosen = config.jax_platforms.value
    if not chosen or "cuda" in chosen.split(","):
        os.kill(os.getpid(), signal.SIGSEGV)
"""
_SETTINGS = ("JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES", "XLA_FLAGS")
CLI = "from simulator.cli.main import main; main()"
SAID = "tardigrad: no NVIDIA driver was found: JAX computes on the CPU\n"
without_driver = pytest.mark.skipif(
    any(os.path.exists(device) for device in jax_setup.NVIDIA_DEVICES), reason="there is an NVIDIA driver"
)


def run(code: str, *arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in outside().items() if name not in _SETTINGS}
    kept["PYTHONPATH"] = os.pathsep.join([str(folder), kept["PYTHONPATH"]])
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=kept | environment, cwd=folder)


@pytest.fixture
def cuda(tmp_path: Path) -> Path:
    plugin = tmp_path / "jax_plugins/xla_cuda99/__init__.py"
    plugin.parent.mkdir(parents=True)
    plugin.write_text(CRASHING)
    return tmp_path


@without_driver
def test_cuda_without_a_driver_is_left_alone_and_said(cuda: Path):
    assert run("import jax; jax.devices()", folder=cuda).returncode == -signal.SIGSEGV
    simulated = run("import jax, simulator; print(jax.default_backend())", folder=cuda)  # however early JAX is loaded
    assert (simulated.returncode, simulated.stdout) == (0, "cpu\n")
    document = merge(TINY, merge(CLASSIFIER, {"budget": {"local_steps": 20}, "sweep": {"seed": [0, 1]}}))
    (cuda / "experiment.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    fast = os.environ["XLA_FLAGS"]  # to compile
    ran = run(CLI, "run", "experiment.yaml", "--out", "a", "--jobs", "2", folder=cuda, XLA_FLAGS=fast)
    assert (ran.returncode, ran.stderr) == (0, SAID)
    assert run(CLI, "profiles", folder=cuda).stderr == ""  # which takes no JAX


@without_driver
@pytest.mark.parametrize(
    ("choice", "code", "said"),
    [
        ("cuda,cpu", 0, SAID),
        ("cpu", 0, ""),
        ("cuda", 2, "tardigrad: JAX_PLATFORMS = 'cuda': JAX cannot compute there (no NVIDIA driver was found): "),
    ],
)
def test_a_choice_of_the_users_is_kept_as_far_as_it_can_be(cuda: Path, choice: str, code: int, said: str):
    ran = run(CLI, "models", folder=cuda, JAX_PLATFORMS=choice)
    assert ran.returncode == code
    assert ran.stderr.startswith(said)
    assert ran.stderr.count("\n") == bool(said)


@without_driver
@pytest.mark.parametrize("choice", ["cuda", "tpu", "nonsense", "cpu,", "CPU"])
def test_a_platform_that_cannot_be_used_is_one_message(tmp_path: Path, choice: str):
    ran = run(CLI, "models", folder=tmp_path, JAX_PLATFORMS=choice)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith(f"tardigrad: JAX_PLATFORMS = {choice!r}: JAX cannot compute there (")
    assert ran.stderr.endswith("): set it to cpu, or leave it unset, so that JAX chooses\n")
    assert ran.stderr.count("\n") == 1


def test_another_setting_of_jaxs_that_is_wrong_is_one_message(tmp_path: Path):
    ran = run(CLI, "models", folder=tmp_path, JAX_ENABLE_X64="maybe")
    assert ran.returncode == 2
    assert ran.stderr == (
        "tardigrad: JAX cannot be used: invalid truth value 'maybe' for environment 'JAX_ENABLE_X64'\n"
    )


@pytest.mark.parametrize(
    ("installed", "devices", "library", "lacks"),
    [
        (["xla_cuda13"], [], "libc.so.6", True),
        (["xla_cuda13"], ["/"], "libabsent.so.1", True),
        (["xla_cuda13"], ["/"], "libc.so.6", False),
        ([], [], "libabsent.so.1", False),
    ],
)
def test_a_driver_is_a_device_and_a_library(
    monkeypatch: pytest.MonkeyPatch, installed: list[str], devices: list[str], library: str, lacks: bool
):
    monkeypatch.setattr(jax_setup, "NVIDIA_DEVICES", tuple(devices))
    monkeypatch.setattr(jax_setup, "NVIDIA_DRIVER", library)
    assert jax_setup.lacks_driver(installed) == lacks


@pytest.mark.parametrize(
    ("installed", "choice", "then"),
    [
        (["xla_cuda13"], "", "cpu"),
        (["xla_cuda13", "libtpu"], "", ""),  # JAX is to find the TPU
        (["xla_cuda13", "libtpu"], "cuda,tpu", "tpu"),
        (["xla_cuda13"], "cuda", "cuda"),
        (["xla_cuda13"], "cpu", "cpu"),
        ([], "", ""),
    ],
)
def test_what_is_chosen_where_cuda_has_no_driver(
    monkeypatch: pytest.MonkeyPatch, installed: list[str], choice: str, then: str
):
    monkeypatch.setattr(jax_setup, "jax_plugins", lambda: installed)
    monkeypatch.setattr(jax_setup, "NVIDIA_DEVICES", ())
    monkeypatch.setattr(jax_setup, "replaced_choice", None)
    monkeypatch.setenv("JAX_PLATFORMS", choice)
    monkeypatch.delitem(sys.modules, "jax", raising=False)
    jax_setup.avoid_cuda_without_driver()
    assert os.environ["JAX_PLATFORMS"] == then
    assert jax_setup.cuda_is_avoided() == (then != choice)
    assert jax_setup.choice_of_user() == choice


def test_a_clusters_machines_do_not_have_to_do_without_cuda_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jax_setup, "jax_option", lambda name: "cpu")
    assert node_environment(1, 1, None).variables["JAX_PLATFORMS"] == "cpu"  # the user's choice
    monkeypatch.setattr(jax_setup, "replaced_choice", "")
    assert "JAX_PLATFORMS" not in node_environment(1, 1, None).variables
    assert node_environment(1, 0, None).variables["JAX_PLATFORMS"] == "cpu"
    monkeypatch.setattr(jax_setup, "replaced_choice", "cuda,cpu")
    assert node_environment(1, 1, None).variables["JAX_PLATFORMS"] == "cuda,cpu"


SHOW = "import simulator; simulator.use_cpu_cores({}); import jax; print(jax.local_device_count())"
LATE = "import jax, simulator; jax.numpy.ones(1).block_until_ready(); simulator.use_cpu_cores(3)"
IN_TIME = "import jax, simulator; simulator.use_cpu_cores(3); print(jax.local_device_count())"


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
def test_cores_are_devices_unless_the_environment_says_otherwise(tmp_path, code, environment, devices):
    assert run(code, folder=tmp_path, JAX_PLATFORMS="cpu", **environment).stdout == f"{devices}\n"


def test_it_is_an_error_once_jax_has_computed_something(tmp_path):
    failed = run(LATE, folder=tmp_path, JAX_PLATFORMS="cpu")
    assert failed.returncode == 1
    assert "RuntimeError" in failed.stderr
