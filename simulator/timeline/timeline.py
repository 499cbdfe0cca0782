"""The simulated cluster in time: SimPy processes for servers and workers, and the events they cause."""

import math
from collections.abc import Iterator, Sequence

import simpy

from simulator.cluster import ClusterModel, Episodes, Nanoseconds, nanoseconds, seconds
from simulator.host.event_kinds import ABSENCES, FaultKind
from simulator.host.nodes import SERVER
from simulator.host.random_streams import numpy_stream
from simulator.timeline.causal_hash import CausalHash
from simulator.timeline.collectives import CollectiveServer, CollectiveWorker, OverlappingCollectiveWorker
from simulator.timeline.config import TimelineConfig
from simulator.timeline.deadlock import DeadlockDetector
from simulator.timeline.events import Arrival, Evaluation, Event, Fault, Finished, Lost, Round, Update
from simulator.timeline.links import Channel, SharedLinks
from simulator.timeline.message import Process
from simulator.timeline.overlapping_worker import OverlappingWorker
from simulator.timeline.peers import PeerServer, PeerWorker
from simulator.timeline.place import MeetingPlace
from simulator.timeline.policies.norm_test import Measurements, NeedsTrainingError
from simulator.timeline.regions import RegionServer, UpperServer
from simulator.timeline.server import ServerProcess
from simulator.timeline.worker import Worker


