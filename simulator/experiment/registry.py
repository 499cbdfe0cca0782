"""Registry of user-defined choices for the sections of an experiment, by name; their signatures are their settings."""

import contextlib
import inspect
import operator
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field, model_validator

from simulator.experiment.problems import OF_PLUGINS, SimulationError, nearest, refusal
from simulator.experiment.schema.section import ConflictError, Section
from simulator.experiment.schema.units import Arguments
from simulator.experiment.schema.worker_words import IN_ARGUMENTS
from simulator.host.errors import SettingError

Factory = Callable[..., Any]
SlotName = Literal[
    "outer",
    "synchronization",
    "local_steps",
    "shard_choice",
    "schedule",
    "topology",
    "offer",
    "compression",
    "aggregation",
    "view",
    "merge",
]


class Slot(NamedTuple):
    """A section in which a file may name what a user has registered.

    Attributes:
      key: that has the name.
      built_in: names that are taken.
      given: what a factory is called with besides the section's `arguments`.
      takes: what the function of a policy is called with, in this order.
      default: the name where a file gives none; None where it has to.
    """

    key: str
    built_in: tuple[str, ...]
    given: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    default: str | None = None


SLOTS: Mapping[SlotName, Slot] = {
    "outer": Slot(
        "optimizer",
        ("sgd", "heavy_ball", "nesterov", "adam", "delayed_nesterov", "noloco", "mla", "heloco", "dude", "ringleader"),
        ("learning_rate",),
    ),
    "synchronization": Slot("kind", ("asynchronous", "barrier", "quorum"), takes=("view",)),
    "local_steps": Slot("kind", ("dynamic", "fixed"), ("local_steps",), ("worker", "step_s")),
    "shard_choice": Slot(
        "kind", ("fixed", "least_visited", "proportional"), ("sizes",), ("worker", "assigned", "random")
    ),
    "schedule": Slot("kind", ("periodic",), takes=("offer", "local_steps"), default="periodic"),
    "topology": Slot(
        "kind", ("server", "regions", "all_reduce", "groups", "graph", "nobody"), ("workers",), ("worker", "meeting")
    ),
    "offer": Slot("kind", ("pseudo_gradient",), takes=("start", "end"), default="pseudo_gradient"),
    "compression": Slot(
        "kind", ("none", "bf16", "fp4", "int", "statistical", "top_k", "sign", "random"), takes=("array", "key")
    ),
    "aggregation": Slot(
        "kind", ("mean", "weighted", "fold", "senders", "vote", "direction", "edit"), takes=("offers", "state")
    ),
    "view": Slot("kind", ("parameters", "look_ahead"), takes=("params", "state")),
    "merge": Slot(
        "kind",
        ("overwrite", "lerp", "keep_progress", "outer", "eager"),
        takes=("local", "anchor", "sent", "answer", "state"),
    ),
}

_REGISTERED: dict[SlotName, dict[str, Factory]] = {section: {} for section in SLOTS}
_ANY_NAME: ContextVar[bool] = ContextVar("any_name", default=False)


class PolicyError(SettingError):
    """A policy that cannot be built."""


def register(section: SlotName, name: str, factory: Factory) -> Factory:
    """Makes what a factory returns usable by name in a section: `SECTION: {kind: NAME, arguments: {...}}`.

    Args:
      section: where the name is used, such as `"compression"`.
      name: for the section's `kind`, or `optimizer` for `outer`.
      factory: called with the section's `arguments`; returns what the section needs, as below.

    A factory returns for

    - `schedule`: a function of (offer, local_steps) to the local steps of the round that ends with a worker's n-th
      offer, from 1 to `local_steps`: that is H, or what the section `local_steps` chooses for that worker. `offer` is
      n, from 0, of offers that have come from this worker: a round that is lost is done again as the same one, and one
      that is cut short counts;
    - `topology`, called with `workers` too: a function of (worker, number of a meeting) to the numbers of the workers
      that meet there without a server, its own among them; whom it names has to name it too;
    - `offer`: a function of (start, end), what a worker last accepted and its parameters at the end of the round, to
      what it offers in place of start - end, like these; both are of a fragment where there are several;
    - `compression`: an object with `decoded(array, key)`, the array that the receiver decodes, and `bits(full)`, the
      bits of a parameter on the wire where as it is it has `full`;
    - `aggregation`: one with `init(params)` to a state, and `update(offers, state)` to one pseudo-gradient and the
      state, see `simulator.learning.Offers`;
    - `view`: a function of (parameters, outer optimizer's state) to what a place hands out; the state is wrapped by
      what guards it, so read a field of one's own by `optax.tree_utils.tree_get(state, "NAME")`, whose name is none of
      the guard's (finite, before, inner);
    - `merge`: an object with `init(params)` to a state, and `update(local, anchor, sent, answer, state)` to the
      worker's parameters, what its next offer is compared with, and the state; `sent` is its `OfferMade`;
    - other sections: what `register_outer`, `register_synchronization`, `register_local_steps` and
      `register_shard_choice` say.

    Returns:
      `factory`.

    Raises:
      ValueError: there is no such section, or the name is taken.
      TypeError: the factory cannot be called.

    Example:
      >>> import functools
      >>> import jax
      >>> from simulator import load, register
      >>> @functools.partial(register, "merge", "half")
      ... class Half:
      ...     def init(self, params):
      ...         return ()
      ...     def update(self, local, anchor, sent, answer, state):
      ...         return jax.tree.map(lambda own, new: (own + new) / 2, local, answer), answer, state
      >>> [point] = load("experiments/quickstart.yaml", "merge={kind: half}", variant="sync DiLoCo")
      >>> point.experiment.merge.kind
      'half'
    """
    if section not in SLOTS:
        raise ValueError(f"there is no section {section!r} with names; {nearest(section, SLOTS)}")
    if not callable(factory):
        raise TypeError(f"the factory of {name!r} must be a function, not {factory!r}")
    taken = name in SLOTS[section].built_in
    check_name(f"{section}.{SLOTS[section].key}", name, factory, _REGISTERED[section].get(name), is_built_in=taken)
    _REGISTERED[section][name] = factory
    return factory


