"""Names of a simulation's phases, for JAX's profiler."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

Taken = ParamSpec("Taken")
Given = TypeVar("Given")


def phase(name: str) -> Callable[[Callable[Taken, Given]], Callable[Taken, Given]]:
    """Returns a decorator under whose name a trace shows the calls of a function; without a trace it does nothing."""

    def named(function: Callable[Taken, Given]) -> Callable[Taken, Given]:
        @functools.wraps(function)
        def call(*args: Taken.args, **kwargs: Taken.kwargs) -> Given:
            with jax.profiler.TraceAnnotation(name):
                return function(*args, **kwargs)

        return call

    return named
