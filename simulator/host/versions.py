"""Versions of the packages that decide results."""

import importlib.metadata

PACKAGES = ("tardigrad", "jax", "jaxlib", "flax", "optax", "simpy", "numpy")


def versions() -> dict[str, str]:
    """Returns the version of each package."""
    return {package: importlib.metadata.version(package) for package in PACKAGES}
