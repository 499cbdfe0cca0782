"""Rules of durations and messages: they are those of the experiment's cluster."""

import bisect
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from simulator.cluster import ClusterModel, FaultModel, Nanoseconds, nanoseconds, seconds
from simulator.experiment.schema.pipeline import AsynchronousStages
from simulator.verify.checked_run import CheckedRun, Cost, Violation, in_ns
from simulator.verify.link_rules import Leg, share_of, way_of


def _durations_are_the_clusters(run: CheckedRun) -> Iterator[Violation]:
    cluster, expected = run.cluster, run.costs
    if cluster is None:  # by FLOP/s, or links of a pipeline: every step of a worker takes as long as any other
        yield from _steps_take_one_time(run)
        return
    crashes = _times(run, "crash")
    for row, task in enumerate(run.tasks):
        cost = expected.get(task["round"])
        if cost is None:
            continue
        resent = _between(crashes.get(task["worker"], ()), task["push_start_s"], task["arrival_s"])
        mistakes = [
            None if run.goes_on else _computing(task, cost, cluster, run.eps_s),
            _pulling(run, cluster, task, cost),
            _pushing(run, cluster, task, cost, again=resent > 0),
        ]
        for message in filter(None, mistakes):
            yield Violation("rounds", row, "durations", message)
        if run.experiment.topology.has_server and not run.collects:
            yield from _messages(run, cluster, row, cost, resent)


def _steps_take_one_time(run: CheckedRun) -> Iterator[Violation]:
    faults = run.experiment.cluster.faults
    changes = faults and (faults.slowdowns or faults.trace)
    inner = run.experiment.inner
    unlike = inner.pull is not None or isinstance(inner.stages, AsynchronousStages) or run.fragments.layers is not None
    if run.experiment.cluster.devices.jitter > 0 or changes or unlike:
        return
    whole = ~run.rounds["round"].isin(run.cut["round"])
    rounds = run.rounds[whole]
    compute_s = rounds["push_start_s"] - rounds["compute_start_s"] - rounds["blocked_s"]
    times = rounds["local_steps"]
    if run.network is not None:
        batches = zip(rounds["worker"], rounds["micro_batches"], strict=True)
        times = times * [run.network.step_factor(*each) for each in batches]
    step_s = compute_s / times
    typical = step_s.groupby(rounds["worker"]).transform("median")
    of_shortest = times / times.groupby(rounds["worker"]).transform("min")  # which was rounded as much as this one
    wrong = (step_s - typical).abs() * times > run.eps_s * (1 + of_shortest)
    for row in rounds.index[wrong].tolist():
        yield Violation("rounds", row, "durations", "its steps took another time")


def _computing(task: Mapping[Any, Any], cost: Cost, cluster: ClusterModel, eps_s: float) -> str | None:
    """Returns the mistake in the time that a round computed, if any."""
    start_s, end_s, worker = task["compute_start_s"], task["push_start_s"], task["worker"]
    should_ns = cost.compute_ns
    pace = cluster.pace(worker)
    if pace is not None:
        if task["local_steps"] < cost.steps:  # cut off
            done = pace.work_ns(in_ns(start_s), in_ns(end_s)) / cost.compute_ns * cost.steps
            fits = task["local_steps"] in (math.floor(done - 1e-6), math.floor(done + 1e-6))
            return None if fits else f"{done:g} steps were done when the round was cut off"
        should_ns = pace.finished_ns(in_ns(start_s), cost.compute_ns) - in_ns(start_s)
    if not abs(end_s - start_s - seconds(should_ns)) <= eps_s:
        return f"compute took {end_s - start_s} s and should take {seconds(should_ns)} s"
    return None


def _pulling(run: CheckedRun, cluster: ClusterModel, task: Mapping[Any, Any], cost: Cost) -> str | None:
    """Returns the mistake in the time in which a round pulls a copy of the model, if any."""
    took_s = task["compute_start_s"] - task["pull_start_s"]
    if task["bytes_down"] > 0:
        way = [Leg(cluster.down, task["worker"], task["worker"])]
        return _taking(run, "pull", way, task["pull_start_s"], took_s, cost.lost_pulls, 1.0)
    is_nothing = not (run.goes_on or run.collects)
    return f"it began to compute {took_s} s after nothing" if is_nothing and took_s else None


def _pushing(run: CheckedRun, cluster: ClusterModel, task: Mapping[Any, Any], cost: Cost, *, again: bool) -> str | None:
    """Returns the mistake in the time in which an offer comes to its worker's own place, if any."""
    took_s = task["arrival_s"] - task["push_start_s"]
    if not run.experiment.topology.has_server or run.collects:  # a worker's own place is where it is
        return f"an offer took {took_s} s to where it was made" if took_s and not again else None
    share, way = run.offered(task["fragment"]), [Leg(cluster.up, task["worker"], task["worker"])]
    return _taking(run, "push", way, task["push_start_s"], took_s, cost.lost_pushes, share, again=again)


