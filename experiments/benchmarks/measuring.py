"""Measuring, as all benchmarks do it."""

import os
import platform
import resource
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path


def seconds(run: Callable[[], object]) -> float:
    """Returns how long a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def own_peak_mib() -> float:
    """Returns the peak resident memory of this process in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says on Linux includes the parent at the time of the fork
        [peak] = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def machine(*packages: str) -> str:
    """Returns a line that says where and with which versions of packages a table was made."""
    import jax

    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    device = f"{jax.local_device_count()} x {jax.devices()[0].device_kind}"
    return f"{versions}, Python {platform.python_version()}; {device} ({jax.default_backend()}), {_cpu()}"


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{cores()} cores, {names[0] if names else platform.machine()}"


def cores() -> int:
    """Returns the cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
