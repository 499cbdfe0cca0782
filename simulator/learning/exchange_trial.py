"""Trial of what users have registered for an exchange, on shapes: a mistake is told before a run, not in it."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax

from simulator.experiment import Experiment, cause_of, registry
from simulator.experiment.registry import NamedPolicy
from simulator.host.errors import SettingError
from simulator.learning.exchange import Exchange
from simulator.learning.server import Offers


def try_exchange(
    experiment: Experiment, exchange: Exchange, outer: optax.GradientTransformationExtraArgs, part: Any
) -> None:
    """Computes the shapes of what is registered by name; nothing else is computed.

    Args:
      experiment: whose slots.
      exchange: compiled functions of it.
      outer: outer optimizer, whose state a view reads.
      part: shapes and dtypes of a fragment.

    Raises:
      SettingError: something raises an error, or returns what is not like the parameters.
    """
    for key, section, made in _trials(experiment, exchange, outer, part):
        if not isinstance(section, NamedPolicy):
            continue
        try:
            found = made()
        except Exception as error:
            message = f"cannot be computed of parameters of this model: {cause_of(error)}"
            raise SettingError(f"{key}.kind", section.kind, message) from error
        like, given = (jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) for tree in (part, found))
        if like != given:
            message = "returns what is not like the parameters: return a tree of the same shapes and dtypes"
            raise SettingError(f"{key}.kind", section.kind, message)


def _trials(
    experiment: Experiment, exchange: Exchange, outer: optax.GradientTransformationExtraArgs, part: Any
) -> Iterator[tuple[str, Any, Callable[[], Any]]]:
    """Yields the key of a slot, its section, and what makes the shapes that are to be like the parameters'."""
    key = jax.eval_shape(lambda: jax.random.key(0))

    def offered() -> Any:
        return jax.eval_shape(lambda p, k: exchange.offer(p, p, exchange.initial_feedback(p), k), part, key)

    def merged() -> Any:
        def merge(params: Any, offer: Any) -> Any:
            return exchange.merge(params, params, offer, params, exchange.initial_merge(params))[0]

        return jax.eval_shape(merge, part, offered())

    def aggregated() -> Any:
        assert isinstance(experiment.aggregation, NamedPolicy)
        aggregation = registry.build(experiment.aggregation)
        counts, tokens = jnp.zeros(2, jnp.int32), jnp.zeros(2, jnp.float32)

        def aggregate(params: Any) -> Any:
            offers = Offers([params, params], counts, counts, counts, tokens, jnp.ones(2, bool))
            return aggregation.update(offers, aggregation.init(params))[0]

        return jax.eval_shape(aggregate, part)

    yield "offer", experiment.offer, lambda: jax.eval_shape(exchange.content, part, part)
    yield "compression", experiment.compression, lambda: offered().tree
    yield "merge", experiment.merge, merged
    yield "view", experiment.view, lambda: jax.eval_shape(lambda p: exchange.view(p, outer.init(p)), part)
    yield "aggregation", experiment.aggregation, aggregated