def check_name(key: str, name: str, factory: Factory, before: Factory | None, *, is_built_in: bool) -> None:
    """Checks that a name can be given to a factory: it is free, or the factory's own, which is defined anew.

    So a notebook's cell can be run twice, and a module that was run as a plugin can be imported.

    Args:
      key: that has the name.
      name: to be registered.
      factory: to be registered.
      before: what is registered under the name.
      is_built_in: whether the name is that of something built in.

    Raises:
      ValueError: the name is taken.
    """
    if is_built_in or (before is not None and _origin(before) != _origin(factory)):
        raise ValueError(f"{key} {name!r} exists already: give another name")


def _origin(factory: Factory) -> object:
    """Returns where a function or class of a module is defined: its name and file; else the object itself."""
    name, module = getattr(factory, "__qualname__", "<"), getattr(factory, "__module__", None)
    if "<" in name:  # of a function in a function, or without a name
        return factory
    return name, getattr(sys.modules.get(module or ""), "__file__", module)


def registered(section: str) -> dict[str, Factory]:
    """Returns what is registered for a section by name, nothing for a section without such names."""
    return dict(next((own for known, own in _REGISTERED.items() if known == section), {}))


@contextlib.contextmanager
def emptied() -> Iterator[None]:
    """Forgets all that is registered, and at the end what was registered meanwhile instead."""
    before = {section: dict(own) for section, own in _REGISTERED.items()}
    try:
        for own in _REGISTERED.values():
            own.clear()
        yield
    finally:
        _REGISTERED.update(before)


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

    section: ClassVar[SlotName]

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
            if SLOTS[self.section].given:
                factory_of(self)
            else:
                build(self)
        except PolicyError as error:
            raise ConflictError((error.key.removeprefix(f"{self.section}."), error.message)) from error
        return self


def kind_tag(section: SlotName) -> Callable[[Any], str | None]:
    """Returns a function to the tag of a union's member: the kind of a built-in one, "named" of a registered one."""

    def _kind_tag(value: Any) -> str | None:
        if isinstance(value, NamedPolicy):
            return "named"
        slot = SLOTS[section]
        name = value.get("kind", slot.default) if isinstance(value, dict) else getattr(value, "kind", None)
        if not isinstance(name, str):
            return None
        built_in = name in slot.built_in
        if name in _REGISTERED[section] or (_ANY_NAME.get() and not built_in):
            return "named"
        return name if built_in else f"<{name}>"  # which no member has

    return _kind_tag


def build(policy: NamedPolicy, **given: Any) -> Any:
    """Returns the policy that a registered factory makes.

    Args:
      policy: the section that names it.
      **given: what the section's `SLOTS` entry says.

    Raises:
      PolicyError: the name is not registered in this process, or the factory refuses its arguments or returns
        something else than a policy.
    """
    made = make(policy.section, policy.kind, factory_of(policy), policy.arguments, given, PolicyError)
    _check_made(policy, made)
    return made


def make(
    section: str,
    name: str,
    factory: Factory,
    arguments: Mapping[str, Any],
    given: Mapping[str, Any],
    error: type[SettingError],
) -> Any:
    """Returns what a factory makes of a file's arguments, and of what every factory of the section is given.

    Raises:
      SettingError: of the given class: the arguments are not those of its signature, or it refuses them.
    """
    check_arguments(section, name, factory, arguments, given, error)
    try:
        return factory(**given, **arguments)
    except Exception as cause:
        raise error(f"{section}.arguments", dict(arguments), f"{name} refuses them: {refusal(cause)}") from cause


