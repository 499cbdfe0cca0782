"""The resolved experiment with every argument of its optimizers and policies, also those left to defaults."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from simulator.experiment import Experiment, registry
from simulator.experiment.schema.outer import NamedOuter
from simulator.learning.optimizers.inner import MASKS
from simulator.learning.optimizers.outer import factory_of
from simulator.learning.optimizers.protocol import OptimizerError


def as_used(experiment: Experiment) -> dict[str, Any]:
    """Returns an experiment as a file has it, in which no argument is left to a library's default.

    The defaults of optax are those of the version that is installed; what is registered under a name that is not known
    in this process keeps the arguments that it was given.
    """
    settings = experiment.model_dump(mode="json")
    _show("inner", settings["inner"])
    if experiment.pretrain.optimizer is not None:
        _show("pretrain", settings["pretrain"])
    for section, slot in registry.SLOTS.items():
        match getattr(experiment, section):
            case NamedOuter(optimizer=name):
                defaults = _optimizer_defaults(section, name, *slot.given)
            case registry.NamedPolicy(is_registered=True) as policy:
                defaults = _defaults(registry.factory_of(policy), *slot.given)
            case _:
                continue
        settings[section]["arguments"] = defaults | settings[section]["arguments"]
    return settings


def _show(section: str, settings: dict[str, Any]) -> None:
    """Adds the defaults of an inner optimizer to its settings."""
    given = settings["arguments"]
    defaults = _optimizer_defaults(section, settings["optimizer"], "learning_rate", *MASKS)  # which are `decay`
    if "weight_decay" not in given:
        decay = defaults.pop("weight_decay", None)
        settings["weight_decay"] = decay if settings["weight_decay"] is None else settings["weight_decay"]
    settings["arguments"] = defaults | given


def _optimizer_defaults(section: str, name: str, *besides: str) -> dict[str, Any]:
    """Returns the defaults of an optimizer's factory, none where the name is not known."""
    try:
        factory = factory_of(section, name)
    except OptimizerError:
        return {}
    return _defaults(factory, *besides)


def _defaults(factory: Callable[..., Any], *besides: str) -> dict[str, Any]:
    """Returns the defaults of a factory's parameters that can stand in a file."""
    found = {}
    for name, parameter in inspect.signature(factory).parameters.items():
        default = parameter.default
        if default is inspect.Parameter.empty or name in besides:
            continue
        if "dtype" in name and default is not None and not isinstance(default, str):
            default = np.dtype(default).name
        if default is None or isinstance(default, bool | int | str) or _finite(default):
            found[name] = default
    return found


def _finite(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)
