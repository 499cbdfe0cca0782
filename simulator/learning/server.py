"""The server's side of learning: its parameters, the outer optimizer, and evaluation."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from simulator.learning.exchange import OfferMade
from simulator.learning.optimizers.nonfinite import GuardState, all_finite
from simulator.learning.phases import phase
from simulator.learning.round import Arrays, Params


class OfferInfo(NamedTuple):
    """Facts of an offer besides its tree; see `Offers`."""

    worker: Any
    staleness: Any
    steps: Any = 0
    tokens: Any = 0.0


class OuterPrograms:
    """The compiled steps of an outer optimizer.

    Attributes:
      update: (parameters, state, pseudo-gradient, `OfferInfo`, pulled parameters) to (parameters, state).
      all_finite: whether no number of a tree is infinite or NaN.
    """

    def __init__(self, optimizer: optax.GradientTransformationExtraArgs):
        self._init = jax.jit(optimizer.init)

        def update(
            params: Params, state: Any, pseudo_gradient: Params, info: OfferInfo, pulled_params: Params
        ) -> tuple[Params, Any]:
            told = {**info._asdict(), "pulled_params": pulled_params}
            updates, state = optimizer.update(pseudo_gradient, state, params, **told)
            return optax.apply_updates(params, updates), state

        self.update, self.all_finite = jax.jit(update), jax.jit(all_finite)
        self._first = jax.jit(_masked)
        self._add = jax.jit(lambda total, g, used: jax.tree.map(jnp.add, total, _masked(g, used)))
        self._weighted = jax.jit(lambda total, g, used, weight: jax.tree.map(jnp.add, total, _masked(g, used, weight)))
        self._divide = jax.jit(lambda total: jax.tree.map(lambda leaf: leaf / total[1], total[0]))

    def init(self, params: Params) -> Any:
        """Returns the optimizer's state, beside the parameters as after a step: else the first step compiles anew."""
        return jax.device_put(self._init(params), jax.tree.leaves(params)[0].sharding)

    def mean(self, trees: Sequence[Params], used: Sequence[Any], weights: Sequence[float] | None = None) -> Params:
        """Returns the mean of those that are used, NaN where none is; holds no more than the sum besides its inputs.

        Args:
          trees: of which the mean is.
          used: for each whether it is, bool.
          weights: of each in the mean; all alike when None.
        """
        if weights is not None:
            total = self._first(trees[0], np.bool_(False))
            for tree, each, weight in zip(trees, used, weights, strict=True):
                total = self._weighted(total, tree, each, np.float32(weight))
            return self._divide(total)
        total = self._first(trees[0], used[0])
        for tree, each in zip(trees[1:], used[1:], strict=True):
            total = self._add(total, tree, each)
        return self._divide(total)


def _masked(tree: Params, used: Any, weight: Any = None) -> tuple[Params, jax.Array]:
    """Returns a tree, zeros if it is not used, and its weight in a mean: 0, or 1 if no other is given."""
    counted = jnp.asarray(used, jnp.float32)
    if weight is None:
        return jax.tree.map(lambda leaf: jnp.where(used, leaf, 0), tree), counted
    return jax.tree.map(lambda leaf: jnp.where(used, weight.astype(leaf.dtype) * leaf, 0), tree), counted * weight


class Offers(NamedTuple):
    """Offers of a meeting, as a user-defined aggregation is shown them.

    Attributes:
      trees: pseudo-gradients, in order of arrival.
      worker: numbers of their workers, int32 (offers,); of regions those.
      staleness: updates of the place since each worker last accepted from it, int32 (offers,).
      steps: local steps that each is of, int32 (offers,).
      tokens: that these trained on (of a classifier, examples), float32 (offers,).
      finite: whether each is, bool (offers,).
    """

    trees: list[Params]
    worker: jax.Array
    staleness: jax.Array
    steps: jax.Array
    tokens: jax.Array
    finite: jax.Array


class Aggregation(Protocol):
    """User-defined aggregation: a pair of functions, compiled."""

    def init(self, params: Params) -> Any:
        """Returns its state before the first meeting, from the place's parameters."""

    def update(self, offers: Offers, state: Any) -> tuple[Params, Any]:
        """Returns what becomes one outer step, like the parameters, and the state anew."""


