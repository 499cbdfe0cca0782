"""Setup of exchanges: fragments, compiled exchanges, and the servers of an experiment's places."""

import functools
from typing import Any, Protocol

import jax
import optax

from simulator.experiment import Experiment, registry
from simulator.experiment.schema.aggregation import (
    FoldAggregation,
    MeanAggregation,
    NamedAggregation,
    WeightedAggregation,
)
from simulator.experiment.schema.exchanges import RegionsTopology, StatisticalCompression
from simulator.experiment.schema.outer import NoLoCoOuter, Outer
from simulator.host.errors import SettingError
from simulator.host.nodes import SERVER, region_node
from simulator.learning.aggregation import aggregation_of
from simulator.learning.cache import Cache
from simulator.learning.exchange import Exchange
from simulator.learning.exchange_trial import try_exchange
from simulator.learning.fragments import Fragments, fragments_of
from simulator.learning.optimizers.outer import build_outer
from simulator.learning.round import Params
from simulator.learning.server import OuterPrograms, Server


class ModelSetup(Protocol):
    """Setup of an experiment, as far as exchanges need it; see `Setup`."""

    experiment: Experiment
    cache: Cache

    @property
    def params_like(self) -> Params:
        """Shapes and dtypes of the model's parameters."""

    @property
    def data_and_model(self) -> list[Any]:
        """Settings of data and model, by which what depends on them alone is cached."""

    def outer(self, params: Params | None) -> optax.GradientTransformationExtraArgs:
        """Returns the outer optimizer, tried on the shapes and dtypes of `params`."""


class ExchangeSetup:
    """All that an experiment exchanges with; every part is made when it is first used.

    Args:
      setup: of the experiment.
    """

    def __init__(self, setup: ModelSetup):
        self._setup, self._experiment = setup, setup.experiment

    @functools.cached_property
    def fragments(self) -> Fragments:
        """Division of the model.

        Raises:
          SettingError: the model cannot be divided into so many.
        """
        schedule = self._experiment.schedule
        try:
            return fragments_of(self._setup.params_like, schedule.fragments, schedule.composition)
        except ValueError as error:
            raise SettingError("schedule.fragments", schedule.fragments, str(error)) from error

    @property
    def shares(self) -> tuple[list[float], list[float]]:
        """Sizes of offers and answers, of each fragment as a share of a message with the model as it is."""
        experiment, compression, like = self._experiment, self._experiment.compression, self._setup.params_like
        parts = self.fragments.shares(like) if self.fragments.count > 1 else [1.0]
        full = 8 * (experiment.cluster.network.direction("up").bytes_per_parameter or 4.0)
        sent = compression.bits(full) / full + experiment.offer.weights
        offers = [sent * part for part in parts]
        if isinstance(compression, StatisticalCompression):
            model_bits = full * sum(leaf.size for leaf in jax.tree.leaves(like))
            for fragment in range(len(parts)):
                leaves = jax.tree.leaves(self.fragments.take(like, fragment))
                offers[fragment] += sum(compression.table_bits(leaf.shape) for leaf in leaves) / model_bits
        return offers, parts

    @functools.cached_property
    def exchange(self) -> Exchange:
        """Compiled functions of offers and answers.

        Raises:
          OptimizerError: the outer optimizer is not known, or has no momentum to look ahead with.
          PolicyError: something is not registered in this process, or refuses its settings.
        """
        experiment, outer = self._experiment, self._experiment.outer
        momentum = getattr(outer, "momentum", None)
        ahead = None if momentum is None else outer.learning_rate * momentum
        if isinstance(outer, NoLoCoOuter):
            ahead = outer.momentum  # what it keeps is a step, which has the learning rate in it
        sections = experiment.compression, experiment.merge, experiment.view
        settings = [*sections, experiment.offer, outer, *self._setup.data_and_model]

        def make() -> Exchange:
            return Exchange(*sections, self._setup.outer(self._setup.params_like), ahead, experiment.offer)

        return self._setup.cache.once("exchange", make, *settings)

    @property
    def nodes(self) -> list[int]:
        """Nodes that have places."""
        topology, workers = self._experiment.topology, self._experiment.cluster.workers
        if isinstance(topology, RegionsTopology):
            return [SERVER, *map(region_node, range(len(topology.members(self._experiment.cluster))))]
        return [SERVER] if topology.has_server else list(range(workers))

    @property
    def starts_together(self) -> bool:
        """Waiting of all workers for one server, so that those of a barrier start from one version."""
        return len(self.nodes) == 1 and self._experiment.schedule.waits and self._experiment.merge.kind == "overwrite"

    @property
    def evaluates_workers(self) -> bool:
        """Absence of a server with parameters, so that the mean of the workers' is evaluated."""
        return not self._experiment.topology.has_server or self._experiment.merge.has_outer

    @property
    def mix(self) -> float:
        """Share of the upper server's parameters when a region accepts them."""
        topology = self._experiment.topology
        return topology.mix if isinstance(topology, RegionsTopology) else 1.0

    def check(self) -> None:
        """Makes what can be refused; nothing is computed.

        Raises:
          SettingError: an outer optimizer, what is registered for a slot, or the division of the model does not fit.
        """
        topology, like = self._experiment.topology, self._setup.params_like
        if isinstance(topology, RegionsTopology):
            build_outer(topology.outer, like)
        try_exchange(self._experiment, self.exchange, self._setup.outer(like), self.fragments.take(like, 0))

    def server(self, node: int, part: Any) -> Server:
        """Returns the server of a place.

        Args:
          node: that has it.
          part: parameters of its fragment.

        Raises:
          OptimizerError: the outer optimizer is not known or does not take the given arguments.
          PolicyError: the aggregation is not registered in this process, or refuses its arguments.
        """
        experiment, topology = self._experiment, self._experiment.topology
        if node == SERVER and isinstance(topology, RegionsTopology):
            return Server(part, self._programs(topology.outer), reject=topology.outer.non_finite == "reject")
        aggregation: Any
        match experiment.aggregation:
            case MeanAggregation(kind=kind) | WeightedAggregation(kind=kind) | FoldAggregation(kind=kind):
                aggregation = kind
            case NamedAggregation() as named:
                aggregation = registry.build(named)
            case section:
                aggregation = aggregation_of(section, experiment.cluster.workers)
        return Server(
            part,
            self._programs(experiment.outer),
            reject=experiment.outer.non_finite == "reject",
            aggregation=aggregation,
            steps=not experiment.merge.has_outer,
        )

    def _programs(self, outer: Outer) -> OuterPrograms:
        setup = self._setup
        return setup.cache.once(
            "outer programs", lambda: OuterPrograms(build_outer(outer, setup.params_like)), outer, *setup.data_and_model
        )
