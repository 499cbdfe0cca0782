"""Environment of a process that simulates points: devices, memory, and JAX's settings.

JAX is imported where it is asked: some settings are made before it is loaded.
"""

import dataclasses
import math
import os
import sys
from collections.abc import Mapping

from simulator.experiment import ExperimentError, Problem
from simulator.experiment.plugins import Plugin, plugins_so_far, run_plugins
from simulator.host.jax_setup import available_cores, choice_of_user

_CPU_DEVICES, _FRACTION, _PREALLOCATE = (
    "JAX_NUM_CPU_DEVICES",
    "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "XLA_PYTHON_CLIENT_PREALLOCATE",
)
_PLATFORMS = "JAX_PLATFORMS"
_THREADS = "PJRT_NPROC"
_FORCED = "xla_force_host_platform_device_count"
_VISIBLE = "CUDA_VISIBLE_DEVICES"
USED_OF_GPU = 0.9
"""How much of a GPU's memory the processes that share it take for arrays: each has a context beside them."""


@dataclasses.dataclass(frozen=True)
class ProcessEnvironment:
    """Environment of a process.

    Attributes:
      variables: to set before JAX is loaded; those that are None are removed.
      memory: its part of the host's memory: bytes, or a share up to 1.
      plugins: to run first; those of this process when absent.
    """

    variables: Mapping[str, str | None]
    memory: float = 1.0
    plugins: tuple[Plugin, ...] = dataclasses.field(default_factory=plugins_so_far)

    def enter(self) -> None:
        """Sets the environment of this process, and runs the plugins.

        Raises:
          ExperimentError: a plugin cannot be run.
          RuntimeError: JAX computes already, with other settings.
        """
        for name, value in self.variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        cores = self.variables.get(_CPU_DEVICES)
        if cores is not None and "jax" in sys.modules:  # by a script that multiprocessing has read again
            import jax

            if jax.config.jax_num_cpu_devices != int(cores):  # type: ignore[attr-defined]
                jax.config.update("jax_num_cpu_devices", int(cores))  # type: ignore[no-untyped-call]
        run_plugins(self.plugins)


def leave_memory_to_others() -> None:
    """Makes JAX take no more of a GPU's memory than it needs, in a process that only looks at experiments.

    To be called before JAX computes anything. The environment's own setting takes precedence.
    """
    os.environ.setdefault(_PREALLOCATE, "false")


def local_environments(processes: int) -> list[ProcessEnvironment]:
    """Returns the environment of each of several processes on this machine.

    On a CPU each has as many JAX devices as this one, so that the same rounds share a program and results have the same
    bits; the operating system divides the cores. GPUs are divided: each process has some, or a part of one.

    Raises:
      ExperimentError: the devices of this machine belong to one process.
    """
    import jax

    backend, devices = jax.default_backend(), jax.local_device_count()
    if backend == "cpu":
        return [ProcessEnvironment(_cpu_devices(devices), 1 / processes)] * processes
    if backend not in ("gpu", "cuda", "rocm"):
        message = f"a {backend.upper()} belongs to one process: use --jobs 1, or --engine ray on several machines"
        raise ExperimentError([Problem("--jobs", message, processes)])
    visible = [name for name in os.environ.get(_VISIBLE, "").split(",") if name] or [str(i) for i in range(devices)]
    each, sharing = max(1, devices // processes), math.ceil(processes / devices)
    found = []
    for place in range(processes):
        first = place % devices if sharing > 1 else place * each
        own = ",".join(visible[first : first + each])
        variables = {_VISIBLE: own, _PREALLOCATE: None}
        if sharing > 1 and _FRACTION not in os.environ:
            variables[_FRACTION] = f"{USED_OF_GPU / sharing:.3f}"
        found.append(ProcessEnvironment(variables, 1 / processes))
    return found


def local_cores() -> int:
    """Returns the default number of JAX devices of a CPU's task: as many as this process would have."""
    import jax

    return jax.local_device_count() if jax.default_backend() == "cpu" else available_cores()


def node_environment(cpus: float | None, gpus: float, memory: float | None) -> ProcessEnvironment:
    """Returns the environment of a task on a machine of a cluster.

    Args:
      cpus: number of its CPUs: on a CPU as many JAX devices, and threads of XLA's. When absent, what this machine has,
        so that results have the same bits.
      gpus: number of its GPUs; a part of one has that part of its memory.
      memory: bytes of the host's.
    """
    devices, threads = (local_cores(), available_cores()) if cpus is None else (max(1, math.floor(cpus)),) * 2
    variables: dict[str, str | None] = {_THREADS: str(threads), _PREALLOCATE: None, **_cpu_devices(devices)}
    variables |= {name: value for name, value in os.environ.items() if _is_setting(name)}
    if choice := choice_of_user():
        variables[_PLATFORMS] = choice
    if 0 < gpus < 1:
        variables[_FRACTION] = f"{USED_OF_GPU * gpus:.3f}"
    if gpus == 0:
        variables.setdefault(_PLATFORMS, "cpu")
    return ProcessEnvironment(variables, memory or 1.0)


def _cpu_devices(count: int) -> dict[str, str]:
    """Returns the variables for `count` devices of a CPU; none if XLA_FLAGS, which go along, set the number."""
    return {} if _FORCED in os.environ.get("XLA_FLAGS", "") else {_CPU_DEVICES: str(count)}


def _is_setting(name: str) -> bool:
    """Returns whether an environment variable decides what JAX computes: not this machine's own paths."""
    ours = (_PLATFORMS, _CPU_DEVICES, _THREADS, _FRACTION, _PREALLOCATE)
    return (name.startswith("JAX_") or name == "XLA_FLAGS") and name not in ours and "_DIR" not in name
