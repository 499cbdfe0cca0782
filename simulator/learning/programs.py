"""Compiled rounds: several side by side on a device, and on several devices at once."""

from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from simulator.learning.round import Arrays, OptState, Recipe, RoundInputs, RoundResult, run_round

Outcome = tuple[RoundResult, OptState]
Shared = TypeVar("Shared")


class Programs:
    """The compiled programs of a recipe, for one round and for several side by side.

    Rounds need nothing from each other, so several devices run one program that never communicates: every array has a
    leading axis with a part for each device. Results come out on the first device, where the server is; inner optimizer
    states stay on the device that made them.

    Attributes:
      recipe: what they compute.
      devices: where.
      compilations: how many were compiled so far.
    """

    def __init__(self, recipe: Recipe, devices: Sequence[jax.Device] | None = None):
        self.recipe = recipe
        self.devices = list(devices or jax.local_devices()[:1])
        self.compilations = 0

        def lanes(arrays: Arrays, key: jax.Array, inputs: list[RoundInputs]) -> list[Outcome]:
            """What one device computes."""
            self.compilations += 1  # runs while tracing
            if len(inputs) == 1:
                return [run_round(recipe, arrays, key, inputs[0])]
            stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *inputs)
            batched = jax.vmap(lambda lane: run_round(recipe, arrays, key, lane))(stacked)
            return [jax.tree.map(lambda leaf, lane=lane: leaf[lane], batched) for lane in range(len(inputs))]

        mesh = Mesh(np.array(self.devices), ("devices",))
        whole, parts = PartitionSpec(), PartitionSpec("devices")  # type: ignore[no-untyped-call]
        self._parts = NamedSharding(mesh, parts)
        self._on_one_device = jax.jit(lanes)
        self._on_every_device = jax.jit(
            jax.shard_map(
                lambda arrays, key, inputs: _add_axis(lanes(arrays, key, _drop_axis(inputs))),
                mesh=mesh,
                in_specs=(whole, whole, parts),
                out_specs=parts,
                check_vma=False,  # every device does as many steps as its own rounds have
            )
        )
        self._add_axis, self._drop_axis = jax.jit(_add_axis), jax.jit(_drop_axis)

    def run(self, arrays: Arrays, key: jax.Array, inputs: list[RoundInputs]) -> list[Outcome]:
        """Returns result and inner optimizer state of each round, in order.

        Args:
          arrays: the data, on every one of the devices.
          key: root of the rounds' keys, likewise.
          inputs: as many rounds for each device as for any other, or fewer rounds than devices.
        """
        devices = len(self.devices)
        if devices == 1:
            return self._on_one_device(arrays, key, inputs)  # type: ignore[no-any-return]  # jit does not keep types
        idle = [inputs[0]._replace(steps=np.int32(0))] * (devices - len(inputs))
        given = [*inputs, *idle]
        rows = [self._joined(given[first : first + devices]) for first in range(0, len(given), devices)]
        outcomes = [each for row in self._on_every_device(arrays, key, rows) for each in self._apart(row)]
        return outcomes[: len(inputs)]

    def _joined(self, inputs: list[RoundInputs]) -> RoundInputs:
        """One round for each device as one tree, whose leaves have a part on each."""
        trees = [
            self._add_axis(jax.device_put((each.params, each.opt_state), device))
            for each, device in zip(inputs, self.devices, strict=True)
        ]
        params, opt_state = jax.tree.map(self._join, *trees)
        host = [each._replace(params=None, opt_state=None) for each in inputs]
        stacked: RoundInputs = jax.tree.map(lambda *leaves: np.stack(leaves), *host)
        return stacked._replace(params=params, opt_state=opt_state)

    def _join(self, *parts: jax.Array) -> jax.Array:
        shape = (len(parts), *parts[0].shape[1:])
        return jax.make_array_from_single_device_arrays(shape, self._parts, list(parts))

    def _apart(self, outcomes: Outcome) -> list[Outcome]:
        separate = []
        for index in range(len(self.devices)):
            part = jax.tree.map(lambda leaf, index=index: leaf.addressable_data(index), outcomes)
            result, state = self._drop_axis(part)
            separate.append((jax.device_put(result, self.devices[0]), state))
        return separate


def everywhere(shared: Shared, devices: Sequence[jax.Device]) -> Shared:
    """Returns a tree of arrays with a copy on every one of the devices; without one where there is only one."""
    if len(devices) == 1:
        return shared
    whole = NamedSharding(Mesh(np.array(devices), ("devices",)), PartitionSpec())  # type: ignore[no-untyped-call]
    return jax.device_put(shared, whole)  # type: ignore[no-any-return]


def _add_axis(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[None], tree)


def _drop_axis(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[0], tree)
