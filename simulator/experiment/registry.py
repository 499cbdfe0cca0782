"""Registry of user-defined policies, and the section that names one."""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from simulator.experiment.problems import OF_PLUGINS, nearest, refusal
from simulator.experiment.schema.section import ConflictError, Section
from simulator.experiment.schema.units import Arguments
from simulator.experiment.schema.worker_words import IN_ARGUMENTS
from simulator.host.errors import SettingError

Factory = Callable[..., Any]
Policy = Literal["synchronization", "local_steps", "shard_choice"]

BUILT_IN: Mapping[Policy, tuple[str, ...]] = {
    "synchronization": ("asynchronous", "barrier"),
    "local_steps": ("dynamic", "fixed"),
    "shard_choice": ("fixed", "least_visited", "proportional"),
}
GIVEN: Mapping[Policy, tuple[str, ...]] = {
    "synchronization": (),
    "local_steps": ("local_steps",),
    "shard_choice": ("sizes",),
}
"""What a factory is called with besides the arguments of the experiment file."""

_REGISTERED: dict[Policy, dict[str, Factory]] = {section: {} for section in BUILT_IN}
_ANY_NAME: ContextVar[bool] = ContextVar("any_name", default=False)


class PolicyError(SettingError):
    """A policy that cannot be built."""


def register(section: Policy, name: str, factory: Factory) -> None:
    """Makes a policy usable by name.

    Args:
      section: of the experiment file.
      name: its `kind` in the file.
      factory: called with what `GIVEN` names and the section's `arguments`.

    Raises:
      ValueError: the name is taken.
      TypeError: the factory cannot be called.
    """
    if not callable(factory):
        raise TypeError(f"the factory of {name!r} must be a function, not {factory!r}")
    if name in _REGISTERED[section] or name in BUILT_IN[section]:
        raise ValueError(f"a {section} named {name!r} exists already")
    _REGISTERED[section][name] = factory


def registered(section: str) -> dict[str, Factory]:
    """Returns the registered policies of a section by name, none for a section without policies."""
    return {name: made for known, own in _REGISTERED.items() if known == section for name, made in own.items()}


@contextlib.contextmanager
def any_name() -> Iterator[None]:
    """Makes sections accept names that are not registered, as records of other programs have them."""
    token = _ANY_NAME.set(True)
    try:
        yield
    finally:
        _ANY_NAME.reset(token)


class NamedPolicy(Section):
    """A registered (user-defined) policy."""

    section: ClassVar[Policy]

    kind: str = Field(description="the name that it is registered under", examples=["mine"])
    arguments: Arguments = Field(
        {}, description=f"keyword arguments of that policy; {IN_ARGUMENTS}", examples=[{"share": 0.5}]
    )

    @property
    def is_registered(self) -> bool:
        """Returns whether the name is registered in this process."""
        return self.kind in _REGISTERED[self.section]

    @model_validator(mode="after")
    def _arguments_fit(self) -> "NamedPolicy":
        if not self.is_registered:
            return self
        try:
            if GIVEN[self.section]:
                factory_of(self)
            else:
                build(self)
        except PolicyError as error:
            raise ConflictError((error.key.removeprefix(f"{self.section}."), error.message)) from error
        return self


def kind_tag(section: Policy) -> Callable[[Any], str | None]:
    """Returns a function to the tag of a union's member: the kind of a built-in one, "named" of a registered one."""

    def _kind_tag(value: Any) -> str | None:
        if isinstance(value, NamedPolicy):
            return "named"
        name = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
        if not isinstance(name, str):
            return None
        if name in _REGISTERED[section] or (_ANY_NAME.get() and name not in BUILT_IN[section]):
            return "named"
        return name if name in BUILT_IN[section] else f"<{name}>"  # which no member has

    return _kind_tag


def build(policy: NamedPolicy, **given: Any) -> Any:
    """Returns the policy that a registered factory makes.

    Args:
      policy: the section that names it.
      **given: the arguments that `GIVEN` names for the section.

    Raises:
      PolicyError: the name is not registered in this process, or the factory refuses its arguments or returns
        something else than a policy.
    """
    try:
        made = factory_of(policy)(**given, **policy.arguments)
    except PolicyError:
        raise
    except Exception as error:
        message = f"{policy.kind} refuses them: {refusal(error)}"
        raise PolicyError(f"{policy.section}.arguments", policy.arguments, message) from error
    _check_made(policy, made)
    return made


def factory_of(policy: NamedPolicy) -> Factory:
    """Returns the factory of a policy's name, having checked the names of its arguments.

    Raises:
      PolicyError: nothing is registered under the name in this process, or the arguments are not those of the factory.
    """
    section, name = policy.section, policy.kind
    factory = _REGISTERED[section].get(name)
    if factory is None:
        known = [*BUILT_IN[section], *_REGISTERED[section]]
        message = f"nothing is registered under this name in this process; {nearest(name, known)} {OF_PLUGINS}"
        raise PolicyError(f"{section}.kind", name, message)
    repeated = set(GIVEN[section]) & set(policy.arguments)
    if repeated:
        message = f"{min(repeated)} is given to every {section}: take it out of the arguments"
        raise PolicyError(f"{section}.arguments", policy.arguments, message)
    signature = inspect.signature(factory)
    try:
        signature.bind(**dict.fromkeys(GIVEN[section]), **policy.arguments)
    except TypeError as error:
        taken = [parameter for parameter in signature.parameters if parameter not in GIVEN[section]]
        message = f"{name} does not fit: {error}; it takes {', '.join(taken) or 'none'}"
        raise PolicyError(f"{section}.arguments", policy.arguments, message) from error
    return factory


_PARTS: Mapping[str, Callable[[Any], bool]] = {
    "closes": callable,
    "averages_group": lambda value: isinstance(value, bool),
    "looks_ahead": lambda value: isinstance(value, bool),
    "timeout_s": lambda value: isinstance(value, int | float) and not isinstance(value, bool) and value > 0,
}
"""Of a synchronization policy, and what each is: a function, true or false, or seconds."""
_TAKES: Mapping[Policy, tuple[str, ...]] = {
    "synchronization": ("view",),
    "local_steps": ("worker", "step_s"),
    "shard_choice": ("worker", "assigned", "random"),
}
"""What a policy's function is called with, in this order."""


def _check_made(policy: NamedPolicy, made: Any) -> None:
    section, wrong = policy.section, ""
    if section == "synchronization":
        lacks = [name for name in _PARTS if not hasattr(made, name)]
        unlike = [name for name, fits in _PARTS.items() if not lacks and not fits(getattr(made, name))]
        if lacks:
            wrong = f"{made!r:.80}, which has no {', '.join(lacks)}: inherit from SynchronizationPolicy"
        elif unlike:
            wrong = f"a policy whose {unlike[0]} is {getattr(made, unlike[0])!r:.80}: see SynchronizationPolicy"
    elif not callable(made):
        wrong = f"{made!r:.80}, which has no __call__: return a function"
    if not wrong:
        function = made.closes if section == "synchronization" else made
        try:
            inspect.signature(function).bind(*_TAKES[section])
        except ValueError:  # there is none to be had
            return
        except TypeError as error:
            wrong = f"a function that cannot be called with ({', '.join(_TAKES[section])}): {error}"
    if wrong:
        raise PolicyError(f"{section}.kind", policy.kind, f"its factory returned {wrong}")
