"""JAX's settings on this machine, in the order in which they are made.

1. `avoid_cuda_without_driver`, when this package is imported: without a driver JAX's plugin for CUDA may end the
   process with a segmentation fault. JAX leaves it alone where JAX_PLATFORMS does not name CUDA.
2. `use_cpu_cores`, before JAX computes anything.
3. `check_platform`, with which JAX chooses where it computes.
4. `compile_cache.keep_compiled_programs`, before it compiles anything.

JAX itself is imported late: most of this has to come before.
"""

import importlib.util
import os
import pkgutil
import re
import sys
from typing import Any, NoReturn

from simulator.host.errors import SettingError

_PLATFORMS, _CPU_DEVICES = "JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES"
_CUDA = {"cuda", "gpu"}
NVIDIA_DEVICES = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg")  # without any of them JAX uses no CUDA either
NVIDIA_DRIVER = "libcuda.so.1"
replaced_choice: str | None = None
"""The user's JAX_PLATFORMS where it was replaced, since CUDA has no driver."""


def avoid_cuda_without_driver() -> None:
    """Makes JAX ignore CUDA that is installed without a driver; to be called before JAX computes anything.

    JAX then uses other platforms of JAX_PLATFORMS, or the CPU where the user has chosen nothing. A choice of CUDA alone
    is left as it is: `check_platform` reports it.
    """
    global replaced_choice
    names, plugins = _platforms(), jax_plugins()
    others = [name for name in names if name not in _CUDA]
    if not names and all(plugin.startswith("xla_cuda") for plugin in plugins):
        others = ["cpu"]
    if not others or others == names or not lacks_driver(plugins):
        return
    replaced_choice = jax_option(_PLATFORMS)
    os.environ[_PLATFORMS] = ",".join(others)  # also for processes that are started
    set_jax_option(_PLATFORMS, ",".join(others))


def cuda_is_avoided() -> bool:
    """Returns whether CUDA is installed and left alone, since it has no driver."""
    return replaced_choice is not None


def choice_of_user() -> str:
    """Returns the user's JAX_PLATFORMS, nothing where JAX is to choose."""
    return jax_option(_PLATFORMS) if replaced_choice is None else replaced_choice


def use_cpu_cores(count: int | None = None) -> None:
    """Makes every core of the CPU a JAX device; has to be called before JAX computes anything.

    A small model's round keeps one core busy and gains little from more, so that rounds side by side are faster. The
    environment's JAX_NUM_CPU_DEVICES, or a number of host devices in XLA_FLAGS, takes precedence.

    Args:
      count: number of devices; the cores that this process may run on when absent.

    Raises:
      RuntimeError: JAX has computed something already.
    """
    if _CPU_DEVICES in os.environ or "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    set_jax_option(_CPU_DEVICES, count or available_cores())


def available_cores() -> int:
    """Returns the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_platform() -> str:
    """Makes JAX choose its platform, as it does when it is first needed, and returns its name.

    Raises:
      SettingError: what JAX_PLATFORMS names cannot be used here, or another of JAX's settings is wrong.
    """
    names = set(_platforms())
    if names and names <= _CUDA and lacks_driver(jax_plugins()):
        _refuse("no NVIDIA driver was found")
    load_jax()
    try:
        return sys.modules["jax"].default_backend()  # type: ignore[no-any-return]
    except AssertionError:
        _refuse("this machine has no such device")
    except (RuntimeError, ValueError) as error:
        _refuse(re.sub(r" \((?:set JAX_PLATFORMS|you may need).*", "", str(error).strip(), flags=re.DOTALL))


def load_jax() -> None:
    """Imports JAX.

    Raises:
      SettingError: one of JAX's settings in the environment is wrong.
    """
    try:
        import jax  # noqa: F401  # only what needs it waits for it
    except (RuntimeError, ValueError) as error:
        raise SettingError("", None, f"JAX cannot be used: {error}") from error


def _refuse(why: str) -> NoReturn:
    choice = jax_option(_PLATFORMS)
    if not choice:
        raise SettingError("", None, f"JAX cannot be used: {why}")
    message = f"JAX cannot compute there ({why}): set it to cpu, or leave it unset, so that JAX chooses"
    raise SettingError(_PLATFORMS, choice, message)


def _platforms() -> list[str]:
    return [name.strip() for name in jax_option(_PLATFORMS).split(",") if name.strip()]


def jax_plugins() -> list[str]:
    """Returns the names of the plugins that JAX finds, without loading them."""
    spec = importlib.util.find_spec("jax_plugins")
    names = [module.name for module in pkgutil.iter_modules(spec.submodule_search_locations if spec else [])]
    return [*names, *(["libtpu"] if importlib.util.find_spec("libtpu") else [])]


def lacks_driver(plugins: list[str]) -> bool:
    """Returns whether there is a plugin for CUDA and no driver for it."""
    if not any(plugin.startswith("xla_cuda") for plugin in plugins):
        return False
    if not any(os.path.exists(device) for device in NVIDIA_DEVICES):
        return True
    import ctypes  # seldom needed

    try:
        ctypes.CDLL(NVIDIA_DRIVER)
    except OSError:
        return True
    return False


def jax_option(name: str) -> str:
    """Returns one of JAX's options as text, from JAX if it is loaded; nothing where it is not set."""
    jax = sys.modules.get("jax")
    return (getattr(jax.config, name.lower()) if jax else os.environ.get(name)) or ""


def set_jax_option(name: str, value: Any) -> None:
    """Sets one of JAX's options: in JAX if it is loaded, else in the environment, which it then reads."""
    jax = sys.modules.get("jax")
    if jax:
        jax.config.update(name.lower(), value)
    else:
        os.environ[name] = str(value)
