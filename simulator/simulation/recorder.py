"""Recorder of a simulation while it runs, which notifies an observer of its progress."""

import math
import statistics
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, SupportsFloat

from simulator.cluster import ClusterModel, MessageShares, Nanoseconds, seconds
from simulator.experiment.schema.budget import Budget
from simulator.host.nodes import SERVER, region_node
from simulator.progress.observer import Observer, Progress
from simulator.record import (
    DIAGNOSTICS,
    EvaluationLog,
    FaultLog,
    RoundLog,
    TransferLog,
    UpdateLog,
    perplexity_of,
    shard_columns,
)
from simulator.simulation.trained import NonFiniteError, Trained, diagnostics_of, non_finite, non_finite_message
from simulator.timeline import (
    Accepted,
    Answered,
    Arrival,
    Evaluation,
    Fault,
    Finished,
    Lost,
    Offered,
    RegionOffer,
    Shortened,
    Update,
    own_arrivals,
)


class _Sent(NamedTuple):
    """Messages, or a part in a collective: times, number, and bytes of each."""

    begin_ns: Nanoseconds
    end_ns: Nanoseconds
    messages: int
    size: int


class Recorder:
    """Keeps the record. Reports of training are fetched one event late, so that the loop never waits for them.

    Attributes:
      rounds: processed so far, but for the last update's.
      evaluations: so far, but for the last.
      faults: so far.
      updates: offers processed so far, but for the last update's.
      transfers: messages that got through, as far as their effect is known.
      local_steps: of what was processed, over all workers.
      tokens: trained on in these.
      server_updates: the server's version.
      observer: notified of every update, if any.
    """

    def __init__(
        self,
        budget: Budget,
        cluster: ClusterModel,
        tokens_per_step: int,
        observer: Observer | None,
        shards: int = 0,
        *,
        fatal: bool = False,
        shares: MessageShares | None = None,
        waits: bool = True,
        noise_scales: Mapping[int, float] | None = None,
    ):
        """Starts a record.

        Args:
          budget: of the simulation.
          cluster: for the sizes of messages.
          tokens_per_step: in a local step of one batch.
          observer: notified of every update.
          shards: number of shards with losses of their own.
          fatal: whether a pseudo-gradient that is not finite ends the simulation.
          shares: sizes of messages; those of a whole model when None.
          waits: whether workers wait for the answers to their offers.
          noise_scales: that the timeline has read by the time of an update, by number of the round.
        """
        self.rounds, self.evaluations, self.faults = RoundLog(), EvaluationLog(shards), FaultLog()
        self.updates, self.transfers = UpdateLog(), TransferLog()
        self._fatal = fatal
        self._flags: list[int] = []  # 1 for each round that was not finite
        self._shards = shards
        self._budget = budget
        self._cluster, self._shares, self._waits = cluster, shares or MessageShares(), waits
        self._tokens_per_step = tokens_per_step
        self._noise_scales = {} if noise_scales is None else noise_scales  # grows meanwhile
        self.observer = observer
        self._late_update: tuple[Update, Trained | None] | None = None
        self._late_evaluation: tuple[dict[str, Any], SupportsFloat | None, Iterable[SupportsFloat] | None] | None = None
        self._sent = self._meetings = self._offers = 0
        self._offers_per_round = cluster.workers * len(self._shares.offers)
        self._homes: dict[int, int] = {}  # of each worker, the node that answers it
        self._train_loss = self._perplexity = math.nan
        self._evaluation: dict[str, Any] | None = None  # the last one that is known
        self.local_steps = self.tokens = self.server_updates = 0

    def update(self, event: Update, trained: Trained | None) -> None:
        """Records an update and training's report on it, None if nothing was trained.

        Raises:
          NonFiniteError: of the update before this one, where that is fatal.
        """
        self._settle_update()
        self._late_update = event, trained
        self._transferred(event)
        self.local_steps = event.local_steps
        rounds = [arrival.round for _, arrival in own_arrivals(event)]
        self.tokens += sum(round.steps * round.micro_batches for round in rounds) * self._tokens_per_step
        self._offers += len(rounds)
        self.server_updates = event.version
        if self.observer is not None:
            self.observer.advanced(self._progress(event))

    def evaluation(
        self, event: Evaluation, loss: SupportsFloat | None, shard_losses: Iterable[SupportsFloat] | None = None
    ) -> None:
        """Records an evaluation, its loss and those of the shards, None if nothing was trained."""
        self._settle_evaluation()
        row = {
            "simulated_s": seconds(event.time_ns),
            "local_steps": event.local_steps,
            "tokens": self.tokens,
            "server_updates": event.version,
            "bytes_sent": self._sent,
        }
        self._late_evaluation = row, loss, shard_losses

    def fault(self, event: Fault | Lost | Shortened) -> None:
        """Records a fault or its end."""
        match event:
            case Fault():
                self.faults.append(
                    time_s=seconds(event.time_ns), worker=event.worker, fault=event.kind, factor=event.factor
                )
            case Lost(round=round):
                down = event.pulls * self._cluster.down.size(1.0)
                up = event.pushes * self._cluster.up.size(self._shares.offers[round.fragment])
                self.faults.append(
                    time_s=seconds(event.time_ns),
                    worker=round.worker,
                    fault="lost",
                    round=round.id,
                    shard=round.shard,
                    first_step=round.first_step,
                    local_steps=round.steps,
                    computed_steps=event.computed,
                    pulled_version=round.version,
                    bytes_down=down,
                    bytes_up=up,
                )
            case Shortened(round=round):
                self.faults.append(
                    time_s=seconds(event.time_ns),
                    worker=round.worker,
                    fault="cut",
                    round=round.id,
                    shard=round.shard,
                    first_step=round.first_step + round.steps,
                    local_steps=event.given - round.steps,
                    pulled_version=round.version,
                )

    def exchange(self, event: Answered | Offered | Accepted) -> None:
        """Records the message of an answer that was accepted."""
        if not isinstance(event, Accepted) or event.round < 0 <= event.node:
            return
        size, source = self._regional_size if event.node < 0 else 0, SERVER
        if event.node >= 0:
            size = self._cluster.down.size(self._shares.answers[event.fragment])
            source = self._homes.get(event.node, SERVER)
        times = event.sent_ns, event.arrival_ns, event.time_ns
        self._transfer((source, event.node), event.fragment, event.round, times, event.version, event.messages, size)

    def _transferred(self, event: Update) -> None:
        """Records the messages of an update's offers, or their parts in its collective, and the pulls of rounds."""
        down, shares = self._cluster.down, self._shares
        for arrival, sent in zip(event.arrivals, self._sent_up(event), strict=True):
            if isinstance(arrival, RegionOffer):
                way, times = (region_node(arrival.region), event.node), (sent.begin_ns, sent.end_ns, event.time_ns)
                self._transfer(way, 0, -1, times, arrival.base, *sent[2:])
                continue
            round, worker = arrival.round, arrival.round.worker
            self._homes[worker] = event.node if event.node < 0 else worker
            if arrival.pulls:
                copied = -1 if len(shares.offers) > 1 else round.fragment
                times = arrival.pull_start_ns, arrival.compute_start_ns, arrival.compute_start_ns
                source = event.node if arrival.source == worker else arrival.source
                self._transfer((source, worker), copied, round.id, times, round.version, arrival.pulls, down.size(1.0))
            if worker != event.node and sent.messages:
                times = sent.begin_ns, sent.end_ns, event.time_ns
                self._transfer((worker, event.node), round.fragment, round.id, times, arrival.base, *sent[2:])

    def _sent_up(self, event: Update) -> list[_Sent]:
        """Returns what was sent for each offer of an update to come there; nothing of what was not."""
        if event.since_ns is None:
            return [self._sent_alone(event, arrival) for arrival in event.arrivals]
        collective = self._cluster.collective
        assert collective is not None
        size = self._cluster.up.size(self._shares.offers[event.fragment])
        members = list(dict.fromkeys(arrival.round.worker for _, arrival in own_arrivals(event)))
        left = dict(zip(members, collective.sent(members, size), strict=True))
        sizes = [left.pop(arrival.round.worker, 0) for _, arrival in own_arrivals(event)]  # the first of two has both
        return [_Sent(event.since_ns, event.time_ns, 1, size) for size in sizes]

    def _sent_alone(self, event: Update, arrival: Arrival | RegionOffer) -> _Sent:
        if isinstance(arrival, RegionOffer):
            return _Sent(arrival.sent_ns, arrival.arrival_ns, 1, self._regional_size)
        size, count = self._cluster.up.size(self._shares.offers[arrival.round.fragment]), arrival.pushes
        return _Sent(arrival.push_start_ns, arrival.arrival_ns, 1 if event.node >= 0 else count, size)

    @property
    def _regional_size(self) -> int:
        """Bytes of a message between servers."""
        assert self._cluster.regional is not None
        return self._cluster.regional.size(1.0)

    def _transfer(
        self,
        way: tuple[int, int],
        fragment: int,
        round: int,
        times_ns: tuple[Nanoseconds, Nanoseconds, Nanoseconds],
        version: int,
        messages: int,
        size: int,
    ) -> None:
        """Records messages from one node to another, and when they were sent, got through and had their effect."""
        begin_s, end_s, used_s = map(seconds, times_ns)
        self._sent += messages * size
        self.transfers.append(
            sender=way[0],
            receiver=way[1],
            fragment=fragment,
            round=round,
            begin_s=begin_s,
            end_s=end_s,
            used_s=used_s,
            version=version,
            messages=messages,
            bytes=messages * size,
        )

    def reported(self) -> tuple[list[float], list[int], list[list[float]], list[list[float]]]:
        """Returns all reports of training: losses and flags of rounds, losses of evaluations, diagnostics of offers.

        Waits for reports that are still on their way, and settles nothing: the record is the same with and without this
        call.
        """
        rounds = self.rounds.frame()["train_loss"].tolist()
        flags = list(self._flags)
        diagnostics = self.updates.frame()[list(DIAGNOSTICS)].to_numpy().tolist()
        if self._late_update is not None and self._late_update[1] is not None:
            event, trained = self._late_update
            assert trained is not None
            diagnostics += diagnostics_of(event, trained)
            late = non_finite(trained) if trained.losses else []
            for place, _ in own_arrivals(event):
                rounds.append(float(trained.losses[place]))
                flags.append(late[place])
        columns = ["loss", *shard_columns(self._shards)]
        evaluations = self.evaluations.frame()[columns].to_numpy().tolist()
        if self._late_evaluation is not None:
            _, loss, shard_losses = self._late_evaluation
            assert loss is not None
            of_shards = () if shard_losses is None else shard_losses
            evaluations.append([float(loss), *(float(each) for each in of_shards)])
        return rounds, flags, evaluations, diagnostics

    def finish(self, event: Finished) -> None:
        """Records the end, and fetches reports that are still on their way."""
        self._settle_update()
        self._settle_evaluation()
        self.rounds.finish(event.waiting)

    def _settle_update(self) -> None:
        if self._late_update is None:
            return
        event, trained = self._late_update
        self._late_update = None
        self._log_update(event, trained)
        own = own_arrivals(event)
        if not own:
            return
        flags = [0] * len(event.arrivals) if trained is None else non_finite(trained)
        if self._fatal and trained is not None and any(flags):
            culprits = [bool(finite) for finite in trained.finite]
            culprit = event.arrivals[culprits.index(min(culprits))]
            assert isinstance(culprit, Arrival)
            raise NonFiniteError(non_finite_message(event, culprit))
        losses = [math.nan if trained is None else float(trained.losses[place]) for place, _ in own]
        sent = self._sent_up(event)
        for (place, arrival), train_loss in zip(own, losses, strict=True):
            self._flags.append(flags[place])
            bytes_up = (arrival.pushes if event.since_ns is None else 1) * sent[place].size
            self._append(event, arrival, event.staleness[place], train_loss, flags[place], bytes_up)
        self._train_loss = statistics.fmean(losses)

    def _log_update(self, event: Update, trained: Trained | None) -> None:
        diagnostics = diagnostics_of(event, trained)
        for arrival, staleness, known in zip(event.arrivals, event.staleness, diagnostics, strict=True):
            if isinstance(arrival, RegionOffer):
                sender, number = region_node(arrival.region), -1
            else:
                sender, number = arrival.round.worker, arrival.round.id
            self.updates.append(
                update_s=seconds(event.time_ns),
                node=event.node,
                fragment=event.fragment,
                version=event.place_version,
                sender=sender,
                round=number,
                staleness=staleness,
                outcome=event.outcome,
                meeting=self._meetings,
                **dict(zip(DIAGNOSTICS, known, strict=True)),
            )
        self._meetings += 1

    def _append(
        self, event: Update, arrival: Arrival, staleness: int, train_loss: float, non_finite: int, bytes_up: int
    ) -> None:
        self.rounds.append(
            round=arrival.round.id,
            worker=arrival.round.worker,
            shard=arrival.round.shard,
            first_step=arrival.round.first_step,
            local_steps=arrival.round.steps,
            pulled_version=arrival.round.version,
            version=event.version,
            staleness=staleness,
            outcome=event.outcome,
            ready_s=seconds(arrival.ready_ns),
            pull_start_s=seconds(arrival.pull_start_ns),
            compute_start_s=seconds(arrival.compute_start_ns),
            push_start_s=seconds(arrival.push_start_ns),
            arrival_s=seconds(arrival.arrival_ns),
            update_s=seconds(event.time_ns),
            train_loss=train_loss,
            bytes_down=arrival.pulls * self._cluster.down.size(1.0),
            bytes_up=bytes_up,
            non_finite=non_finite,
            fragment=arrival.round.fragment,
            blocked_s=seconds(arrival.blocked_ns),
            goes_on=int(not self._waits),
            micro_batches=arrival.round.micro_batches,
            noise_scale=self._noise_scales.get(arrival.round.id, math.nan),
        )

    def _settle_evaluation(self) -> None:
        if self._late_evaluation is None:
            return
        row, loss, shard_losses = self._late_evaluation
        value = math.nan if loss is None else float(loss)
        self._perplexity = perplexity_of(value)
        of_shards = [math.nan] * self._shards if shard_losses is None else [float(each) for each in shard_losses]
        by_shard = dict(zip(shard_columns(self._shards), of_shards, strict=True))
        self._evaluation = {**row, "loss": value, "perplexity": self._perplexity, **by_shard}
        self.evaluations.append(**self._evaluation, train_loss=self._train_loss)
        self._late_evaluation = None

    def _progress(self, event: Update) -> Progress:
        done = (
            (event.local_steps, self._budget.local_steps),
            (self.tokens, self._budget.tokens),
            (self._offers / self._offers_per_round, self._budget.rounds),
            (seconds(event.time_ns), self._budget.simulated_time),
            (event.version, self._budget.server_updates),
        )
        return Progress(
            simulated_s=seconds(event.time_ns),
            local_steps=event.local_steps,
            tokens=self.tokens,
            server_updates=event.version,
            staleness=statistics.fmean(event.staleness),
            train_loss=self._train_loss,
            perplexity=self._perplexity,
            fraction=min(1.0, max(value / limit for value, limit in done if limit)),
            evaluation=self._evaluation,
        )
