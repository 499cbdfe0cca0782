"""A record under verification, and violations of its rules."""

import bisect
import functools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from simulator.cluster import (
    ClusterModel,
    FaultModel,
    MessageShares,
    Nanoseconds,
    OfferedFragments,
    Pulls,
    build_cluster,
    nanoseconds,
    offered_fragments,
)
from simulator.experiment import Experiment
from simulator.experiment.schema.collectives import AllReduceTopology
from simulator.experiment.schema.described_model import DescribedModel
from simulator.experiment.schema.exchanges import RegionsTopology
from simulator.experiment.schema.policies import BarrierSynchronization, NamedSynchronization
from simulator.host.errors import SettingError
from simulator.host.nodes import SERVER, region_node
from simulator.record import RunRecord
from simulator.verify.chains import Chain, chains_of
from simulator.verify.meetings import MeetingTable, MessageKind, MessageTable, Transfer


@dataclass(frozen=True)
class Violation:
    """A rule that does not hold.

    Attributes:
      table: "rounds", "updates", "transfers", "evaluations", "faults" or "summary".
      row: which one of the table, counted from 0; None in the summary.
      rule: its name.
      message: the value, and the right one.
    """

    table: str
    row: int | None
    rule: str
    message: str

    def __str__(self) -> str:
        """Returns one line."""
        place = self.table if self.row is None else f"{self.table}, row {self.row}"
        return f"{place}: {self.rule}: {self.message}"


def violations(table: str, rule: str, wrong: npt.NDArray[Any], message: Callable[[int], str]) -> Iterator[Violation]:
    """Yields a violation for each row that is wrong."""
    for row in np.flatnonzero(wrong).tolist():
        yield Violation(table, row, rule, message(row))


def in_ns(time_s: float) -> Nanoseconds:
    """Returns a record's time in whole nanoseconds; infinity and NaN stay as they are."""
    return round(time_s * 1e9) if math.isfinite(time_s) else time_s


class Cost(NamedTuple):
    """Expected cost of a round.

    Attributes:
      compute_ns: its steps at full speed, with those that were cut off.
      steps: as many.
      lost_pulls, lost_pushes: messages.
      factor: how many times as long as usual it computes, by its jitter.
      fill_ns: of compute_ns, the time in which a pipeline is filled before the steps.
      parts: of the steps, between which answers are accepted.
    """

    compute_ns: Nanoseconds
    steps: int
    lost_pulls: int
    lost_pushes: int
    factor: float
    fill_ns: Nanoseconds
    parts: int

    def share_ns(self, parts: int) -> Nanoseconds:
        """Returns the time of its first parts at full speed."""
        if parts in (0, self.parts):
            return self.compute_ns if parts else 0
        return self.fill_ns + parts * (self.compute_ns - self.fill_ns) // self.parts


