"""Compiled rounds: several side by side on a device, and on several devices at once."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from simulator.learning.lane_schedule import Segment, plan
from simulator.learning.round import (
    Arrays,
    OptState,
    Params,
    Recipe,
    RoundInputs,
    RoundResult,
    RoundState,
    advance,
    finish,
    init,
)

Outcome = tuple[RoundResult, OptState]
Shared = TypeVar("Shared")


class _Lane(NamedTuple):
    """Content of a lane: a round's inputs and its state."""

    inputs: RoundInputs
    state: RoundState


class _Output(NamedTuple):
    """Output of a lane: of a round that is over its result, of any other its state.

    They are never needed together, so that they share arrays, which saves memory and time.
    """

    params: Params
    opt_state: OptState
    loss_sum_or_mean: jax.Array
    done: jax.Array
    noise_scale: Any
    finite: jax.Array

    @property
    def state(self) -> RoundState:
        return RoundState(self.params, self.opt_state, self.loss_sum_or_mean, self.done, self.noise_scale)

    @property
    def result(self) -> RoundResult:
        return RoundResult(self.params, self.loss_sum_or_mean, self.finite, self.noise_scale)


class Programs:
    """The compiled programs of a recipe, for one round and for several side by side.

    Rounds need nothing from each other, so several devices run one program that never communicates: every array has a
    leading axis with a part for each device. Results come out on the first device, where the server is; inner optimizer
    states stay on the device that made them. Rounds of different lengths are divided into segments, between which their
    states stay on the devices, so that lanes are neither masked nor filled up.

    Attributes:
      recipe: of the rounds.
      devices: that run them.
      compilations: number of compilations so far.
    """

    def __init__(self, recipe: Recipe, devices: Sequence[jax.Device] | None = None):
        self.recipe = recipe
        self.devices = list(devices or jax.local_devices()[:1])
        self.compilations = 0

        def side_by_side(arrays: Arrays, key: jax.Array, lanes: list[_Lane], steps: jax.Array) -> list[_Output]:
            """Computes the lanes of one device."""
            self.compilations += 1  # runs while tracing
            compute = functools.partial(_compute, recipe, arrays, key, steps)
            if len(lanes) == 1:
                return [compute(lanes[0])]
            # Stacked inside of the program, which saves a dispatch and a copy for every leaf.
            outputs = jax.vmap(compute)(jax.tree.map(lambda *leaves: jnp.stack(leaves), *lanes))
            return [jax.tree.map(lambda leaf, lane=lane: leaf[lane], outputs) for lane in range(len(lanes))]

        mesh = Mesh(np.array(self.devices), ("devices",))
        whole, parts = PartitionSpec(), PartitionSpec("devices")  # type: ignore[no-untyped-call]
        self._parts = NamedSharding(mesh, parts)
        self._on_one_device = jax.jit(side_by_side)
        self._on_every_device = jax.jit(
            jax.shard_map(
                lambda arrays, key, lanes, steps: _add_axis(side_by_side(arrays, key, _drop_axis(lanes), steps[0])),
                mesh=mesh,
                in_specs=(whole, whole, parts, parts),
                out_specs=parts,
                check_vma=False,  # every device does as many steps as its own rounds have
            )
        )
        self._add_axis, self._drop_axis = jax.jit(_add_axis), jax.jit(_drop_axis)
        self._fresh = jax.jit(recipe.initial_state)

    def run(
        self, arrays: Arrays, key: jax.Array, inputs: Sequence[RoundInputs], overhead: float = 0.0
    ) -> list[Outcome]:
        """Returns result and inner optimizer state of each round, in order.

        Args:
          arrays: the data, on every one of the devices.
          key: root of the rounds' keys, likewise.
          inputs: the rounds, of any lengths and as many as may be side by side.
          overhead: cost of starting a step, in lanes; see `launch_overhead`.
        """
        lanes = [self._first(each) for each in inputs]
        outputs: dict[int, _Output] = {}
        for segment in plan([int(each.steps) for each in inputs], len(self.devices), overhead):
            for number, output in self._run(arrays, key, lanes, segment):
                outputs[number], lanes[number] = output, lanes[number]._replace(state=output.state)
        keep = self.recipe.keep_state
        in_order = [outputs[number] for number in range(len(inputs))]
        return [(self._at_home(output.result), output.opt_state if keep else ()) for output in in_order]

    def memory(self, arrays: Arrays, key: jax.Array, inputs: Sequence[RoundInputs]) -> float:
        """Returns the bytes that XLA allocates on one device, besides its inputs, for rounds side by side."""
        lanes = [self._first(each) for each in inputs]
        found = self._on_one_device.lower(arrays, key, lanes, np.int32(1)).compile().memory_analysis()
        assert found is not None, "this backend does not say"
        return float(found.temp_size_in_bytes + found.output_size_in_bytes)

    def _first(self, inputs: RoundInputs) -> _Lane:
        opt_state = inputs.opt_state if self.recipe.keep_state else self._fresh(inputs.params)
        return _Lane(inputs, init(inputs.params, opt_state, has_micro_batches=inputs.micro_batches is not None))

    def _at_home(self, result: RoundResult) -> RoundResult:
        return result if len(self.devices) == 1 else jax.device_put(result, self.devices[0])

    def _run(
        self, arrays: Arrays, key: jax.Array, lanes: Sequence[_Lane], segment: Segment
    ) -> Iterator[tuple[int, _Output]]:
        """Runs a segment; yields each of its rounds' place among all, and its output."""
        # A lane that idles repeats some round, whose second result is dropped: a smaller one takes another program.
        filling = next(each for row in segment.places for each in row if each is not None)
        rows = list(zip(*segment.places, strict=True))  # of each, one lane of every device
        chosen = [[lanes[filling if each is None else each] for each in row] for row in rows]
        if len(self.devices) == 1:
            outputs = self._on_one_device(arrays, key, [lane for [lane] in chosen], np.int32(segment.steps[0]))
        else:
            joined = [self._joined(row) for row in chosen]
            outputs = self._on_every_device(arrays, key, joined, np.array(segment.steps, np.int32))
        for row, output in zip(rows, outputs, strict=True):
            for device, each in enumerate(row):
                if each is not None:
                    yield each, output if len(self.devices) == 1 else self._part(output, device)

    def _part(self, output: _Output, device: int) -> _Output:
        """Returns the part of one device. No copy: it stays there, where the round's next segment runs."""
        part: _Output = self._drop_axis(jax.tree.map(lambda leaf: leaf.addressable_data(device), output))
        return part

    def _joined(self, lanes: Sequence[_Lane]) -> _Lane:
        """One lane of each device as one tree, whose leaves have a part on each."""
        keep, fresh = self.recipe.keep_state, all(lane.state.params is lane.inputs.params for lane in lanes)
        placed = []
        for (inputs, state), device in zip(lanes, self.devices, strict=True):
            if fresh:  # no segment has run: parameters are in the inputs and in the state, and are sent once
                state = state._replace(params=None, opt_state=None if keep else state.opt_state)
            placed.append(self._add_axis(jax.device_put((inputs.params, inputs.opt_state, state), device)))
        params, opt_state, state = jax.tree.map(self._join, *placed)
        if fresh:
            state = state._replace(params=params, opt_state=opt_state if keep else state.opt_state)
        # The other inputs are on the host, and stacked there: the call itself divides them among the devices.
        host = [lane.inputs._replace(params=None, opt_state=None) for lane in lanes]
        stacked: RoundInputs = jax.tree.map(lambda *leaves: np.stack(leaves), *host)
        return _Lane(stacked._replace(params=params, opt_state=opt_state), state)

    def _join(self, *parts: jax.Array) -> jax.Array:
        shape = (len(parts), *parts[0].shape[1:])
        return jax.make_array_from_single_device_arrays(shape, self._parts, list(parts))


def _compute(recipe: Recipe, arrays: Arrays, key: jax.Array, steps: jax.Array, lane: _Lane) -> _Output:
    """Does some of a round's local steps, and finishes it behind the last."""
    state = advance(recipe, arrays, key, lane.inputs, lane.state, steps)
    result, opt_state = finish(recipe, lane.inputs, state)
    going_on = _Output(*state, result.finite)
    over = _Output(result.params, opt_state, result.loss, state.done, result.noise_scale, result.finite)
    output: _Output = jax.tree.map(functools.partial(jnp.where, state.done == lane.inputs.steps), over, going_on)
    return output


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
