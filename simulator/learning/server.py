"""The server's side of learning: its parameters, the outer optimizer, and evaluation."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from simulator.learning.nonfinite import GuardState
from simulator.learning.phases import phase
from simulator.learning.round import Arrays, Params, RoundResult


class OuterPrograms:
    """The compiled steps of an outer optimizer.

    Attributes:
      init: parameters to the optimizer's state.
      update: (parameters, state, pseudo-gradient, staleness, worker, pulled parameters) to (parameters, state).
    """

    def __init__(self, optimizer: optax.GradientTransformationExtraArgs):
        self.init = jax.jit(optimizer.init)

        def update(
            params: Params, state: Any, pseudo_gradient: Params, staleness: Any, worker: Any, pulled_params: Params
        ) -> tuple[Params, Any]:
            updates, state = optimizer.update(
                pseudo_gradient, state, params, staleness=staleness, worker=worker, pulled_params=pulled_params
            )
            return optax.apply_updates(params, updates), state

        self.update = jax.jit(update)
        self._first = jax.jit(_masked)
        self._add = jax.jit(lambda total, g, used: jax.tree.map(jnp.add, total, _masked(g, used)))
        self._divide = jax.jit(lambda total: jax.tree.map(lambda leaf: leaf / total[1], total[0]))

    def mean(self, pseudo_gradients: Sequence[Params], used: Sequence[Any]) -> Params:
        """Returns the mean of those that are used, NaN where none is; holds no more than the sum besides its inputs."""
        total = self._first(pseudo_gradients[0], used[0])
        for pseudo_gradient, each in zip(pseudo_gradients[1:], used[1:], strict=True):
            total = self._add(total, pseudo_gradient, each)
        return self._divide(total)


def _masked(tree: Params, used: Any) -> tuple[Params, jax.Array]:
    """Returns a tree, zeros where it is not used, and how many it counts for."""
    return jax.tree.map(lambda leaf: jnp.where(used, leaf, 0), tree), jnp.asarray(used, jnp.float32)


class Server:
    """Holds the parameters and applies pseudo-gradients to them.

    Attributes:
      params: replaced, never changed in place: whoever pulled them keeps a valid version.
      state: of the outer optimizer.
    """

    def __init__(self, params: Params, programs: OuterPrograms, *, reject: bool = True):
        self.params = params
        self.state = programs.init(params)
        self._programs = programs
        self._reject = reject

    @phase("outer update")
    def apply(self, pseudo_gradient: Params, *, staleness: int, worker: int, pulled_params: Params) -> jax.Array:
        """One arrival: a step of the outer optimizer, or of what stands before it.

        Returns:
          Whether the pseudo-gradient was finite, bool scalar; one that is not changes neither parameters nor momentum.
        """
        self.params, self.state = self._programs.update(
            self.params, self.state, pseudo_gradient, np.int32(staleness), np.int32(worker), pulled_params
        )
        return self.state.finite if isinstance(self.state, GuardState) else jnp.ones((), bool)

    def apply_mean(self, results: Sequence[RoundResult]) -> jax.Array:
        """A synchronous round: one step on the mean, all of which started from the present parameters.

        Those that are not finite are left out, or, where they are not rejected one by one, there is no step.

        Returns:
          Whether there was a step, which needs a mean that is finite, bool scalar.
        """
        used = [result.finite if self._reject else np.bool_(True) for result in results]
        mean = self._programs.mean([result.pseudo_gradient for result in results], used)
        return self.apply(mean, staleness=0, worker=-1, pulled_params=self.params)


class Evaluator:
    """Mean loss over a fixed set of validation examples, whose batches are spread over the devices."""

    def __init__(
        self,
        loss: Callable[[Params, Any, jax.Array | None], jax.Array],
        fetch: Callable[[Any, Any], Any],
        arrays: Arrays,
        examples: np.ndarray,
        batch_size: int,
        devices: Sequence[jax.Device] | None = None,
        parts: int | None = None,
    ):
        """Takes the examples in as few batches of one size as possible; fewer than one per batch are left out.

        Args:
          loss: (params, batch, None) to the mean loss.
          fetch: (arrays, examples) to a batch.
          arrays: the data, on every one of the devices.
          examples: what `fetch` takes, of shape (examples, ...).
          batch_size: most examples per forward pass.
          devices: where; the first local one when absent.
          parts: how many sets of equally many examples there are, one behind the other, each with a mean of its own.
        """
        of_part = len(examples) // (parts or 1)
        batches = -(-of_part // batch_size)
        size = of_part // batches
        sets = examples.reshape(parts or 1, of_part, *examples.shape[1:])[:, : batches * size]
        batches *= parts or 1
        self.examples = sets.reshape(batches, size, *examples.shape[1:])
        self._arrays = arrays
        self._devices = list(devices or jax.local_devices()[:1])
        filling = -batches % len(self._devices)  # repeated batches, so that every device has as many
        self._parts = np.concatenate([self.examples, self.examples[:1].repeat(filling, axis=0)])
        mesh = Mesh(np.array(self._devices), ("devices",))
        whole, split = PartitionSpec(), PartitionSpec("devices")  # type: ignore[no-untyped-call]
        self._whole = NamedSharding(mesh, whole)

        def losses(params: Params, arrays: Arrays, examples: jax.Array) -> jax.Array:
            each: jax.Array = jax.lax.map(lambda rows: loss(params, fetch(arrays, rows), None), examples)
            return each

        self._losses = jax.jit(
            jax.shard_map(losses, mesh=mesh, in_specs=(whole, whole, split), out_specs=split, check_vma=False)
        )
        shape = (batches,) if parts is None else (parts, -1)
        self._mean = jax.jit(lambda losses: jnp.concatenate(losses)[:batches].reshape(shape).mean(axis=-1))

    def __call__(self, params: Params) -> jax.Array:
        """Returns the mean loss in nats, float32: a scalar, or one of each part.

        One device is not waited for. Several are, but for their last program: JAX starts a program on all of them only
        when its inputs are there.
        """
        losses = self._losses(jax.device_put(params, self._whole), self._arrays, self._parts)
        first = self._devices[0]
        parts = [jax.device_put(losses.addressable_data(index), first) for index in range(len(self._devices))]
        mean: jax.Array = self._mean(parts)
        return mean
