"""Faults of a cluster and their times: a function of the seed alone, whatever the cluster is doing at the time."""

import functools
import heapq
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from simulator.cluster.clock import Nanoseconds, nanoseconds, seconds
from simulator.cluster.episodes import Episode, Episodes, merged, piecewise, product
from simulator.experiment import SimulationError
from simulator.experiment.schema.fault_trace import TraceEvent
from simulator.experiment.schema.faults import (
    ConstantTime,
    ExponentialTime,
    Faults,
    LognormalTime,
    MessageLoss,
    RandomTime,
    UniformTime,
    WeibullTime,
)
from simulator.host.event_kinds import AbsenceKind
from simulator.host.random_streams import numpy_stream

_MOST_EPISODES = 100_000
_FIRST: tuple[AbsenceKind, ...] = ("late", "departure", "preemption", "crash")  # of what begins at one time


class Absence(NamedTuple):
    """An interval in which a worker is absent.

    Attributes:
      start_ns: its start.
      end_ns: its end; infinite if the worker never returns.
      kind: of the fault.
      notice_ns: when worker and server are notified; `start_ns` without notice.
      delivers: whether the round's finished steps are sent afterwards.
    """

    start_ns: Nanoseconds
    end_ns: Nanoseconds
    kind: AbsenceKind
    notice_ns: Nanoseconds
    delivers: bool = False

    @property
    def announced(self) -> bool:
        """Returns whether the server knows of the absence when it begins."""
        return self.kind in ("departure", "late") or self.notice_ns < self.start_ns


class FaultModel:
    """Faults of a cluster.

    Attributes:
      loss: of messages, None if none are lost.
      forgets: whether a worker that goes away loses its inner optimizer state.
      server: outages of the server.
      slowdowns: worker to the episodes in which it computes slower.
      own_link: worker to the outages of its own link.
      link: worker to the outages of its own link or the server.
    """

    def __init__(self, faults: Faults, seed: int):
        self.loss: MessageLoss | None = faults.message_loss
        self.forgets = faults.inner_state == "reset"
        self._faults, self._seed = faults, seed
        self._trace: dict[Any, list[TraceEvent]] = defaultdict(list)
        for event in faults.trace or ():
            self._trace[event.worker].append(event)
        self.server = Episodes(merged([self._spans("server_outages", 0), self._traced("server", "down", "up")]))
        self.slowdowns = functools.cache(self._slowdowns)
        self.own_link, self.link = functools.cache(self._own_link), functools.cache(self._link)

    def loss_stream(self, worker: int) -> np.random.Generator:
        """Returns the stream of a worker's lost messages, two numbers for each of its rounds: pull and push."""
        return numpy_stream(self._seed, "message loss", worker)

    def answer_loss_stream(self, worker: int) -> np.random.Generator:
        """Returns the stream of the lost answers to a worker that goes on meanwhile, one number for each answer."""
        return numpy_stream(self._seed, "answer loss", worker)

    def losses(self, random: np.random.Generator | None) -> int:
        """Returns the number of times in a row that a message is lost; that of all attempts when it never arrives."""
        if self.loss is None or random is None:
            return 0
        return int(min(math.log1p(-random.random()) / math.log(self.loss.probability), self.loss.attempts))

    def absences(self, worker: int) -> Iterator[Absence]:
        """Yields a worker's absences in order, none of which touches the one before it."""
        sources = self._absence_sources(worker)
        return _one_at_a_time(heapq.merge(*sources, key=lambda absence: (absence.start_ns, _FIRST.index(absence.kind))))

    def _absence_sources(self, worker: int) -> Iterator[Iterable[Absence]]:
        faults = self._faults
        yield self._traced_absences(worker)
        if faults.joins is not None and faults.joins[worker] > 0:
            yield [Absence(0, nanoseconds(faults.joins[worker]), "late", 0)]
        delivers = faults.crashes is not None and faults.crashes.in_flight == "delivered"
        spans = self._spans("crashes", worker, "repair")
        yield (Absence(start_ns, end_ns, "crash", start_ns, delivers) for start_ns, end_ns, _ in spans)
        notice_ns = nanoseconds(faults.preemption.notice) if faults.preemption else 0
        spans = self._spans("preemption", worker, "absence")
        yield (Absence(start_ns, end_ns, "preemption", max(start_ns - notice_ns, 0)) for start_ns, end_ns, _ in spans)
        departures = faults.departures
        if departures is not None and _concerns(departures, worker):
            start_ns = nanoseconds(draw(departures.after, numpy_stream(self._seed, "departures", worker)))
            yield [Absence(start_ns, math.inf, "departure", start_ns)] if start_ns < math.inf else []

    def _slowdowns(self, worker: int) -> Episodes:
        factor = self._faults.slowdowns.factor if self._faults.slowdowns else 1.0
        random = (each._replace(factor=factor) for each in self._spans("slowdowns", worker))
        return Episodes(product([self._traced_slowdowns(worker), random]))

    def _own_link(self, worker: int) -> Episodes:
        return Episodes(merged([self._spans("link_outages", worker), self._traced(worker, "disconnect", "reconnect")]))

    def _link(self, worker: int) -> Episodes:
        return Episodes(merged([self.own_link(worker), self.server]))

    def _spans(self, kind: str, worker: int, lasts: str = "duration") -> Iterator[Episode]:
        """Returns the random standstills of one kind of fault of a worker; `lasts` is the setting of their length."""
        section = getattr(self._faults, kind)
        if section is None or not _concerns(section, worker):
            return iter(())
        random = numpy_stream(self._seed, kind.replace("_", " "), worker)
        return _renewals(section.time_between, getattr(section, lasts), random)

    def _traced(self, who: int | str, begins: str, ends: str) -> Iterator[Episode]:
        """Returns the standstills between a trace's begin and end events; an unfinished one lasts forever."""
        times_ns = [nanoseconds(event.time) for event in self._trace.get(who, ()) if event.event in (begins, ends)]
        return itertools.starmap(Episode, itertools.zip_longest(times_ns[::2], times_ns[1::2], fillvalue=math.inf))

    def _traced_slowdowns(self, worker: int) -> Iterator[Episode]:
        events = self._trace.get(worker, ())
        return piecewise((event.time, event.factor) for event in events if event.event in ("slow", "normal"))

    def _traced_absences(self, worker: int) -> Iterator[Absence]:
        kinds: dict[str, AbsenceKind] = {"crash": "crash", "preempt": "preemption", "leave": "departure"}
        gone: Absence | None = None
        notice_ns: Nanoseconds | None = None
        events = [event for event in self._trace.get(worker, ()) if event.event in (*kinds, "notice", "join")]
        if events and events[0].event == "join" and events[0].time > 0:
            gone = Absence(0, math.inf, "late", 0)
        for event in events:
            time_ns = nanoseconds(event.time)
            if event.event == "notice":
                notice_ns = time_ns
            elif event.event != "join":
                told_ns = time_ns if notice_ns is None else notice_ns
                gone = Absence(time_ns, math.inf, kinds[event.event], told_ns)
                notice_ns = None
            elif gone is not None:
                yield gone._replace(end_ns=time_ns)
                gone = None
        if gone is not None:
            yield gone


