"""Shows JAX the cores of the CPU, so that rounds of different workers can each have one."""

import os
import sys

_SETTING = "JAX_NUM_CPU_DEVICES"


def use_cpu_cores(count: int | None = None) -> None:
    """Makes every core of the CPU a JAX device; has to be called before JAX computes anything.

    A small model's round keeps one core busy and gains little from more, so that rounds side by side are faster. The
    environment's JAX_NUM_CPU_DEVICES, or a number of host devices in XLA_FLAGS, takes precedence.

    Args:
      count: number of devices; the cores that this process may run on when absent.

    Raises:
      RuntimeError: JAX has computed something already.
    """
    if _SETTING in os.environ or "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    count = count or available_cores()
    if "jax" in sys.modules:
        import jax

        jax.config.update("jax_num_cpu_devices", count)  # type: ignore[no-untyped-call]
    else:
        os.environ[_SETTING] = str(count)  # read when JAX is imported


def available_cores() -> int:
    """Returns the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