def check_arguments(
    section: str,
    name: str,
    factory: Factory,
    arguments: Mapping[str, Any],
    given: Iterable[str],
    error: type[SettingError],
) -> None:
    """Checks the names of a factory's arguments, as `make` does."""
    signature = inspect.signature(factory)
    try:
        signature.bind(**dict.fromkeys(given), **arguments)
    except TypeError as cause:
        taken = [parameter for parameter in signature.parameters if parameter not in given]
        message = f"{name} does not fit: {cause}; it takes {', '.join(taken) or 'none'}"
        raise error(f"{section}.arguments", dict(arguments), message) from cause


def factory_of(policy: NamedPolicy) -> Factory:
    """Returns the factory of a policy's name, having checked the names of its arguments.

    Raises:
      PolicyError: nothing is registered under the name in this process, or the arguments are not those of the factory.
    """
    section, name = policy.section, policy.kind
    factory = _REGISTERED[section].get(name)
    if factory is None:
        known = [*SLOTS[section].built_in, *_REGISTERED[section]]
        message = f"nothing is registered under this name in this process; {nearest(name, known)} {OF_PLUGINS}"
        raise PolicyError(f"{section}.kind", name, message)
    given = SLOTS[section].given
    repeated = set(given) & set(policy.arguments)
    if repeated:
        message = f"{min(repeated)} is given to every {section}: take it out of the arguments"
        raise PolicyError(f"{section}.arguments", policy.arguments, message)
    check_arguments(section, name, factory, policy.arguments, given, PolicyError)
    return factory


def whole(section: str, name: str, of: str, chosen: object, least: int, most: int) -> int:
    """Returns the choice of a policy's function as an int.

    Args:
      section: of the policy.
      name: under which it is registered.
      of: what it has chosen for.
      chosen: by it.
      least: that it may choose.
      most: likewise.

    Raises:
      SimulationError: it is no whole number from `least` to `most`.
    """
    try:
        number = operator.index(chosen)  # type: ignore[arg-type]
    except TypeError:
        number = least - 1
    if not least <= number <= most:
        wanted = f"a whole number from {least} to {most}"
        raise SimulationError(f"{section} {name!r} chose {chosen!r} for {of}: it has to choose {wanted}")
    return number


_CALLED: Mapping[SlotName, str] = {
    "synchronization": "closes",
    "compression": "decoded",
    "aggregation": "update",
    "merge": "update",
}
"""Method of what a factory returns that is called with what a slot `takes`; of other slots it is called itself."""
_ALSO: Mapping[SlotName, str] = {"compression": "bits", "aggregation": "init", "merge": "init"}
"""Another method that it has to have."""

_PARTS: Mapping[str, Callable[[Any], bool]] = {
    "closes": callable,
    "averages_group": lambda value: isinstance(value, bool),
    "looks_ahead": lambda value: isinstance(value, bool),
    "keeps_late": lambda value: isinstance(value, bool),
    "timeout_s": lambda value: isinstance(value, int | float) and not isinstance(value, bool) and value > 0,
    "window_s": lambda value: isinstance(value, int | float) and not isinstance(value, bool) and value >= 0,
    "quorum": lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
}
"""Of a synchronization policy, and what each is: a function, true or false, seconds, or a number."""


def _check_made(policy: NamedPolicy, made: Any) -> None:
    section, wrong = policy.section, ""
    if section == "synchronization":
        lacks = [name for name in _PARTS if not hasattr(made, name)]
        unlike = [name for name, fits in _PARTS.items() if not lacks and not fits(getattr(made, name))]
        if lacks:
            wrong = f"{made!r:.80}, which has no {', '.join(lacks)}: inherit from SynchronizationPolicy"
        elif unlike:
            wrong = f"a policy whose {unlike[0]} is {getattr(made, unlike[0])!r:.80}: see SynchronizationPolicy"
    elif section in _ALSO:
        lacks = [name for name in (_CALLED[section], _ALSO[section]) if not callable(getattr(made, name, None))]
        wrong = f"{made!r:.80}, which has no {', '.join(lacks)}" if lacks else ""
    elif not callable(made):
        wrong = f"{made!r:.80}, which has no __call__: return a function"
    if not wrong:
        function = getattr(made, _CALLED[section]) if section in _CALLED else made
        try:
            inspect.signature(function).bind(*SLOTS[section].takes)
        except ValueError:  # there is none to be had
            return
        except TypeError as error:
            wrong = f"a function that cannot be called with ({', '.join(SLOTS[section].takes)}): {error}"
    if wrong:
        raise PolicyError(f"{section}.kind", policy.kind, f"its factory returned {wrong}")
