"""Protocol of optimizers: the arguments and the results of `update`, tried on shapes before a run."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import optax

from simulator.experiment import cause_of
from simulator.host.errors import SettingError

TOLD = ("staleness", "worker", "steps", "tokens", "pulled_params")
"""Keyword arguments that the `update` of an outer optimizer may take."""

_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class OptimizerError(SettingError):
    """An optimizer that cannot be built, or cannot step."""


def told_what_it_takes(section: str, name: str, optimizer: Any) -> optax.GradientTransformationExtraArgs:
    """Returns an optimizer that accepts every argument and passes on those in the signature of its own `update`.

    These are the updates, the state, the parameters if it takes them, and those of `TOLD` that it names, or all if it
    takes any keyword argument.

    Raises:
      OptimizerError: it is no optimizer, or its `update` needs something else.
    """
    if not all(callable(getattr(optimizer, part, None)) for part in ("init", "update")):
        message = f"its factory returned {optimizer!r:.80}: return an optax.GradientTransformation"
        raise OptimizerError(f"{section}.optimizer", name, message)
    signature = inspect.signature(optimizer.update)
    parameters = list(signature.parameters.values())
    kinds, rest = {each.kind for each in parameters}, parameters[2:]
    by_place = inspect.Parameter.VAR_POSITIONAL in kinds or (
        bool(rest) and rest[0].kind in _BY_PLACE and rest[0].name not in TOLD
    )
    own = {each.name for each in rest[by_place:]}
    any_name = inspect.Parameter.VAR_KEYWORD in kinds
    by_name = [each for each in TOLD if any_name or each in own]
    if not by_place and (any_name or "params" in own):
        by_name.append("params")
    try:
        signature.bind(None, None, *[None] * by_place, **dict.fromkeys(by_name))
    except TypeError as error:
        message = f"its update cannot be called as update(updates, state, params): {error}; by name it may take "
        raise OptimizerError(f"{section}.optimizer", name, message + ", ".join(TOLD)) from error
    if untold := _untold(optimizer.update):
        message = f"optax tells {untold} to no part of a chain that is not a GradientTransformationExtraArgs: make the "
        raise OptimizerError(
            f"{section}.optimizer", name, f"{message}part one, whose update takes all others as **extra"
        )

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        known = {"params": params, **extra}
        named = {each: known[each] for each in by_name if each in known}
        return optimizer.update(updates, state, *[params] * by_place, **named)

    return optax.GradientTransformationExtraArgs(optimizer.init, update)


def _untold(update: Any) -> str | None:
    """Returns the first of `TOLD`, if any, that a part of an `optax.chain` takes and optax does not pass on."""
    pending, seen = [update], set()
    while pending:
        each = pending.pop()
        if isinstance(each, tuple | list):
            pending += each
        elif inspect.isfunction(each) and id(each) not in seen:
            seen.add(id(each))
            within = inspect.getclosurevars(each).nonlocals
            pending += within.values()
            if each.__module__.startswith("optax.") and "with_extra_args_support" in each.__qualname__:
                taken = inspect.signature(within["tx"].update).parameters
                if untold := next((name for name in TOLD if name in taken), None):
                    return untold
    return None


def check_step(
    section: str, name: str, optimizer: optax.GradientTransformationExtraArgs, params: Any = None, *, outer: bool
) -> None:
    """Checks that an optimizer makes updates like the parameters, and a state like the one before, of gradients alone.

    Args:
      section: of the experiment file.
      name: of the optimizer.
      optimizer: to try; nothing is computed.
      params: shapes and dtypes of the parameters; of a matrix and a vector in float32 when absent.
      outer: whether it is given the keyword arguments of an outer optimizer.

    Raises:
      OptimizerError: it does not, for instance because it needs the loss, as line searches do.
    """
    if params is None:
        params = {"matrix": jnp.zeros((3, 2)), "vector": jnp.zeros(3)}
    extra: dict[str, Any] = {}
    if outer:
        extra = dict.fromkeys(("staleness", "worker", "steps"), jnp.int32(0))
        extra |= {"tokens": jnp.float32(0), "pulled_params": params}
    key, part = f"{section}.optimizer", "init"
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        try:
            state = jax.eval_shape(optimizer.init, params)
            part = "update"
            step = jax.eval_shape(lambda *given: optimizer.update(*given[:3], **given[3]), params, state, params, extra)
        except Exception as error:
            message = f"it cannot step with these arguments, gradients and parameters alone: its {part} raises "
            chained = "unexpected keyword" in str(error)  # others are looked at before
            remedy = "; a part of a chain takes all that it does not need as **extra" if chained else ""
            raise OptimizerError(key, name, message + cause_of(error) + remedy) from error
    if not isinstance(step, tuple) or len(step) != 2:
        raise OptimizerError(key, name, f"its update returned {step!r:.80}: return the updates and the new state")
    for what, new, like, old in (("updates", step[0], "the parameters", params), ("state", step[1], "its init", state)):
        if difference := _difference(new, old):
            raise OptimizerError(key, name, f"its update returned {what} unlike {like}: {difference}")


def _difference(new: Any, old: Any) -> str:
    """Returns how a tree differs from another in structure, shapes or dtypes, "" where it does not."""
    news, olds = (
        {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (new, old)
    )
    for path, leaf in olds.items():
        if path not in news:
            return f"{path or 'the array'} is missing"
        if (news[path].shape, news[path].dtype) != (leaf.shape, leaf.dtype):
            return f"{path or 'it'} is {_kind(news[path])}, not {_kind(leaf)}"
    for path in news.keys() - olds.keys():
        return f"{path or 'an array'} is too much"
    made, before = str(jax.tree.structure(new)), str(jax.tree.structure(old))
    return "" if made == before else f"it is {made:.80}, not {before:.80}"


def _kind(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"
