"""Optimizers by name: the outer ones of an experiment file, one's own, and everything in optax."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from simulator.experiment import SettingError
from simulator.experiment.outer_schema import (
    AdamOuter,
    DelayedNesterovOuter,
    HeavyBallOuter,
    NamedOuter,
    NesterovOuter,
    Outer,
    SGDOuter,
)
from simulator.experiment.problems import OF_PLUGINS, nearest
from simulator.learning import nonfinite, staleness
from simulator.learning.outer import buffered, delayed_nesterov

Factory = Callable[..., optax.GradientTransformation]

_REGISTERED: dict[str, Factory] = {}


class OptimizerError(SettingError):
    """An optimizer that cannot be built."""


def register_outer(name: str, factory: Factory) -> Factory:
    """Makes an outer optimizer of one's own usable by name in experiment files.

    Args:
      name: what `outer.optimizer` says.
      factory: called with `learning_rate` and what `outer.arguments` holds; returns an optax transform. Its `update`
        may take the keyword arguments `staleness`, `worker` and `pulled_params`.

    Returns:
      `factory`, so that this can be used through `functools.partial` as a decorator.

    Raises:
      ValueError: the name is taken.
    """
    if name in _REGISTERED or name in _BUILT_IN:
        raise ValueError(f"an outer optimizer named {name!r} exists already")
    _REGISTERED[name] = factory
    return factory


def _heavy_ball(learning_rate: float, momentum: float) -> optax.GradientTransformation:
    return optax.sgd(learning_rate, momentum=momentum)


def _nesterov(learning_rate: float, momentum: float) -> optax.GradientTransformation:
    return optax.sgd(learning_rate, momentum=momentum, nesterov=True)


_BUILT_IN: dict[str, Factory] = {
    "sgd": optax.sgd,
    "heavy_ball": _heavy_ball,
    "nesterov": _nesterov,
    "adam": optax.adam,
    "delayed_nesterov": delayed_nesterov,
}


def outer_optimizers() -> dict[str, Factory]:
    """Returns every outer optimizer that has a name of its own, built in or registered."""
    return _BUILT_IN | _REGISTERED


def build_outer(outer: Outer) -> optax.GradientTransformationExtraArgs:
    """Returns the transform of an `outer` section.

    In order: delay compensation, weight, staleness weight, drop threshold, buffer, optimizer. None of them is given a
    pseudo-gradient that is not finite; in a buffer it is one of those that are averaged, and counts as zeros where it
    is rejected by itself.

    Raises:
      OptimizerError: the optimizer is not known or does not take the given arguments.
    """
    optimizer = optax.with_extra_args_support(_optimizer(outer))
    zero: bool | None = None
    if outer.arrivals_per_update > 1:
        optimizer = buffered(nonfinite.guard(optax.identity(), optimizer), outer.arrivals_per_update)
        zero = outer.non_finite != "skip"
    drop_above = getattr(outer.staleness, "drop_above", None)
    if drop_above is not None:
        optimizer = staleness.drop_stale(optimizer, drop_above)
    before: list[optax.GradientTransformation] = []
    if outer.delay_compensation > 0:
        before.append(staleness.delay_compensation(outer.delay_compensation))
    if outer.weight != 1.0:
        before.append(optax.scale(outer.weight))
    if outer.staleness.kind == "polynomial":
        before.append(staleness.scale_by_staleness(staleness.polynomial(outer.staleness.power)))
    return nonfinite.guard(optax.chain(*before) if before else optax.identity(), optimizer, zero=zero)


def _optimizer(outer: Outer) -> optax.GradientTransformation:
    match outer:
        case SGDOuter():
            arguments: dict[str, Any] = {}
        case HeavyBallOuter() | NesterovOuter():
            arguments = {"momentum": outer.momentum}
        case AdamOuter():
            arguments = {"b1": outer.b1, "b2": outer.b2, "eps": outer.eps}
        case DelayedNesterovOuter():
            arguments = {"momentum": outer.momentum, "buffer": outer.buffer, "c": outer.c}
        case NamedOuter():
            arguments = outer.arguments
            check_not_repeated("outer", arguments, "learning_rate")
    factory = outer_optimizers().get(outer.optimizer)
    optimizer = optax_like("outer", outer.optimizer, factory)(learning_rate=outer.learning_rate, **arguments)
    if factory is None:
        check_inputs("outer", outer.optimizer, optimizer)
    return optimizer


def optax_like(section: str, name: str, factory: Factory | None = None) -> Factory:
    """Returns a factory that reports a wrong name or wrong arguments as an `OptimizerError`.

    Args:
      section: "inner" or "outer".
      name: of the optimizer.
      factory: what the name stands for; looked up in optax when None.
    """
    found = factory or _from_optax(section, name)

    @functools.wraps(found)
    def build(**arguments: Any) -> optax.GradientTransformation:
        check_arguments(section, name, found, arguments)
        try:
            return found(**arguments)
        except (TypeError, ValueError) as error:
            raise OptimizerError(f"{section}.arguments", arguments, f"{name} refuses them: {error}") from error

    return build


def check_arguments(section: str, name: str, factory: Factory, arguments: Mapping[str, Any]) -> None:
    """Checks the names of an optimizer's arguments.

    Raises:
      OptimizerError: one is not taken by `factory`, or one that it needs is missing.
    """
    try:
        inspect.signature(factory).bind(**arguments)
    except TypeError as error:
        taken = [parameter for parameter in inspect.signature(factory).parameters if parameter != "learning_rate"]
        message = f"{name} does not fit: {error}; it takes {', '.join(taken)}"
        raise OptimizerError(f"{section}.arguments", dict(arguments), message) from error


def check_not_repeated(section: str, arguments: Mapping[str, Any], key: str) -> None:
    """Checks that `arguments` does not hold what has a key of its own.

    Raises:
      OptimizerError: it does.
    """
    if key in arguments:
        message = f"{key} is given as {section}.{key}: take it out of the arguments"
        raise OptimizerError(f"{section}.arguments", dict(arguments), message)


def check_inputs(section: str, name: str, optimizer: optax.GradientTransformation) -> None:
    """Checks that an optimizer steps with gradients and parameters alone; nothing is computed.

    Raises:
      OptimizerError: it cannot, for instance because it needs the loss, as line searches do.
    """
    probe = jnp.zeros(1)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        state = jax.eval_shape(optimizer.init, probe)
        try:
            jax.eval_shape(optimizer.update, probe, state, probe)
        except TypeError as error:
            message = f"it cannot step with these arguments, gradients and parameters alone: {error}"
            raise OptimizerError(f"{section}.optimizer", name, message) from error


def _from_optax(section: str, name: str) -> Factory:
    factory = getattr(optax, name, None)
    takes_rate = callable(factory) and not inspect.isclass(factory) and _takes_learning_rate(factory)
    if factory is None or not takes_rate:
        names = {*optax_optimizers(), *(outer_optimizers() if section == "outer" else ())}
        own = OF_PLUGINS if section == "outer" else "(inner optimizers are optax's; --plugin FILE brings outer ones)"
        raise OptimizerError(f"{section}.optimizer", name, f"no such optimizer; {nearest(name, names)} {own}")
    return factory  # type: ignore[no-any-return]  # optax has no types here


def _takes_learning_rate(factory: Any) -> bool:
    try:
        return "learning_rate" in inspect.signature(factory).parameters
    except (TypeError, ValueError):  # objects that have no signature are no optimizers
        return False


def optax_optimizers() -> list[str]:
    """Returns the names in optax that can be called with a learning rate."""
    return sorted(
        name
        for name, value in vars(optax).items()
        if not name.startswith("_") and callable(value) and not inspect.isclass(value) and _takes_learning_rate(value)
    )
