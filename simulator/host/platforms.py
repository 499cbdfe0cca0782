"""The platform on which JAX computes: the CPU where JAX's plugin for CUDA finds no driver, else JAX's own choice.

Without a driver that plugin may end the process with a segmentation fault. JAX leaves it alone where JAX_PLATFORMS does
not name CUDA.
"""

import importlib.util
import os
import pkgutil
import re
import sys
from typing import NoReturn

from simulator.host.errors import SettingError

_SETTING = "JAX_PLATFORMS"
_CUDA = {"cuda", "gpu"}
_DEVICES = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg")  # without any of them JAX uses no CUDA either
_DRIVER = "libcuda.so.1"
_before: str | None = None  # what it said before CUDA was left alone


def avoid_cuda_without_driver() -> None:
    """Makes JAX ignore CUDA that is installed without a driver; to be called before JAX computes anything.

    JAX then uses other platforms of JAX_PLATFORMS, or the CPU where the user has chosen nothing. A choice of CUDA alone
    is left as it is: `check_platform` reports it.
    """
    global _before
    names, plugins = _names(), _plugins()
    others = [name for name in names if name not in _CUDA]
    if not names and all(plugin.startswith("xla_cuda") for plugin in plugins):
        others = ["cpu"]
    if not others or others == names or not _lacks_driver(plugins):
        return
    _before = _choice()
    os.environ[_SETTING] = ",".join(others)  # for processes that are started, and for JAX when it is imported
    if "jax" in sys.modules:
        import jax

        jax.config.update("jax_platforms", os.environ[_SETTING])  # type: ignore[no-untyped-call]


def cuda_is_avoided() -> bool:
    """Returns whether CUDA is installed and left alone, since it has no driver."""
    return _before is not None


def choice_of_user() -> str:
    """Returns the user's JAX_PLATFORMS, nothing where JAX is to choose."""
    return _choice() if _before is None else _before


def check_platform() -> str:
    """Makes JAX choose its platform, as it does when it is first needed, and returns its name.

    Raises:
      SettingError: what JAX_PLATFORMS names cannot be used here, or another of JAX's settings is wrong.
    """
    names = set(_names())
    if names and names <= _CUDA and _lacks_driver(_plugins()):
        _refuse("no NVIDIA driver was found")
    try:
        import jax

        return jax.default_backend()
    except AssertionError:
        _refuse("this machine has no such device")
    except (RuntimeError, ValueError) as error:
        _refuse(re.sub(r" \((?:set JAX_PLATFORMS|you may need).*", "", str(error).strip(), flags=re.DOTALL))


def _refuse(why: str) -> NoReturn:
    if not _choice():
        raise SettingError("", None, f"JAX cannot be used: {why}")
    message = f"JAX cannot compute there ({why}): set it to cpu, or leave it unset, so that JAX chooses"
    raise SettingError(_SETTING, _choice(), message)


def _choice() -> str:
    loaded = sys.modules.get("jax")
    return (loaded.config.jax_platforms if loaded else os.environ.get(_SETTING)) or ""


def _names() -> list[str]:
    return [name.strip() for name in _choice().split(",") if name.strip()]


def _plugins() -> list[str]:
    """Returns the names of the plugins that JAX finds, without loading them."""
    spec = importlib.util.find_spec("jax_plugins")
    found = [module.name for module in pkgutil.iter_modules(spec.submodule_search_locations if spec else [])]
    return [*found, *(["libtpu"] if importlib.util.find_spec("libtpu") else [])]


def _lacks_driver(plugins: list[str]) -> bool:
    """Returns whether there is a plugin for CUDA and no driver for it."""
    if not any(plugin.startswith("xla_cuda") for plugin in plugins):
        return False
    if not any(os.path.exists(device) for device in _DEVICES):
        return True
    import ctypes

    try:
        ctypes.CDLL(_DRIVER)
    except OSError:
        return True
    return False
