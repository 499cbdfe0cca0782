"""Settings of a timeline."""

import dataclasses
from collections.abc import Callable

from simulator.cluster import MessageShares, Pulls
from simulator.experiment.schema.offer_schedule import Interval
from simulator.timeline.policies.local_steps import StepsChoice
from simulator.timeline.policies.norm_test import NormTest
from simulator.timeline.policies.shard_choice import ShardChoice
from simulator.timeline.policies.synchronization import SynchronizationPolicy
from simulator.timeline.schedule import Schedule

Peers = Callable[[int, int], tuple[int, ...]]
"""From a worker and the number of a meeting to the workers that meet at it, itself among them."""


@dataclasses.dataclass(frozen=True)
class Regions:
    """Regions of workers, each with a server of its own, under one upper server.

    Attributes:
      of: number of each worker's region.
      every_versions: updates of a region between what it last accepted from the upper server and its next offer.
      arrivals_per_update, drop_above: as those of a `TimelineConfig`, of the upper server.
    """

    of: tuple[int, ...]
    every_versions: int
    arrivals_per_update: int = 1
    drop_above: int | None = None

    @property
    def count(self) -> int:
        """Number of regions."""
        return max(self.of) + 1


@dataclasses.dataclass(frozen=True)
class TimelineConfig:
    """Settings that decide the order of events; none of them is an array of parameters.

    Attributes:
      synchronization: decides when groups restart.
      shard_choice: decides which shard a round trains on.
      steps: local steps per round of each worker.
      shards: number of data shards.
      arrivals_per_update: asynchronous arrivals that are averaged into one server update (FedBuff).
      drop_above: arrivals staler than this are dropped; None keeps all.
      budget_local_steps, budget_s, budget_updates, budget_tokens, budget_offers: the simulation ends with whichever
        comes first; None is no limit. Offers are those of rounds that arrived.
      tokens_per_step: of a local step with one micro-batch.
      evaluate_every_steps, evaluate_every_s: when to evaluate, besides at the start and at the end.
      evaluation_s: how long an evaluation keeps the server busy.
      measured: chooses steps anew for each round, by the speed at which workers' last ones were computed; None leaves
        them as they are.
      schedule: when workers offer and accept.
      interval: of workers that wait; None for H.
      regions: of the workers; None for one server.
      peers: that meet without a server; None for one server.
      shares: sizes of the messages.
      merges: whether a worker keeps something of its own when it is answered, instead of taking a copy.
      pulls: local steps that take no time; None without any.
      is_eager: whether a worker accepts for the first time before anything is answered, H steps before it would.
      micro_batches: of local steps.
      own_batches: micro-batches of each worker's local steps, where they are its own and never grow.
      has_copy: whether the server holds parameters that a worker can begin with; else they are another worker's.
    """

    synchronization: SynchronizationPolicy
    shard_choice: ShardChoice
    steps: list[int]
    shards: int
    arrivals_per_update: int = 1
    drop_above: int | None = None
    budget_local_steps: int | None = None
    budget_s: float | None = None
    budget_updates: int | None = None
    budget_tokens: int | None = None
    budget_offers: int | None = None
    tokens_per_step: int = 1
    evaluate_every_steps: int | None = None
    evaluate_every_s: float | None = None
    evaluation_s: float = 0.0
    measured: StepsChoice | None = None
    schedule: Schedule = dataclasses.field(default_factory=Schedule)
    interval: Interval | None = None
    regions: Regions | None = None
    peers: Peers | None = None
    shares: MessageShares = dataclasses.field(default_factory=MessageShares)
    merges: bool = False
    has_copy: bool = True
    is_eager: bool = False
    pulls: Pulls | None = None
    micro_batches: NormTest = dataclasses.field(default_factory=NormTest)
    own_batches: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        counts = self.budget_local_steps, self.budget_updates, self.budget_tokens, self.budget_offers
        if self.budget_s is None and all(count is None for count in counts):
            raise ValueError("a timeline without a budget would never end")
        if self.evaluate_every_s is not None and self.evaluation_s >= self.evaluate_every_s:
            raise ValueError(
                f"an evaluation of {self.evaluation_s} s every {self.evaluate_every_s} s leaves the server no time"
            )
