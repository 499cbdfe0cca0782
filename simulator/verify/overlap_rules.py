"""Rules of workers that go on while their offers are on their way: their steps, what they accept when, and waits."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from simulator.cluster import ClusterModel, Episodes, Nanoseconds, seconds
from simulator.verify.chains import Chain
from simulator.verify.checked_run import CheckedRun, Cost, Violation, in_ns
from simulator.verify.meetings import Transfer


class _Acceptance(NamedTuple):
    """An answer that is accepted in a round.

    Attributes:
      row: of transfers.
      sent: that row.
      after: local steps of the round that are done; with layers, parts of them.
    """

    row: int
    sent: Transfer
    after: int


def _fragments_take_turns(run: CheckedRun) -> Iterator[Violation]:
    """Fragments are offered one after the other, after as many local steps as the schedule has between them."""
    count = run.experiment.schedule.fragments
    for chain in run.chains:
        for place, (row, task) in enumerate(zip(chain.rows, chain.tasks, strict=True)):
            before = chain.tasks[place - 1]["fragment"] if place else task["fragment"] - 1
            if task["fragment"] != (before + 1) % count:
                yield Violation("rounds", row, "overlap", f"fragment {task['fragment']} is behind fragment {before}")
            given = task["local_steps"] + run.cut_steps[task["round"]]
            right = _scheduled(run, task, is_first=chain.is_whole and not place)
            if right and given not in right:
                yield Violation("rounds", row, "steps", f"{given} were given, and the schedule has {right[0]}")


def _scheduled(run: CheckedRun, task: dict[str, Any], *, is_first: bool) -> list[int]:
    """Returns the local steps that a round can have had; none where that is unknown.

    Args:
      run: of the round.
      task: the round.
      is_first: whether it begins with a copy.
    """
    schedule, most, fragment = run.experiment.schedule, run.experiment.inner.local_steps, task["fragment"]
    if not 0 <= fragment < schedule.fragments:
        return []
    if schedule.seconds is not None:
        cluster, cost = run.cluster, run.costs.get(task["round"])
        return [] if cluster is None or cost is None else [_in_time(schedule.seconds, cluster, task, cost)]
    offsets = run.fragments.offsets
    since = [most - offsets[-1]] if fragment == 0 else [offsets[fragment] - offsets[fragment - 1]]
    if not is_first:
        return since
    # The very first offer of all comes after H steps; later, a copy may also begin with that of another fragment.
    return [most] if run.is_calm else [most, *since] if fragment == 0 else since


def _in_time(length_s: float, cluster: ClusterModel, task: dict[str, Any], cost: Cost) -> int:
    """Returns the fewest steps that take a time, one at least."""
    begin_ns = in_ns(task["pull_start_s"] if task["bytes_down"] else task["compute_start_s"])  # when it was given out
    pace = cluster.pace(task["worker"])
    if pace is not None:
        work_ns = pace.work_ns(begin_ns, begin_ns + round(1e9 * length_s))
        length_s = work_ns / 1e9
    return max(math.ceil(length_s / cluster.compute_s(task["worker"], 1, cost.factor) - 1e-9), 1)


def _answers_are_accepted_in_turn(run: CheckedRun) -> Iterator[Violation]:
    """An answer is accepted so many local steps behind its offer; a worker waits only for one that is not there."""
    for chain in run.chains:
        accepted: list[list[_Acceptance]] = [[] for _ in chain.tasks]
        last = chain.tasks[-1]
        for offer, place, after in chain.accepts(*_due(run, chain)):
            answer = _acceptance(run, chain.tasks[offer], after)
            if place < len(accepted):
                if answer is None:
                    message = f"its answer was due after {after} steps of round {chain.tasks[place]['round']}"
                    yield Violation("rounds", chain.rows[offer], "overlap", message)
                else:
                    accepted[place].append(answer)
            elif answer and not after and run.cut_steps[last["round"]] and answer.sent.used_s < last["push_start_s"]:
                accepted[-1].append(answer._replace(after=last["local_steps"]))  # before a step that was not finished
            elif answer and not last["push_start_s"] - run.eps_s <= answer.sent.used_s <= chain.until_s + run.eps_s:
                message = f"was accepted at {answer.sent.used_s} s, in another round"
                yield Violation("transfers", answer.row, "overlap", message)
        others = [] if chain.is_whole else _others_s(run, chain)
        for place, (row, task) in enumerate(zip(chain.rows, chain.tasks, strict=True)):
            accepted[place].sort(key=lambda answer: answer.after)
            if any(task["ready_s"] <= used_s < task["push_start_s"] for used_s in others):
                continue  # answers to offers of a round before a gap are accepted in it, at steps that are not known
            if place or not chain.is_whole:
                yield from _before_its_steps(run, row, task, accepted[place])
            yield from _between_its_steps(run, row, task, accepted[place])


def _due(run: CheckedRun, chain: Chain) -> tuple[list[int], list[int]]:
    """Returns the steps of a chain by the end of each round, and by the acceptance of its answer.

    With layers they are parts of steps, from the first offer of all on: of a chain that begins with that.
    """
    overlap = run.experiment.schedule.overlap
    if run.fragments.layers is None:
        ends = list(itertools.accumulate(int(task["local_steps"]) for task in chain.tasks))
        return ends, [end + overlap for end in ends]
    offers = range(len(chain.tasks))
    return [run.offered_at(offer) for offer in offers], [run.accepted_at(offer) for offer in offers]


def _acceptance(run: CheckedRun, task: dict[str, Any], after: int) -> _Acceptance | None:
    row = run.messages.answers.get(task["round"])
    if row is None:
        return None
    return _Acceptance(row, run.messages.transfers[row], after)


def _others_s(run: CheckedRun, chain: Chain) -> list[float]:
    """Returns when a worker accepted answers to offers of other chains."""
    own = {task["round"] for task in chain.tasks}
    return [
        sent.used_s
        for sent, kind, _ in run.sent()
        if kind == "answer" and sent.receiver == chain.worker and sent.round not in own
    ]


def _before_its_steps(
    run: CheckedRun, row: int, task: dict[str, Any], accepted: Sequence[_Acceptance]
) -> Iterator[Violation]:
    """Checks what a worker accepts between two rounds."""
    now_s = sent_s = task["ready_s"]
    for answer in accepted:
        if answer.after == 0:
            now_s, sent_s = max(now_s, answer.sent.end_s), max(sent_s, answer.sent.begin_s)
            yield from _used(run, answer, now_s)
    for name, right_s in (("pull_start_s", sent_s), ("compute_start_s", now_s)):
        if not abs(task[name] - right_s) <= run.eps_s:
            yield Violation("rounds", row, "overlap", f"{name} is {task[name]} and should be {right_s}")


def _between_its_steps(
    run: CheckedRun, row: int, task: dict[str, Any], accepted: Sequence[_Acceptance]
) -> Iterator[Violation]:
    """Checks the time of a round's steps, and what its worker accepts between them."""
    cluster, cost = run.cluster, run.costs.get(task["round"])
    between = [answer for answer in accepted if answer.after]
    if cluster is None or cost is None:
        for answer in between:
            if not task["compute_start_s"] - run.eps_s <= answer.sent.used_s <= task["push_start_s"] + run.eps_s:
                yield Violation(
                    "transfers", answer.row, "overlap", f"was accepted at {answer.sent.used_s} s, in another round"
                )
        return
    pace = cluster.pace(task["worker"]) or Episodes([])
    now_ns, end_ns, done = in_ns(task["compute_start_s"]), in_ns(task["push_start_s"]), 0
    blocked_ns: Nanoseconds = 0
    for answer in between:
        now_ns = pace.finished_ns(now_ns, cost.share_ns(answer.after) - cost.share_ns(done))
        received_ns = max(now_ns, in_ns(answer.sent.end_s))
        yield from _used(run, answer, seconds(received_ns))
        now_ns, done, blocked_ns = received_ns, answer.after, blocked_ns + received_ns - now_ns
    steps, waits_ns = task["local_steps"], in_ns(task["blocked_s"]) - blocked_ns
    if steps < cost.steps:  # cut off, maybe while it waited for the next answer
        worked_ns = cost.share_ns(done) + pace.work_ns(now_ns, end_ns - waits_ns)
        finished = worked_ns / cost.compute_ns * cost.steps
        if steps not in (math.floor(finished - 1e-6), math.floor(finished + 1e-6)):
            yield Violation("rounds", row, "durations", f"{finished:g} steps were done when the round was cut off")
        return
    right_ns = pace.finished_ns(now_ns, cost.compute_ns - cost.share_ns(done))
    for name, right_s in (("push_start_s", seconds(right_ns)), ("blocked_s", seconds(blocked_ns))):
        if not abs(task[name] - right_s) <= run.eps_s:
            yield Violation("rounds", row, "durations", f"{name} is {task[name]} and should be {right_s}")


def _used(run: CheckedRun, answer: _Acceptance, right_s: float) -> Iterator[Violation]:
    if not abs(answer.sent.used_s - right_s) <= run.eps_s:
        message = f"was accepted at {answer.sent.used_s} s and should be at {right_s} s"
        yield Violation("transfers", answer.row, "overlap", message)


ALL = (_fragments_take_turns, _answers_are_accepted_in_turn)
