"""Plugins and JAX, which they may use: made ready before a command needs them."""

import functools
import sys
from collections.abc import Sequence

from simulator.experiment.plugins import import_plugins
from simulator.host.jax_setup import check_platform, cuda_is_avoided


def use_plugins(names: Sequence[str] | None) -> None:
    """Runs the plugins that `--plugin` names."""
    if names:
        begin_jax()
        import_plugins(names)


@functools.cache
def begin_jax() -> None:
    """Makes JAX choose its platform, and prints it where a driver is missing.

    Raises:
      SettingError: it cannot.
    """
    platform = check_platform()
    if cuda_is_avoided():
        sys.stderr.write(f"tardigrad: no NVIDIA driver was found: JAX computes on the {platform.upper()}\n")
