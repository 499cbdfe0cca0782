"""Optimizers by name: the outer ones of an experiment file, registered ones, and everything in optax."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import optax
import optax.contrib

from simulator.experiment import registry
from simulator.experiment.problems import OF_PLUGINS, nearest
from simulator.experiment.schema.outer import NamedOuter, Outer, SGDOuter
from simulator.learning.optimizers import nonfinite, staleness
from simulator.learning.optimizers.delayed_nesterov import buffered, delayed_nesterov
from simulator.learning.optimizers.dude import dude
from simulator.learning.optimizers.mla import heloco, mla
from simulator.learning.optimizers.noloco import noloco
from simulator.learning.optimizers.protocol import OptimizerError, check_step, told_what_it_takes
from simulator.learning.optimizers.restarts import restarted
from simulator.learning.optimizers.ringleader import ringleader

Factory = Callable[..., optax.GradientTransformation]


def register_outer(name: str, factory: Factory) -> Factory:
    """Makes a user-defined outer optimizer usable by name in experiment files.

    Args:
      name: for `outer.optimizer`.
      factory: called with `learning_rate` and `outer.arguments`; returns an optax transform. Its `update` is called
        with the pseudo-gradient, its state and the place's parameters, and given those of these keyword arguments that
        it takes: `staleness`, `worker` (-1 of a meeting's mean), the local
        `steps` and the `tokens` that the pseudo-gradient is of (of all offers of a meeting; 0 of a region's, and where
        a worker steps), and `pulled_params`. Inside `optax.chain` optax's own rule holds: a part that takes some of
        them has to be a `GradientTransformationExtraArgs`, and to take all others as `**extra`.

    Returns:
      `factory`, so that this can be used through `functools.partial` as a decorator.

    Raises:
      ValueError: the name is taken.
      TypeError: the factory cannot be called.

    Example:
      >>> import functools
      >>> import optax
      >>> from simulator import load, register_outer
      >>> @functools.partial(register_outer, "signed")
      ... def signed(learning_rate, decay=0.9):
      ...     return optax.lion(learning_rate, b1=decay)
      >>> outer = "outer={optimizer: signed, learning_rate: 0.01, arguments: {decay: 0.5}}"
      >>> [point] = load("experiments/quickstart.yaml", outer, variant="async Nesterov")
      >>> point.experiment.outer.arguments
      {'decay': 0.5}
    """
    return registry.register("outer", name, factory)


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
    "noloco": noloco,
    "mla": mla,
    "heloco": heloco,
    "dude": dude,
    "ringleader": ringleader,
}
_CONTRIB: dict[str, Factory] = {"muon": optax.contrib.muon, "ademamix": optax.contrib.ademamix}


def outer_optimizers() -> dict[str, Factory]:
    """Returns every outer optimizer that has a name of its own, built in or registered."""
    return _BUILT_IN | registry.registered("outer")


def build_outer(outer: Outer, params: Any = None) -> optax.GradientTransformationExtraArgs:
    """Returns the transform of an `outer` section.

    In order: delay compensation, weight, staleness weight, drop threshold, buffer, restarts, optimizer. None of them is
    given a pseudo-gradient that is not finite but the buffer, which leaves it out of its mean where it is rejected by
    itself.

    Args:
      outer: the settings.
      params: shapes and dtypes of the parameters, on which a registered optimizer is tried.

    Raises:
      OptimizerError: the optimizer is not known, does not take the given arguments, or cannot take a step.
    """
    optimizer = _optimizer(outer, params)
    if outer.restart_every is not None:
        optimizer = restarted(optimizer, outer.restart_every)
    collects = outer.arrivals_per_update > 1
    if collects:
        guarded = nonfinite.guard(optax.identity(), optimizer)
        optimizer = buffered(guarded, outer.arrivals_per_update, reject=outer.non_finite != "skip")
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
    if outer.staleness.kind == "gate":
        gate = staleness.gate(outer.staleness.decay, outer.staleness.cutoff)
        before.append(staleness.scale_by_staleness(gate))
    return nonfinite.guard(optax.chain(*before) if before else optax.identity(), optimizer, endures=collects)


def _optimizer(outer: Outer, params: Any) -> optax.GradientTransformationExtraArgs:
    factory = outer_optimizers().get(outer.optimizer)
    build = functools.partial(optax_like("outer", outer.optimizer, factory), learning_rate=outer.learning_rate)
    if not isinstance(outer, NamedOuter):
        own = type(outer).model_fields.keys() - SGDOuter.model_fields.keys()  # which has what all have
        return optax.with_extra_args_support(build(**{name: getattr(outer, name) for name in own}))
    check_not_repeated("outer", outer.arguments, "learning_rate")
    optimizer = build(**outer.arguments)
    wrapped = told_what_it_takes("outer", outer.optimizer, optimizer)
    check_step("outer", outer.optimizer, wrapped, params, outer=True)
    return wrapped


def optax_like(section: str, name: str, factory: Factory | None = None) -> Factory:
    """Returns a factory that reports a wrong name or wrong arguments as an `OptimizerError`.

    Args:
      section: "inner" or "outer".
      name: of the optimizer.
      factory: of that name; looked up in optax when None.
    """
    found = factory or factory_of(section, name)

    @functools.wraps(found)
    def build(learning_rate: Any, **arguments: Any) -> Any:
        if factory is None:
            check_values(section, name, found, arguments)
        return registry.make(section, name, found, arguments, {"learning_rate": learning_rate}, OptimizerError)

    return build


def check_not_repeated(section: str, arguments: Mapping[str, Any], key: str) -> None:
    """Checks that `arguments` does not repeat a setting that has a key of its own.

    Raises:
      OptimizerError: it does.
    """
    if key in arguments:
        message = f"{key} is given as {section}.{key}: take it out of the arguments"
        raise OptimizerError(f"{section}.arguments", dict(arguments), message)


def check_values(section: str, name: str, factory: Factory, arguments: Mapping[str, Any]) -> None:
    """Checks that arguments of an optimizer of optax are of a kind that has a meaning: to Python, any text is true.

    Raises:
      OptimizerError: one is not.
    """
    parameters = inspect.signature(factory).parameters
    for key, value in arguments.items():
        if key not in parameters:
            continue
        switch = parameters[key].annotation is bool
        if isinstance(value, str) and "dtype" not in key:
            expected = "true or false" if switch or "mask" in key else "a number"
        elif switch and not isinstance(value, bool):
            expected = "true or false"
        elif isinstance(value, bool) and not switch and "mask" not in key:
            expected = "a number"
        else:
            continue
        raise OptimizerError(f"{section}.arguments.{key}", value, f"{name} expects {expected}")


def factory_of(section: str, name: str) -> Factory:
    """Returns the factory of a name: of a built-in or registered outer optimizer, or of one of optax.

    Raises:
      OptimizerError: it is not known.
    """
    if section == "outer" and name in outer_optimizers():
        return outer_optimizers()[name]
    factory = getattr(optax, name, _CONTRIB.get(name))
    takes_rate = callable(factory) and not inspect.isclass(factory) and _takes_learning_rate(factory)
    if factory is None or not takes_rate:
        names = {*optax_optimizers(), *(outer_optimizers() if section == "outer" else ())}
        own = OF_PLUGINS if section == "outer" else "(inner optimizers are optax's; --plugin FILE brings outer ones)"
        raise OptimizerError(f"{section}.optimizer", name, f"no such optimizer; {nearest(name, names)} {own}")
    return factory


def _takes_learning_rate(factory: Any) -> bool:
    try:
        return "learning_rate" in inspect.signature(factory).parameters
    except (TypeError, ValueError):  # objects that have no signature are no optimizers
        return False


def optax_optimizers() -> list[str]:
    """Returns the names in optax, and some of its `contrib`, that can be called with a learning rate."""
    return sorted(
        name
        for name, value in {**_CONTRIB, **vars(optax)}.items()
        if not name.startswith("_") and callable(value) and not inspect.isclass(value) and _takes_learning_rate(value)
    )