class Server:
    """Holds the parameters of a place and applies offers to them.

    Attributes:
      params: replaced, never changed in place: whoever pulled them keeps a valid version.
      state: of the outer optimizer.
      steps: whether there is an outer step.
      aggregation: state of a user-defined aggregation, () without.
    """

    def __init__(
        self,
        params: Params,
        programs: OuterPrograms,
        *,
        reject: bool = True,
        aggregation: Literal["mean", "weighted", "fold"] | Aggregation = "mean",
        steps: bool = True,
    ):
        """Starts with parameters.

        Args:
          params: of the place.
          programs: of the outer optimizer.
          reject: whether offers that are not finite are left out one by one.
          aggregation: how offers become one.
          steps: whether there is an outer step; else what is aggregated takes the parameters' place.
        """
        self.params = params
        self.state = programs.init(params) if steps else ()
        self._programs, self._reject, self.steps, self._aggregation = programs, reject, steps, aggregation
        self.aggregation = () if isinstance(aggregation, str) else aggregation.init(params)
        self._aggregate = None if isinstance(aggregation, str) else jax.jit(_of_finite(aggregation, reject=reject))

    @phase("outer update")
    def apply(self, pseudo_gradient: Params, info: OfferInfo, pulled_params: Params) -> jax.Array:
        """Applies one arrival: a step of the outer optimizer, or of the transforms in front of it.

        Returns:
          Whether the pseudo-gradient was finite, bool scalar; one that is not changes neither parameters nor momentum.
          Without outer steps it takes the parameters' place anyway: the workers take no step on it.
        """
        if not self.steps:
            self.params = pseudo_gradient
            finite: jax.Array = self._programs.all_finite(pseudo_gradient)
            return finite
        worker, staleness, steps = map(np.int32, info[:3])
        counts = OfferInfo(worker, staleness, steps, np.float32(info.tokens))
        self.params, self.state = self._programs.update(self.params, self.state, pseudo_gradient, counts, pulled_params)
        return self.state.finite if isinstance(self.state, GuardState) else jnp.ones((), bool)

    def meet(
        self, offers: Sequence[OfferMade], infos: Sequence[OfferInfo], starts: Sequence[Params] | None
    ) -> tuple[Any, Params | None]:
        """Applies the offers of a meeting: one step on what they are aggregated to, or a step for each.

        Those that are not finite are left out, or, where they are not rejected one by one, there is no step.

        Args:
          offers: in order of arrival.
          infos: of each.
          starts: parameters that each began with, where they were sent too; None where all are taken to have begun
            with the place's present ones.

        Returns:
          Whether there was a step, which needs a mean, or one of the offers, that is finite, bool scalar; and what the
          offers were aggregated to, None of one that is alone or where each is a step.
        """
        trees = [offer.tree for offer in offers]
        used = [offer.finite if self._reject else np.bool_(True) for offer in offers]
        if self._aggregation == "fold":
            return self._fold(trees, infos, starts), None
        if self._aggregate is not None:
            *counts, tokens = zip(*infos, strict=True)
            worker, staleness, steps = (jnp.array(each, jnp.int32) for each in counts)
            finite = jnp.stack([jnp.asarray(offer.finite) for offer in offers])
            shown = Offers(trees, worker, staleness, steps, jnp.array(tokens, jnp.float32), finite)
            combined, self.aggregation = self._aggregate(shown, self.aggregation)
        else:
            weights = [float(info.steps) for info in infos] if self._aggregation == "weighted" else None
            combined = self._programs.mean(trees, used, weights)
        pulled = self.params if starts is None else self._programs.mean(starts, used)
        whole = OfferInfo(-1, 0, sum(info.steps for info in infos), sum(info.tokens for info in infos))
        return self.apply(combined, whole, pulled), combined if len(offers) > 1 else None

    def _fold(self, trees: Sequence[Params], infos: Sequence[OfferInfo], starts: Sequence[Params] | None) -> Any:
        applied = []
        for place, (tree, info) in enumerate(zip(trees, infos, strict=True)):
            pulled = self.params if starts is None else starts[place]
            applied.append(self.apply(tree, info, pulled))
        return jnp.stack(applied).any()


def _of_finite(aggregation: Aggregation, *, reject: bool) -> Callable[[Offers, Any], tuple[Params, Any]]:
    """Returns what aggregates the finite offers of a meeting to NaN, and keeps its state, where it is to be skipped.

    Args:
      aggregation: of finite offers, or of all.
      reject: whether one finite offer is enough.
    """

    def update(offers: Offers, state: Any) -> tuple[Params, Any]:
        combined, after = aggregation.update(offers, state)
        counts = offers.finite.any() if reject else offers.finite.all()
        combined = jax.tree.map(lambda leaf: jnp.where(counts, leaf, jnp.nan), combined)
        return combined, jax.tree.map(lambda new, old: jnp.where(counts, new, old), after, state)

    return update