def _taking(
    run: CheckedRun,
    name: str,
    way: Sequence[Leg],
    start_s: float,
    took_s: float,
    lost: int,
    share: float,
    *,
    again: bool = False,
) -> str | None:
    """Returns the mistake in the time of a transfer, if any. It may wait for others, or be sent again after a crash.

    Args:
      run: of the transfer.
      name: of it.
      way: all that it takes at once.
      start_s: when it was sent.
      took_s: how long it took.
      lost: how many of its messages are lost.
      share: of the model's size.
      again: whether it may have been sent again.
    """
    exact = not any(leg.link.crossings(leg.number) for leg in way) and not again
    faults = None if run.network is None else run.network.faults
    alone_s = max(seconds(_alone_ns(leg, in_ns(start_s), lost, share, faults, outages=exact)) for leg in way)
    if not exact:
        return None if took_s >= alone_s - run.eps_s else f"the {name} took less than it takes alone"
    right = abs(took_s - alone_s) <= run.eps_s
    return None if right else f"{name} took {took_s} s and should take {alone_s} s"


def _alone_ns(
    leg: Leg,
    start_ns: Nanoseconds,
    lost: int,
    share: float,
    faults: FaultModel | None,
    *,
    outages: bool,
) -> Nanoseconds:
    """Returns how long a transfer takes that waits for no other and whose first `lost` messages are lost."""
    transfer_ns = nanoseconds(leg.link.transfer_s(leg.number, share))
    retry_ns = nanoseconds(faults.loss.timeout) if faults and faults.loss else 0
    link, number = leg.link, leg.number
    standstills = (faults.link(leg.worker),) if faults is not None and outages and leg.worker >= 0 else ()
    if link.rates(number) is None and not standstills:
        return transfer_ns + lost * (retry_ns + transfer_ns)
    end_ns = link.arrival_ns(number, start_ns, transfer_ns, share, standstills)
    for _ in range(lost):
        end_ns = link.arrival_ns(number, end_ns + retry_ns, transfer_ns, share, standstills)
    return end_ns - start_ns


def _other_messages_take_their_time(run: CheckedRun) -> Iterator[Violation]:
    """Answers to workers that go on, offers to peers, and messages between servers, which are in no round."""
    network = run.network
    if network is None:
        return
    crashes = _times(run, "crash")
    for row, (sent, kind, update) in enumerate(run.sent()):
        if (
            kind == "copy"
            or kind == "none"
            or (kind == "offer" and sent.receiver < 0)
            or run.is_collective(kind, update)
        ):
            continue
        resent = _between(crashes.get(sent.sender, ()), sent.begin_s, sent.end_s) if kind == "offer" else 0
        lost = sent.messages - 1 if kind == "answer" else 0
        way, share, took_s = way_of(network, sent, kind), share_of(run, kind, sent.fragment), sent.end_s - sent.begin_s
        message = way and _taking(run, "transfer", way, sent.begin_s, took_s, lost, share, again=resent > 0)
        if message:
            yield Violation("transfers", row, "durations", message)
    yield from _answers_are_lost_as_drawn(run, network)


def _answers_are_lost_as_drawn(run: CheckedRun, network: ClusterModel) -> Iterator[Violation]:
    """A worker's answers are lost as its random stream has it, in order, but for those that it did not accept."""
    faults = network.faults
    if faults is None or faults.loss is None:
        return
    answers: dict[int, list[tuple[float, int, int]]] = defaultdict(list)  # by worker: begin, times lost, row
    for row, (sent, kind, _) in enumerate(run.sent()):
        if kind == "answer":
            answers[sent.receiver].append((sent.begin_s, sent.messages - 1, row))
    made = Counter(run.updates["sender"].tolist())
    for worker, own in answers.items():
        stream = faults.answer_loss_stream(worker)
        drawn = iter([faults.losses(stream) for _ in range(made[worker])])
        for _, together in itertools.groupby(sorted(own), key=lambda answer: answer[0]):
            group = list(together)  # sent at one time, in any order
            missing = Counter(lost for _, lost, _ in group)
            while missing.total() and (lost := next(drawn, None)) is not None:
                missing[lost] -= missing[lost] > 0
            if missing.total():
                message = f"{group[0][1] + 1} messages are not those that the worker's random losses make of it"
                yield Violation("transfers", group[0][2], "durations", message)
                break


def _times(run: CheckedRun, fault: str) -> dict[int, list[float]]:
    rows = run.faults[run.faults["fault"] == fault]
    return {int(str(worker)): sorted(own.tolist()) for worker, own in rows.groupby("worker")["time_s"]}


def _between(times_s: Sequence[float], first_s: float, last_s: float) -> int:
    return bisect.bisect_right(times_s, last_s) - bisect.bisect_left(times_s, first_s)


def _messages(run: CheckedRun, cluster: ClusterModel, row: int, cost: Cost, resent: int) -> Iterator[Violation]:
    task = run.tasks[row]
    begins = task["bytes_down"] != 0 or not run.goes_on  # with a copy
    for name, link, share, sends, again in (
        ("bytes_down", cluster.down, 1.0, (cost.lost_pulls + 1) * begins, 0),
        ("bytes_up", cluster.up, run.offered(task["fragment"]), cost.lost_pushes + 1, resent),  # crashes interrupt it
    ):
        sent, size = task[name], link.size(share)
        if sent not in range(sends * size, sends * (again + 1) * size + 1, size or 1):
            yield Violation("rounds", row, "bytes", f"{name} is {sent}; a message has {size}")


ALL = (
    _durations_are_the_clusters,
    _other_messages_take_their_time,
)
