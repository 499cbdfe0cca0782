"""Methods by name: `method: NAME` fills the slots of an experiment, and its settings are a function's signature."""

import functools
import importlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from simulator.experiment import registry
from simulator.experiment.problems import OF_PLUGINS, nearest
from simulator.experiment.schema import units
from simulator.host.errors import SettingError

Slots = dict[str, Any]
"""Sections of an experiment file."""
Method = Callable[..., Slots]

# Types of settings, with their bounds and units.
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Arrivals = Count | Literal["workers"]
Steps = Annotated[int, Field(ge=0)]
Seconds = units.FiniteDuration
Bandwidth = units.Bandwidth

_GIVEN = ("local_steps",)
"""Parameters that a method may have besides settings; H is passed on to it."""
FILLED = ("data", "inner", "evaluate", *registry.SLOTS)
_REGISTERED: dict[str, Method] = {}


class MethodError(SettingError):
    """A method that is not known, or does not take its settings."""


def register_method(name: str, method: Method) -> Method:
    """Makes a user-defined method usable by name: `method: NAME`, or `method: {kind: NAME, ...}` with its settings.

    Args:
      name: for `method.kind`.
      method: function from settings to sections of the experiment file; its parameters, with their annotations and
        defaults, are the settings. A parameter `local_steps` is H, and no setting.

    Returns:
      `method`.

    Raises:
      ValueError: the name is taken.
      TypeError: the method cannot be called.

    Example:
      >>> import functools
      >>> from simulator import load, register_method
      >>> @functools.partial(register_method, "late DiLoCo")
      ... def late(overlap: int = 5):
      ...     return {"synchronization": {"kind": "barrier"}, "schedule": {"overlap": overlap}}
      >>> [point] = load("experiments/quickstart.yaml", "method={kind: late DiLoCo, overlap: 9}", variant="sync DiLoCo")
      >>> point.experiment.schedule.overlap
      9
    """
    if not callable(method):
        raise TypeError(f"the method {name!r} must be a function, not {method!r}")
    registry.check_name("method", name, method, _REGISTERED.get(name), is_built_in=name in _built_in())
    _REGISTERED[name] = method
    return method


def methods() -> dict[str, Method]:
    """Returns the methods by name: the built-in ones, and those that were registered."""
    return {**_built_in(), **_REGISTERED}


@functools.cache
def _built_in() -> Mapping[str, Method]:
    # Looked up when it is first asked for, as plugins are: each method is written in this room's terms.
    built_in: Mapping[str, Method] = importlib.import_module("simulator.methods").BUILT_IN
    return built_in


@functools.cache
def settings_model(method: Method) -> type[pydantic.BaseModel]:
    """Returns the pydantic model of a method's settings, from its signature."""
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(method, eval_str=True).parameters.items():
        if name in _GIVEN:
            continue
        annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
        fields[name] = annotation, ... if parameter.default is parameter.empty else parameter.default
    return pydantic.create_model("Settings", __config__=pydantic.ConfigDict(extra="forbid"), **fields)


def docstring_of(method: Method) -> str:
    """Returns a method's docstring, of a partial that of its function; empty without one."""
    return inspect.getdoc(getattr(method, "func", method)) or ""


def settings_said(method: Method) -> dict[str, str]:
    """Returns what a method's docstring says of its settings, by name, with formulas in markup."""
    _, _, listed = docstring_of(method).partition("\nArgs:\n")
    said: dict[str, str] = {}
    name = ""
    for line in listed.partition("\n\n")[0].splitlines():
        if line.startswith("  ") and not line.startswith("   "):
            name, _, meaning = line.strip().partition(": ")
            said[name] = meaning
        elif name:
            said[name] += " " + line.strip()
    return {name: meaning.removesuffix(".") for name, meaning in said.items()}


def without_markup(text: str) -> str:
    """Returns a docstring's text with formulas as they are written."""
    return re.sub(r":math:`([^`]*)`", r"\1", text)


def described(settings: Any) -> dict[str, Any]:
    """Returns a `method` entry as a mapping: a name alone is its kind.

    Raises:
      MethodError: it is neither.
    """
    if isinstance(settings, str):
        return {"kind": settings}
    if isinstance(settings, Mapping):
        return dict(settings)
    raise MethodError("method", settings, f"expected a name, or a mapping of keys to values; {nearest('', methods())}")


def slots_of(settings: Mapping[str, Any], local_steps: int) -> tuple[Slots, dict[str, Any]]:
    """Returns the sections that a method fills, and its settings with their defaults.

    Args:
      settings: the `method` mapping of a file.
      local_steps: H.

    Raises:
      MethodError: it is not known, or a setting is not one of its own or not as it should be.
    """
    name = settings.get("kind")
    method = methods().get(str(name))
    if not isinstance(name, str) or method is None:
        raise MethodError("method.kind", name, f"no such method; {nearest(str(name), methods())} {OF_PLUGINS}")
    given = {key: value for key, value in settings.items() if key != "kind"}
    try:
        checked = settings_model(method).model_validate(given)
    except pydantic.ValidationError as error:
        raise _refusal(name, settings_model(method), error) from error
    values = {key: getattr(checked, key) for key in type(checked).model_fields}
    takes = inspect.signature(method).parameters
    slots = method(**values, **({"local_steps": local_steps} if "local_steps" in takes else {}))
    unknown = [key for key in slots if key not in FILLED]
    if unknown:
        raise MethodError("method.kind", name, f"fills {unknown[0]!r}, which is no slot; {nearest(unknown[0], FILLED)}")
    return slots, {"kind": name, **checked.model_dump(mode="json")}


def _refusal(name: str, model: type[pydantic.BaseModel], error: pydantic.ValidationError) -> MethodError:
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return MethodError(
            f"method.{key}", first["input"], f"{name} has no such setting; {nearest(key, model.model_fields)}"
        )
    if first["type"] == "missing":
        return MethodError(f"method.{key}", None, f"is missing: {name} needs it")
    return MethodError(f"method.{key}", first["input"], first["msg"].removeprefix("Value error, "))


def filled(layers: Sequence[Mapping[str, Any]], merge: Callable[[Any, Any], dict[str, Any]]) -> dict[str, Any]:
    """Returns layers of a file laid over each other, with a method's sections just below the layer that names it.

    Args:
      layers: from the base up.
      merge: lays one over the other.

    Raises:
      MethodError: as `slots_of`.
    """
    plain = [dict(layer) for layer in layers]
    named = [place for place, layer in enumerate(plain) if _names(layer)]
    if not named and not any("method" in layer for layer in plain):
        return functools.reduce(merge, plain)
    for layer in plain:
        if "method" in layer:
            layer["method"] = described(layer["method"])
    tree: dict[str, Any] = functools.reduce(merge, plain)
    if not tree["method"]:
        return tree
    inner = tree.get("inner")
    local_steps = inner.get("local_steps", 50) if isinstance(inner, Mapping) else 50
    slots, settings = slots_of(described(tree["method"]), local_steps)
    at = named[-1] if named else 0
    return merge(functools.reduce(merge, [*plain[:at], slots, *plain[at:]]), {"method": settings})


def _names(layer: Mapping[str, Any]) -> bool:
    method = layer.get("method")
    return isinstance(method, str) or (isinstance(method, Mapping) and "kind" in method)