class Evaluator:
    """Mean losses over fixed sets of validation examples, each of which counts once; batches go to all devices.

    Attributes:
      batches: the examples by the size of their batches, (batches, size, ...) each.
    """

    def __init__(
        self,
        loss: Callable[[Params, Any, jax.Array | None], jax.Array],
        fetch: Callable[[Any, Any], Any],
        arrays: Arrays,
        sets: Sequence[np.ndarray],
        batch_size: int,
        devices: Sequence[jax.Device] | None = None,
    ):
        """Divides the sets into batches of one size, and smaller ones of the remainder.

        Args:
          loss: (params, batch, None) to the mean loss.
          fetch: (arrays, examples) to a batch.
          arrays: the data, on every one of the devices.
          sets: of inputs of `fetch`, each of shape (examples, ...); each has a mean of its own, NaN without examples.
          batch_size: most examples per forward pass.
          devices: to evaluate on; the first local one when absent.
        """
        self._arrays = arrays
        self._devices = list(devices or jax.local_devices()[:1])
        sizes = batch_sizes([len(examples) for examples in sets], batch_size)
        batches = [
            (size, number, batch)
            for number, (examples, own) in enumerate(zip(sets, sizes, strict=True))
            for size, batch in zip(own, np.split(examples, np.cumsum(own)), strict=False)
        ]
        batches.sort(key=lambda each: -each[0])
        self.batches = {
            size: np.stack([batch for _, _, batch in alike])
            for size, alike in itertools.groupby(batches, key=lambda each: each[0])
        }
        self._parts = [self._filled(batches) for batches in self.batches.values()]
        mesh = Mesh(np.array(self._devices), ("devices",))
        whole, split = PartitionSpec(), PartitionSpec("devices")  # type: ignore[no-untyped-call]
        self._whole = NamedSharding(mesh, whole)

        def losses(params: Params, arrays: Arrays, parts: list[jax.Array]) -> list[jax.Array]:
            return [jax.lax.map(lambda rows: loss(params, fetch(arrays, rows), None), part) for part in parts]

        self._losses = jax.jit(
            jax.shard_map(losses, mesh=mesh, in_specs=(whole, whole, split), out_specs=split, check_vma=False)
        )
        full = max(self.batches, default=1)
        weights_SxB = np.zeros((len(sets), len(batches)), np.float32)  # of a full batch 1, which changes no bit
        for place, (size, number, _) in enumerate(batches):
            weights_SxB[number, place] = size / full
        counts = [len(each) for each in self.batches.values()]

        def mean(losses: list[list[jax.Array]]) -> jax.Array:
            each = [jnp.concatenate(parts)[:count] for parts, count in zip(losses, counts, strict=True)]
            losses_B = jnp.concatenate([*each, jnp.zeros(0)])
            weighted_SxB = jnp.where(weights_SxB > 0, weights_SxB * losses_B[None], 0)
            means_S: jax.Array = weighted_SxB.sum(axis=1) / weights_SxB.sum(axis=1)
            return means_S

        self._mean = jax.jit(mean)

    def _filled(self, batches: np.ndarray) -> np.ndarray:
        """Returns batches, some repeated so that every device has as many."""
        return np.concatenate([batches, batches[:1].repeat(-len(batches) % len(self._devices), axis=0)])

    def __call__(self, params: Params) -> jax.Array:
        """Returns the mean loss of every set in nats, float32 (sets,).

        One device is not waited for. Several are, but for their last program: JAX starts a program on all of them only
        when its inputs are there.
        """
        losses = self._losses(jax.device_put(params, self._whole), self._arrays, self._parts)
        first = self._devices[0]
        found = [
            [jax.device_put(each.addressable_data(index), first) for index in range(len(self._devices))]
            for each in losses
        ]
        mean: jax.Array = self._mean(found)
        return mean


def batch_sizes(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Divides sets of examples into batches.

    Every size is a program to compile. All batches are of one size but for the rest of a set, which is one more batch,
    or, where that made more sizes than there are powers of two, some batches whose sizes are such.

    Args:
      lengths: number of examples of each set.
      most: examples of a batch.

    Returns:
      For each set the sizes of its batches, which add up to its length.
    """
    longest = max(lengths)
    full = -(-longest // -(-longest // most)) if longest else most
    powers = [1 << bit for bit in reversed(range(full.bit_length()))]
    few = len({length % full for length in lengths}) <= len(powers)

    def of_rest(rest: int) -> list[int]:
        return [rest] if few else [power for power in powers if rest & power]

    return [[full] * (length // full) + (of_rest(length % full) if length % full else []) for length in lengths]
