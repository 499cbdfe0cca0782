"""Saving and restoring the state of training as named arrays."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from simulator.learning.round import Params, RoundResult, RoundSettings
from simulator.learning.server import Server
from simulator.learning.trainers import Ticket, Trainer

Arrays = Mapping[str, npt.NDArray[Any]]


class SnapshotError(ValueError):
    """Saved arrays that are not those of this experiment."""


def save(
    server: Server, trainer: Trainer, tickets: Mapping[int, Ticket]
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Returns the state as arrays by name, on the host, and the facts that restore it with them.

    Args:
      server: its parameters and the outer optimizer's state.
      trainer: the workers' inner optimizer states.
      tickets: rounds that were dispatched and not yet processed, by id; some may have been computed.
    """
    named, facts = _gathered(server, trainer, tickets)
    on_host = jax.device_get(named)
    return {name: np.asarray(array) for name, array in on_host.items()}, facts


def size(server: Server, trainer: Trainer, tickets: Mapping[int, Ticket]) -> int:
    """Returns the bytes of the arrays that `save` would return; takes nothing from the devices."""
    return sum(array.nbytes for array in _gathered(server, trainer, tickets)[0].values())


def _gathered(
    server: Server, trainer: Trainer, tickets: Mapping[int, Ticket]
) -> tuple[dict[str, jax.Array], dict[str, Any]]:
    pulled = {id(server.params): 0}  # each version once, however many have pulled it
    versions = [server.params]
    for ticket in tickets.values():
        if id(ticket.params) not in pulled:
            pulled[id(ticket.params)] = len(versions)
            versions.append(ticket.params)
    states = trainer.inner_states
    results = {number: ticket.result for number, ticket in tickets.items() if ticket.result is not None}
    named = _named("outer", server.state)
    for number, params in enumerate(versions):
        named |= _named(f"version.{number}", params)
    for worker, state in states.items():
        named |= _named(f"inner.{worker}", state)
    for number, result in results.items():
        named |= _named(f"result.{number}", (result, tickets[number].state))
    facts = {
        "pulled": {str(number): pulled[id(ticket.params)] for number, ticket in tickets.items()},
        "trained": sorted(states),
        "computed": sorted(results),
        "forgotten": sorted(number for number in results if tickets[number].forgotten),
    }
    return named, facts


def saved_params(arrays: Arrays, like: Params) -> Params:
    """Returns the server's parameters.

    Args:
      arrays: what `save` returned.
      like: a tree of arrays, or of their shapes and dtypes.

    Raises:
      SnapshotError: they are of another model.
    """
    return _tree("version.0", like, arrays)


def restore(
    server: Server,
    trainer: Trainer,
    rounds: Mapping[int, RoundSettings],
    arrays: Arrays,
    facts: Mapping[str, Any],
) -> dict[int, Ticket]:
    """Restores the server, which has the saved parameters already, and the trainer.

    Args:
      server: of the same experiment.
      trainer: a fresh one.
      rounds: those that had been dispatched and not yet processed, by id.
      arrays: what `save` returned.
      facts: likewise.

    Returns:
      The rounds' tickets.

    Raises:
      SnapshotError: the arrays are of another experiment.
    """
    if set(facts["pulled"]) != {str(number) for number in rounds}:
        raise SnapshotError("other rounds are under way")
    params = server.params
    server.state = _tree("outer", server.state, arrays)
    versions = {0: params}
    for number in set(facts["pulled"].values()) - {0}:
        versions[number] = _tree(f"version.{number}", params, arrays)
    inner = jax.eval_shape(trainer.initial_state, params)
    like = RoundResult(params, jnp.zeros((), jnp.float32), jnp.zeros((), bool)), inner
    tickets = {}
    for number, round in sorted(rounds.items()):
        pulled = versions[facts["pulled"][str(number)]]
        result, state = _tree(f"result.{number}", like, arrays) if number in facts["computed"] else (None, None)
        tickets[number] = Ticket(round, pulled, result, state, number in facts["forgotten"])
    states = {worker: _tree(f"inner.{worker}", inner, arrays) for worker in facts["trained"]}
    trainer.resume(states, list(tickets.values()))
    return tickets


def _named(prefix: str, tree: Any) -> dict[str, jax.Array]:
    return {f"{prefix}.{number}": _plain(leaf) for number, leaf in enumerate(jax.tree.leaves(tree))}


def _plain(leaf: Any) -> Any:
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else jnp.asarray(leaf)


def _tree(prefix: str, like: Any, arrays: Arrays) -> Any:
    leaves, structure = jax.tree.flatten(like)
    return jax.tree.unflatten(structure, [_leaf(f"{prefix}.{n}", leaf, arrays) for n, leaf in enumerate(leaves)])


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
