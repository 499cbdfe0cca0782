"""Names of a simulation's phases, for JAX's profiler."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax

Function = TypeVar("Function", bound=Callable[..., Any])


def phase(name: str) -> Callable[[Function], Function]:
    """Returns a decorator under whose name a trace shows the calls of a function; without a trace it does nothing."""
    return functools.partial(jax.profiler.annotate_function, name=name)