def _concerns(section: Any, worker: int) -> bool:
    chosen = getattr(section, "workers", None)
    return chosen is None or worker in chosen


def draw(time: RandomTime, random: np.random.Generator) -> float:
    """Returns a random time in seconds."""
    match time:
        case ExponentialTime(mean=mean):
            return mean * float(random.exponential())
        case WeibullTime(mean=mean, shape=shape):
            return mean / math.gamma(1 + 1 / shape) * float(random.weibull(shape))
        case LognormalTime(median=median, sigma=sigma):
            return median * math.exp(sigma * float(random.standard_normal()))
        case UniformTime(low=low, high=high):
            return float(random.uniform(low, high))
        case ConstantTime(value=value):
            return value
        case mean:
            return float(mean) * float(random.exponential())  # a bare duration


def _renewals(between: RandomTime, lasts: RandomTime, random: np.random.Generator) -> Iterator[Episode]:
    now_ns: Nanoseconds = 0
    while now_ns < math.inf:
        start_ns = now_ns + max(nanoseconds(draw(between, random)), 1)
        if start_ns == math.inf:
            return
        now_ns = start_ns + max(nanoseconds(draw(lasts, random)), 1)
        yield Episode(start_ns, now_ns)


def _one_at_a_time(absences: Iterator[Absence]) -> Iterator[Absence]:
    """Yields absences that do not touch: one that begins during another extends it.

    Finished steps are delivered afterwards only if each of them delivers. A notice that would come before the end of
    another absence is given when the worker is back.
    """
    current, merged = next(absences, None), 0
    while current is not None:
        following = next(absences, None) if current.end_ns < math.inf else None
        if following is not None and following.start_ns <= current.end_ns:
            merged += 1
            if merged > _MOST_EPISODES:
                raise SimulationError(
                    f"cluster.faults: a worker that goes away at {seconds(current.start_ns):g} s is not back by "
                    f"{seconds(current.end_ns):g} s, after {merged:,} absences that overlap: let it be there longer"
                )
            delivers = current.delivers and following.delivers
            current = current._replace(end_ns=max(current.end_ns, following.end_ns), delivers=delivers)
            continue
        yield current
        merged = 0
        if following is not None:
            following = following._replace(notice_ns=max(following.notice_ns, current.end_ns))
        current = following