class Timeline:
    """Timeline of a simulation: iterating runs it and yields its events in causal order.

    SimPy orders the events and never sees an array: the iterating code may train the dispatched rounds, or nothing at
    all. `causal_hash` fingerprints the order in which versions are pulled, offers meet and evaluations are made: two
    timelines with the same hash train the same thing. Time is counted in whole nanoseconds.

    Attributes:
      env: the clock.
      cluster: durations of everything.
      config: settings.
      links: that messages share.
      down, up: links of the workers.
      workers: by number.
      servers: the one whose parameters are evaluated first.
      meetings: of peers, by worker; empty where there is a server.
      deadlock: detector of it.
      measured: choice of local steps by what has arrived, None where they do not depend on it.
      needs_training: whether durations depend on what is trained.
      measurements: of training, to be set before such a timeline runs; else None.
      updates: number of updates, over all places.
      local_steps: number of those that have arrived, over all workers.
      tokens: that these have trained on.
      offers: number of rounds that have arrived.
      under_way: number of rounds that workers are at, and of messages beside them.
      stalled: number of these that wait for something that never ends, or for an answer.
      stuck: workers with a message that stands still for good.
      waiting: workers whose last offer was processed and who have not been given a round since.

    Raises:
      NoProgressError: while iterating, nobody can make progress any more.
      NeedsTrainingError: while iterating, the timeline depends on training, and has no measurements.
    """

    def __init__(self, cluster: ClusterModel, config: TimelineConfig):
        if len(config.steps) != cluster.workers:
            raise ValueError(f"steps for {len(config.steps)} workers in a cluster of {cluster.workers}")
        self.env = env = simpy.Environment()
        self.cluster, self.config, self.shares = cluster, config, config.shares
        self.links = SharedLinks.of(env, cluster)
        self.down, self.up = (Channel(env, link, self.links) for link in (cluster.down, cluster.up))
        self.updates = self.local_steps = self.tokens = self.offers = self.under_way = self.stalled = 0
        self.waiting: set[int] = set()
        self.stuck: set[int] = set()
        self._events: list[Event] = []
        self._causal = CausalHash()
        self._end_ns: Nanoseconds | None = None  # when the budget was used up
        self._next_round = 0
        limits = config.budget_local_steps, config.budget_updates, config.budget_tokens, config.budget_offers
        self._limits = tuple(math.inf if limit is None else limit for limit in limits)
        self._next_evaluation = config.evaluate_every_steps or math.inf  # in local steps
        self._evaluated: tuple[Nanoseconds, int, int] | None = None  # time, updates and local steps of the last one
        self._begun: dict[int, None] = {}  # workers that have begun, whose parameters another one can take
        self._shards = config.shard_choice.new_choices([0] * config.shards, numpy_stream(cluster.seed, "shard choice"))
        self.measured = None if config.measured is None else config.measured.new_choices()
        self.needs_training = config.micro_batches.threshold is not None
        self.measurements: Measurements | None = None
        self._micro_batches: dict[int, int] = {}  # of local steps, by the node that gives them out; first as given
        self._batches = [0] * config.shards  # that were assigned of each shard

        self.meetings: list[PeerServer] = []
        self.workers: list[Worker] = []
        self.servers: list[ServerProcess] = self._populate()
        if cluster.faults is not None:
            env.process(self._tell(SERVER, cluster.faults.server, "server down", "server up"))
            for index in range(cluster.workers):
                env.process(self._tell(index, cluster.faults.slowdowns(index), "slow", "normal"))
                env.process(self._tell(index, cluster.faults.own_link(index), "disconnect", "reconnect"))
        self.deadlock = DeadlockDetector(self.workers)
        for server in self.servers:
            env.process(server.serve())
        if config.evaluate_every_s is not None:
            env.process(self._tick(nanoseconds(config.evaluate_every_s)))

    def _populate(self) -> list[ServerProcess]:
        """Makes workers and servers; returns the servers."""
        config, count = self.config, self.cluster.workers
        if config.peers is not None:
            self.meetings.extend(PeerServer(self, index, config.peers, self.meetings) for index in range(count))
            homes: list[ServerProcess] = list(self.meetings)
            servers: list[ServerProcess] = list(self.meetings)
        elif config.regions is not None:
            upper, of = UpperServer(self), config.regions.of
            regional = [
                RegionServer(
                    self,
                    region,
                    [worker for worker in range(count) if of[worker] == region],
                    config.synchronization,
                    upper,
                    config.regions.every_versions,
                )
                for region in range(config.regions.count)
            ]
            homes, servers = [regional[region] for region in of], [upper, *regional]
        else:
            kind = ServerProcess if self.cluster.collective is None else CollectiveServer
            servers = [kind(self, SERVER, range(count), config.synchronization)]
            homes = servers * count
        for index, home in enumerate(homes):
            worker = self._worker(index)
            worker.home = home
            self.workers.append(worker)
        return servers

    def _worker(self, index: int) -> Worker:
        if self.meetings:
            return PeerWorker(index, self)
        config, is_collective = self.config, self.cluster.collective is not None
        if config.schedule.waits:
            return CollectiveWorker(index, self) if is_collective else Worker(index, self)
        kind = OverlappingCollectiveWorker if is_collective else OverlappingWorker
        return kind(index, self, config.schedule, config.steps[index], is_eager=config.is_eager)

    @property
    def places(self) -> list[MeetingPlace]:
        """Places of all servers."""
        return [place for server in self.servers for place in server.places]

    @property
    def causal_hash(self) -> str:
        """Fingerprint of the events so far, hexadecimal."""
        return self._causal.hexdigest()

    @property
    def now_s(self) -> float:
        """Simulated time in seconds."""
        return seconds(self.env.now if self._end_ns is None else self._end_ns)

    @property
    def is_over(self) -> bool:
        """Use of the budget: whether it is over."""
        return self._end_ns is not None

    def __iter__(self) -> Iterator[Event]:
        """Runs the simulation to the end of its budget."""
        if self.needs_training and self.measurements is None:
            setting = f"inner.micro_batches.threshold = {self.config.micro_batches.threshold}"
            raise NeedsTrainingError(
                f"{setting}: times depend on what is trained, and nothing is: train, or leave it out"
            )
        deadline_ns = math.inf if self.config.budget_s is None else nanoseconds(self.config.budget_s)
        env, events = self.env, self._events
        while self._end_ns is None:
            if env.peek() > deadline_ns:
                self._finish(deadline_ns)
            else:
                env.step()
            if events:  # after each step, so that whoever iterates acts on an event before time goes by
                self._causal.add(events)
                yield from events
                events.clear()

    # What workers and servers tell.

    def emit(self, event: Event) -> None:
        """Queues an event to be yielded, and counts failures; what has arrived decides on later batches."""
        if self.needs_training and isinstance(event, Update):
            self._test(event)
        if isinstance(event, Lost):
            self.waiting.discard(event.round.worker)
            if event.cause == "message":  # else the absence is a fault of its own, which counts
                self.deadlock.failed(event.round.worker, event.cause, event.time_ns)
        elif isinstance(event, Fault) and event.kind in ABSENCES:
            self.waiting.discard(event.worker)
            self.deadlock.failed(event.worker, event.kind, event.time_ns)
        self._events.append(event)

    def _test(self, event: Update) -> None:
        """Takes the offers of a meeting into account in the micro-batches of what its node gives out from now on."""
        assert self.measurements is not None
        for arrival in event.arrivals:
            if isinstance(arrival, Arrival) and event.outcome != "dropped":
                noise_scale = self.measurements.noise_scale(arrival.round)
                before = self._micro_batches.get(event.node, self.config.micro_batches.start)
                self._micro_batches[event.node] = self.config.micro_batches.enough(before, noise_scale)

    def assign(self, worker: int, steps: int, fragment: int) -> Round:
        """Returns a worker's next round, on a shard that is chosen for it.

        Args:
          worker: its number.
          steps: of the round.
          fragment: that it offers at the end.
        """
        shard, first_step = self._shards.assign(worker, steps)
        pulls = () if self.config.pulls is None else self.config.pulls.of_round(first_step, steps)
        number, version, first_batch = self._next_round, self.updates, self._batches[shard]
        first = self.config.own_batches[worker] if self.config.own_batches else self.config.micro_batches.start
        count = self._micro_batches.get(self.workers[worker].home.node, first)
        round = Round(number, worker, shard, first_step, steps, version, fragment, pulls, count, first_batch)
        self._batches[shard] += steps * count
        self._next_round += 1
        self.waiting.discard(worker)
        return round

    def copied(self, worker: int, node: int) -> int:
        """Returns the node whose parameters a worker takes that begins anew.

        Args:
          worker: its number.
          node: its server; where that has no parameters, those of another worker that has some are taken, or its own.
        """
        if self.config.has_copy:
            return node
        others = (other for other in self._begun if other != worker and self.workers[other].holds_parameters)
        source = next(others, worker if worker in self._begun else node)
        self._begun[worker] = None
        return source

    def wake(self) -> None:
        """Wakes the servers: the condition that they wait for may have changed."""
        for server in self.servers:
            server.wake()

    def until(self, time_ns: Nanoseconds) -> Process:
        """Waits until a time, if it is yet to come."""
        if time_ns > self.env.now:
            yield self.env.timeout(time_ns - self.env.now)

    def is_still(self) -> bool:
        """Returns whether nothing is on its way to any server, and all of them are idle."""
        if self.under_way > self.stalled:  # asked again and again, also of thousands of servers
            return False
        return all(server.idle for server in self.servers) and self.deadlock.nothing_comes()

    def relent(self) -> bool:
        """Closes groups that wait for others in vain; returns whether there was any."""
        return sum(server.relent() for server in self.servers) > 0  # of all, not only up to the first

    # Budgets and evaluations.

    def count(self, rounds: Sequence[Round]) -> bool:
        """Counts rounds that have arrived, and returns whether an evaluation is due after them."""
        for round in rounds:
            self.waiting.add(round.worker)
            self.local_steps += round.steps
            self.tokens += round.steps * round.micro_batches * self.config.tokens_per_step
        self.offers += len(rounds)
        if self.local_steps < self._next_evaluation:
            return False
        every = self.config.evaluate_every_steps
        assert every is not None
        self._next_evaluation = (self.local_steps // every + 1) * every
        return True

    def end_if_spent(self) -> None:
        """Ends the simulation if a budget is used up."""
        steps, updates, tokens, offers = self._limits
        if self.local_steps >= steps or self.updates >= updates or self.tokens >= tokens or self.offers >= offers:
            self._finish(self.env.now)

    def mark_evaluation(self, time_ns: Nanoseconds | None = None) -> bool:
        """Returns whether there is anything to evaluate, now or at a time: the same state then is evaluated once."""
        state = (self.env.now if time_ns is None else time_ns, self.updates, self.local_steps)
        if state == self._evaluated:
            return False
        self._evaluated = state
        self.emit(Evaluation(*state))
        return True

    def _finish(self, time_ns: Nanoseconds) -> None:
        self._end_ns = time_ns
        self.mark_evaluation(time_ns)
        self.emit(Finished(time_ns, self.updates, self.local_steps, tuple(sorted(self.waiting))))

    def _tick(self, every_ns: Nanoseconds) -> Process:
        """Asks for an evaluation at every multiple of `every_ns`; several while the server is busy give one."""
        while True:
            yield self.env.timeout(every_ns)
            if self.meetings:  # each of which is a worker's own
                self.mark_evaluation()
            else:
                self.servers[0].evaluation_is_due = True
                self.servers[0].wake()

    def _tell(self, worker: int, episodes: Episodes, begins: FaultKind, ends: FaultKind) -> Process:
        """Emits the beginnings and ends of episodes, which only make things slower."""
        for episode in episodes:
            yield from self.until(episode.start_ns)
            self.emit(Fault(self.env.now, worker, begins, factor=episode.factor if begins == "slow" else math.nan))
            if episode.end_ns == math.inf:
                return
            yield from self.until(episode.end_ns)
            self.emit(Fault(self.env.now, worker, ends))