class CheckedRun:
    """A record and the expectations that follow from its experiment.

    Attributes:
      rounds, evaluations, faults, updates, transfers, summary: of the record.
      experiment: the record's.
      own_policy: whether the synchronization is not built in.
      goes_on: whether workers go on while their offers are on their way.
      homes: node of each worker's own place.
      length_s: of the simulation.
      eps_s: tolerance of equal times: less than a nanosecond, but for the rounding of times that are months long.
      lost, cut: the faults' rows of rounds that never arrived, and of those that were cut off.
    """

    def __init__(self, record: RunRecord, experiment: Experiment):
        defaults = {"fragment": 0, "blocked_s": 0, "goes_on": 0, "micro_batches": 1, "noise_scale": math.nan}
        absent = {name: value for name, value in defaults.items() if name not in record.rounds}
        self.rounds = record.rounds.assign(**absent) if absent else record.rounds
        self.evaluations, self.summary = record.evaluations, record.summary
        self.faults, self.updates, self.transfers = record.faults, record.updates, record.transfers
        self.experiment = experiment
        self.own_policy = isinstance(experiment.synchronization, NamedSynchronization)
        self.goes_on = not experiment.schedule.waits
        self.homes = _homes(experiment)
        self.length_s = float(record.summary["simulated_seconds"])
        self.eps_s = max(0.5e-9, 4 * float(np.spacing(self.length_s)))
        self.lost = self.faults[self.faults["fault"] == "lost"]
        self.cut = self.faults[self.faults["fault"] == "cut"]

    @property
    def is_calm(self) -> bool:
        """Absence of faults: whether nothing can go wrong."""
        return self.experiment.cluster.faults is None

    @property
    def collects(self) -> bool:
        """Kind of meetings: whether offers come together by collectives, and not by messages of their own."""
        return isinstance(self.experiment.topology, AllReduceTopology)

    @property
    def averages(self) -> bool:
        """Kind of meetings: whether one can have several offers."""
        if self.own_policy:
            return bool(self.updates["meeting"].duplicated().any())
        return self.experiment.synchronization.averages_group

    @property
    def complete(self) -> bool:
        """Completeness: whether every meeting has an offer of every member."""
        synchronization = self.experiment.synchronization
        waits = isinstance(synchronization, BarrierSynchronization) and math.isinf(synchronization.timeout)
        return waits and self.is_calm

    @functools.cached_property
    def meetings(self) -> MeetingTable:
        """Meetings of the places."""
        return MeetingTable(self.updates)

    @functools.cached_property
    def messages(self) -> MessageTable:
        """Messages of offers and answers."""
        return MessageTable(self.transfers, self.updates, self.meetings)

    def sent(self) -> Iterator[tuple[Transfer, MessageKind, int]]:
        """Yields each row of transfers, what it is, and the row of updates that it belongs to."""
        messages = self.messages
        return zip(messages.transfers, messages.kinds, messages.updates, strict=True)

    def is_collective(self, kind: MessageKind, update: int) -> bool:
        """Returns whether a row of transfers is a part in a collective, or its result, and no message of its own."""
        return self.collects and kind in ("offer", "answer") and self.offers[update]["outcome"] != "dropped"

    @functools.cached_property
    def own(self) -> npt.NDArray[np.int64]:
        """The row of updates of each round at its worker's own place, -1 where there is none; shape (rounds,)."""
        senders, found = self.updates["sender"].tolist(), []
        for number, worker in zip(self.column("round").tolist(), self.column("worker").tolist(), strict=True):
            row = self.meetings.row_of.get((self.home(worker), number), -1)
            found.append(row if row >= 0 and senders[row] == worker else -1)
        return np.array(found, np.int64)

    @functools.cached_property
    def tasks(self) -> list[dict[Any, Any]]:
        """Rounds, as mappings of their columns."""
        return self.rounds.to_dict("records")

    @functools.cached_property
    def offers(self) -> list[dict[Any, Any]]:
        """Updates, likewise."""
        return self.updates.to_dict("records")

    @functools.cached_property
    def row_of(self) -> dict[int, int]:
        """Rows of the rounds, by number."""
        return {number: row for row, number in reversed(list(enumerate(self.column("round").tolist())))}

    @functools.cached_property
    def chains(self) -> list[Chain]:
        """Rounds of workers that go on by themselves."""
        return chains_of(self.rounds, self.eps_s, begins_alike=self.collects) if self.goes_on else []

    @functools.cached_property
    def fragments(self) -> OfferedFragments:
        """Fragments, in the order in which workers offer them."""
        return offered_fragments(self.experiment.schedule, self.experiment.inner.local_steps)

    def offered_at(self, offer: int) -> int:
        """Returns the parts of steps after which a worker makes its n-th offer, with layers; 0 for the one before."""
        layers, place = self.fragments.layers, offer % len(self.fragments.order)
        assert layers is not None
        return 0 if offer < 0 else (self._steps_by(offer) - 1) * layers.parts + layers.done(place)

    def accepted_at(self, offer: int) -> int:
        """Returns the parts of steps after which a worker accepts the answer to its n-th offer, with layers."""
        layers, place = self.fragments.layers, offer % len(self.fragments.order)
        assert layers is not None
        return (self._steps_by(offer) + self.experiment.schedule.overlap) * layers.parts + layers.needed(place)

    def _steps_by(self, offer: int) -> int:
        """Returns the local steps of a worker up to that in which it makes its n-th offer."""
        period, place = divmod(offer, len(self.fragments.order))
        return self.experiment.inner.local_steps * (1 + period) + self.fragments.offsets[place]

    @functools.cached_property
    def staleness(self) -> npt.NDArray[np.float64]:
        """Staleness of each offer by what its sender had last accepted, NaN where that is unknown; shape (updates,)."""
        bases = np.full(len(self.updates), np.nan)
        known = [(own, row) for row, own in enumerate(self.own.tolist()) if own >= 0]
        if self.goes_on:
            accepted = {row: base for chain in self.chains for row, base in self._accepted(chain)}
            for own, row in known:
                bases[own] = accepted.get(row, math.nan)
        else:
            pulled = zip(self.column("worker").tolist(), self.column("pulled_version").tolist(), strict=True)
            versions = [self.meetings.version_of(self.home(worker), 0, total) for worker, total in pulled]
            for own, row in known:
                bases[own] = versions[row]
        answered: dict[int, float] = {}  # versions of the upper server that regions have accepted
        for sent, kind, update in self.sent():
            if kind == "region's offer":
                bases[update] = answered.get(sent.sender, 0)
            elif kind == "region's answer":
                answered[sent.receiver] = sent.version
        stale: npt.NDArray[np.float64] = self.meetings.before - bases
        among_peers = (self.updates["node"] >= 0) & (self.updates["node"] != self.updates["sender"])
        stale[among_peers.to_numpy()] = 0  # all offers of a meeting are of one turn
        return stale

    def _accepted(self, chain: Chain) -> Iterator[tuple[int, float]]:
        """Yields the row of each round of a chain, and the version that was last accepted of its place by its end."""
        rows = [self.messages.answers[task["round"]] for task in chain.tasks if task["round"] in self.messages.answers]
        sent = [self.messages.transfers[row] for row in rows]
        answers, heard = sorted((each.used_s, each.fragment, each.version) for each in sent), 0
        versions: dict[int, float] = {}
        if chain.is_whole:
            total, home = chain.tasks[0]["pulled_version"], self.home(chain.worker)
            fragments = range(self.experiment.schedule.fragments)
            versions = {fragment: self.meetings.version_of(home, fragment, total) for fragment in fragments}
        for row, task in zip(chain.rows, chain.tasks, strict=True):
            while heard < len(answers) and answers[heard][0] < task["push_start_s"]:
                versions[answers[heard][1]] = answers[heard][2]
                heard += 1
            yield row, versions.get(task["fragment"], math.nan)

    def home(self, worker: int) -> int:
        """Returns the node of a worker's own place; the server where there is no such worker."""
        return self.homes[worker] if 0 <= worker < len(self.homes) else -1

    def column(self, name: str) -> npt.NDArray[Any]:
        """Returns a column of the rounds."""
        return self.rounds[name].to_numpy()

    @functools.cached_property
    def shares(self) -> MessageShares:
        """Sizes of messages, as shares of the model's; whole models where the record does not have them."""
        known, count = self.summary.get("message_shares"), self.experiment.schedule.fragments
        whole = (1.0,) * count
        if not isinstance(known, Mapping):
            return MessageShares(whole, whole)
        offers, answers = (tuple(known.get(name, ()))[:count] for name in ("offers", "answers"))
        return MessageShares(offers + whole[len(offers) :], answers + whole[len(answers) :])

    def offered(self, fragment: int) -> float:
        """Returns the share of the model's size that an offer of a fragment has."""
        return self.shares.offers[fragment if 0 <= fragment < len(self.shares.offers) else 0]

    def answered(self, fragment: int) -> float:
        """Returns the share of the model's size that an answer with a fragment has."""
        return self.shares.answers[fragment if 0 <= fragment < len(self.shares.answers) else 0]

    @functools.cached_property
    def fault_model(self) -> FaultModel | None:
        """Faults of the cluster, None without any."""
        section = self.experiment.cluster.faults
        if self.network is not None:
            return self.network.faults
        return None if section is None else FaultModel(section, self.experiment.seed)

    @functools.cached_property
    def network(self) -> ClusterModel | None:
        """The cluster's costs; those of computing are unknown, NaN, where they depend on the model's sizes."""
        model = self.experiment.model
        described = model if isinstance(model, DescribedModel) else None
        try:
            return build_cluster(
                self.experiment.cluster,
                parameters=int(self.summary["parameters"]),
                flops_per_step=described.flops(self.experiment.inner.micro_batch) if described else math.nan,
                seed=self.experiment.seed,
                topology=self.experiment.topology,
                inner=self.experiment.inner,
                relative_to_s=described.step if described else None,
            )
        except SettingError:
            return None

    @functools.cached_property
    def cluster(self) -> ClusterModel | None:
        """The cluster's costs, None where those of computing are unknown."""
        network = self.network
        return network if network is not None and np.isfinite(network.step_s).all() else None

    @functools.cached_property
    def gone(self) -> list[int]:
        """Numbers of rounds that were given out, and neither arrived nor were lost."""
        known = {*self.column("round").tolist(), *self.lost["round"].tolist()}
        return sorted(set(range(max(known, default=-1) + 1)) - known)

    def is_gone_between(self, first: int, last: int) -> bool:
        """Returns whether a round with a number between two others neither arrived nor was lost."""
        return bisect.bisect_right(self.gone, first) < bisect.bisect_left(self.gone, last)

    @functools.cached_property
    def cut_steps(self) -> Counter[int]:
        """Steps that were cut off, by number of the round."""
        steps = Counter[int]()
        for number, cut in zip(self.cut["round"].tolist(), self.cut["local_steps"].tolist(), strict=True):
            steps[number] += cut
        return steps

    @functools.cached_property
    def costs(self) -> dict[int, Cost]:
        """Expected costs of rounds, by number: a worker's random numbers are used in the order of its rounds."""
        cluster = self.cluster
        if cluster is None:
            return {}
        columns = ["round", "worker", "local_steps", "first_step"]
        coins = Pulls.of(self.experiment)
        timed, inner = [*columns, "ready_s", "push_start_s", "micro_batches"], self.experiment.inner
        lost = self.lost[columns].assign(micro_batches=self.lost["worker"].map(inner.first_micro_batches))
        tasks = pd.concat([self.rounds[timed], lost]).sort_values("round", kind="stable")
        tasks = tasks[tasks["worker"].between(0, cluster.workers - 1)]
        faults, workers = cluster.faults, range(cluster.workers)
        is_random = bool(cluster.jitter or (faults and faults.loss))
        never_missing = self.experiment.topology.has_server and not self.goes_on
        jitter = [cluster.jitter_stream(worker) if cluster.jitter else None for worker in workers]
        losses = [faults.loss_stream(worker) if faults and faults.loss else None for worker in workers]
        last = [(-1, 0.0)] * cluster.workers  # number and end of each worker's last round
        made = Counter[int]()  # rounds of each worker
        unknown: set[int] = set()  # workers of whose rounds one is missing, and with it its random numbers
        costs = {}
        for number, worker, left, first, ready_s, end_s, batches in tasks.itertuples(index=False):
            follows = never_missing or abs(ready_s - last[worker][1]) <= self.eps_s
            if is_random and not follows and self.is_gone_between(last[worker][0], number):
                unknown.add(worker)
            is_first = last[worker][0] < 0
            last[worker] = number, end_s
            if worker in unknown:
                continue
            steps = int(left + self.cut_steps[number])
            factor = cluster.jitter_factor(jitter[worker])
            parts, of_step = steps, 1
            if self.fragments.layers is not None:
                parts, of_step = (
                    self.offered_at(made[worker]) - self.offered_at(made[worker] - 1),
                    self.fragments.layers.parts,
                )
            made[worker] += 1
            timed_steps = parts / of_step - (0 if coins is None else len(coins.of_round(int(first), steps)))
            fill_ns = nanoseconds(cluster.filling_s(worker, factor, is_first=is_first))
            compute_ns = fill_ns + nanoseconds(cluster.compute_s(worker, timed_steps, factor, batches))
            pulls, pushes = (faults.losses(losses[worker]) if faults else 0 for _ in range(2))
            costs[number] = Cost(compute_ns, steps, pulls, pushes, factor, fill_ns, parts)
        return costs


def _homes(experiment: Experiment) -> list[int]:
    topology, workers = experiment.topology, experiment.cluster.workers
    if isinstance(topology, RegionsTopology):
        of = {
            worker: region_node(region)
            for region, members in enumerate(topology.members(experiment.cluster))
            for worker in members
        }
        return [of[worker] for worker in range(workers)]
    return [SERVER] * workers if topology.has_server else list(range(workers))
