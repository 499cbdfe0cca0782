"""Saving and restoring the state of training as named arrays."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from simulator.learning.server import Server
from simulator.learning.values import Value

Arrays = Mapping[str, npt.NDArray[Any]]
Servers = Mapping[tuple[int, int], Server]
"""Of each node and fragment."""


class SnapshotError(ValueError):
    """Saved arrays that are not those of this experiment."""


def save(servers: Servers, values: Iterable[Value]) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Returns the state as arrays by name, on the host, and the facts that restore it with them.

    Args:
      servers: their outer optimizers' states.
      values: those that are known and may be needed.
    """
    named, facts = _gathered(servers, values)
    on_host = jax.device_get(named)
    return {name: np.asarray(array) for name, array in on_host.items()}, facts


def size(servers: Servers, values: Iterable[Value]) -> int:
    """Returns the bytes of the arrays that `save` would return; takes nothing from the devices."""
    return sum(array.nbytes for array in _gathered(servers, values)[0].values())


def _gathered(servers: Servers, values: Iterable[Value]) -> tuple[dict[str, jax.Array], dict[str, Any]]:
    named: dict[str, jax.Array] = {}
    leaves: dict[int, str] = {}  # each array once, however many values it is in
    same: dict[str, str] = {}
    for (node, fragment), server in servers.items():
        named |= _named(f"outer.{node}.{fragment}", (server.state, server.aggregation))
    numbers = []
    for value in sorted(values, key=lambda each: each.number):
        numbers.append(value.number)
        for name, leaf in _named(f"value.{value.number}", value.get()).items():
            first = leaves.setdefault(id(leaf), name)
            if first == name:
                named[name] = leaf
            else:
                same[name] = first
    return named, {"values": numbers, "same": same}


def restore(
    servers: Servers,
    values: Iterable[Value],
    like: Callable[[str], Any],
    arrays: Arrays,
    facts: Mapping[str, Any],
) -> None:
    """Restores the servers' outer optimizers, and the values that were known.

    Args:
      servers: of the same experiment.
      values: those that may be needed, in an order in which a value comes before those that it depends on.
      like: from the kind of a value to shapes and dtypes.
      arrays: what `save` returned.
      facts: likewise.

    Raises:
      SnapshotError: the arrays are of another experiment.
    """
    for (node, fragment), server in servers.items():
        state = server.state, server.aggregation
        server.state, server.aggregation = _tree(f"outer.{node}.{fragment}", state, arrays, {})
    known, same = set(facts["values"]), facts["same"]
    made: dict[str, jax.Array] = {}
    for value in values:
        if value.number in known:
            value.set(_tree(f"value.{value.number}", like(value.kind), arrays, same, made))


def _named(prefix: str, tree: Any) -> dict[str, Any]:
    return {f"{prefix}.{number}": _plain(leaf) for number, leaf in enumerate(jax.tree.leaves(tree))}


def _plain(leaf: Any) -> Any:
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf)


def _tree(
    prefix: str, like: Any, arrays: Arrays, same: Mapping[str, str], made: dict[str, jax.Array] | None = None
) -> Any:
    leaves, structure = jax.tree.flatten(like)
    found = []
    for number, leaf in enumerate(leaves):
        name = f"{prefix}.{number}"
        name = same.get(name, name)
        if made is None or name not in made:
            array = _leaf(name, leaf, arrays)
            if made is not None:
                made[name] = array  # one array for all values that it is in, as before
        else:
            array = made[name]
        found.append(array)
    return jax.tree.unflatten(structure, found)


def _leaf(name: str, like: Any, arrays: Arrays) -> jax.Array:
    is_key = jnp.issubdtype(like.dtype, jax.dtypes.prng_key)
    shape = jax.eval_shape(jax.random.key_data, like).shape if is_key else like.shape
    dtype = np.dtype(np.uint32) if is_key else like.dtype
    found = arrays.get(name, np.zeros(shape, dtype) if 0 in shape else None)
    if found is None:
        raise SnapshotError(f"{name} is missing")
    if found.size != np.prod(shape, dtype=int) or found.dtype != dtype:
        raise SnapshotError(f"{name} is {found.dtype}{list(found.shape)} and should be {dtype}{list(shape)}")
    array = jnp.asarray(found.reshape(shape))
    return jax.random.wrap_key_data(array, impl=jax.random.key_impl(like)) if is_key else array
