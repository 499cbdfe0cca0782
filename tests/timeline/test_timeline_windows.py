"""Adaptive windows of a quorum (Decoupled DiLoCo, Eq. 3), worked by hand."""

from typing import Any

import pytest

from simulator.cluster import MessageShares, seconds
from simulator.timeline import Accepted, Arrival, Event, Quorum, Round, Schedule, Update
from simulator.timeline.policies.window import AdaptiveWindow
from tests.timeline.builders import cluster, events, link

S = 1_000_000_000
HALF = AdaptiveWindow(overlap=2)


def offer(
    made_s: float, arrival_s: float, step_s: float, answer_s: float | None = None, blocked_s: float = 0
) -> Arrival:
    """An offer at the end of four local steps."""
    begun_s = made_s - 4 * step_s - blocked_s
    times = [round(S * each) for each in (0, 0, begun_s, made_s, arrival_s)]
    answer_ns = None if answer_s is None else round(S * answer_s)
    return Arrival(Round(0, 0, 0, 0, 4, 0), *times, blocked_ns=round(S * blocked_s), answer_ns=answer_ns)


def test_it_is_a_share_of_what_the_overlap_leaves():
    """Steps of 2, 3 and 2.5 s, of which 2.5 s comes; quorums of 1 and 2 s; an answer of 0.6 s, an update of 0.2 s."""
    averages = AdaptiveWindow(2, 0.5, 0.5, S // 5).new_averages()
    first = offer(8, 9, 2.0)
    averages.arrived(first)
    assert averages.window_ns([first], 60 * S) == 0.5 * (2 * 2 - 1 - 0.2) * S
    early, late = offer(20, 20.5, 3.0, answer_s=0.6, blocked_s=1.0), offer(21, 22, 2.5)
    averages.arrived(early)
    averages.arrived(late)
    assert averages.window_ns([early, late], 60 * S) == pytest.approx(0.5 * (2 * 2.5 - 1.5 - 0.6 - 0.2) * S)


def test_other_shares_and_weights():
    averages = AdaptiveWindow(3, 0.25, 0.2).new_averages()
    for made in (first := offer(8, 9, 2.0), second := offer(18, 21, 1.0)):
        averages.arrived(made)
    averages.window_ns([first], S)
    assert averages.window_ns([second], 60 * S) == pytest.approx(0.25 * (3 * 1.8 - 1.4) * S)


def test_it_is_neither_below_zero_nor_above_the_longest():
    averages = HALF.new_averages()
    averages.arrived(offer(8, 9, 2.0))
    assert averages.window_ns([offer(8, 9, 2.0)], S) == S
    assert averages.window_ns([offer(8, 20, 2.0)], S) == 0


def history(step_s: list[float], quorum: Quorum, **config: Any) -> list[Event]:
    model = cluster(step_s, up=link(len(step_s), 0.25), down=link(len(step_s), 0.5))
    defaults: dict[str, Any] = {"steps": [4] * len(step_s), "schedule": Schedule(overlap=2), "budget_updates": 4}
    return events(model, synchronization=quorum, **(defaults | config))


def met(events: list[Event]) -> list[tuple[float, set[int]]]:
    updates = [each for each in events if isinstance(each, Update)]
    return [(seconds(each.time_ns), {arrival.round.worker for arrival in each.arrivals}) for each in updates]


def test_windows_follow_what_has_arrived():
    """Offers take 0.25 s and answers 0.5 s; steps of 1, 1.5, 1 and then 2.7 s arrive.

    Offers arrive at 4.75, 6.75, 8.75 and 11.55 s, with averages of steps 1, 1.25, 1.125 and 1.9125 s. From the third on
    an answer is known. Two more offers, of 12.75 s, come within the last window; the fourth worker's would at 36.75 s.
    """
    step_s = [1.0, 1.5, 2.7, 9.0]
    made = history(step_s, Quorum(1, 10.0, HALF))
    windows_s = [0.5 * (2 - 0.25), 0.5 * (2.5 - 0.25), 0.5 * (2.25 - 0.75), 0.5 * (3.825 - 0.75)]
    ends_s = [arrival + window for arrival, window in zip((4.75, 6.75, 8.75, 11.55), windows_s, strict=True)]
    assert ends_s == [5.625, 7.875, 9.5, 13.0875]
    assert met(made) == list(zip(ends_s, ({0}, {1}, {0}, {0, 1, 2}), strict=True))
    assert made == history(step_s, Quorum(1, 10.0, HALF))


@pytest.mark.parametrize(("window", "waits"), [(AdaptiveWindow(2, 0.999), False), (None, True)])
def test_nobody_waits_for_an_answer_once_its_time_is_known(window: AdaptiveWindow | None, waits: bool):
    """Offers 4 and 5 steps apart, and none of a third worker: what is left is 2 - 0.25 - 0.5 s, less than 5 s."""
    made = history([1.0] * 3, Quorum(1, 5.0, window), steps=[4, 5, 500], budget_updates=12)
    later = [each for each in made if isinstance(each, Update)][3:]
    assert any(arrival.blocked_ns for each in later for arrival in each.arrivals) == waits


def test_the_longest_window_alone_is_the_same_as_without():
    """Steps of an hour leave more than there is."""
    config: dict[str, Any] = {"schedule": Schedule((0, 2), 1), "shares": MessageShares((0.5, 0.5), (0.5, 0.5))}
    plain = history([3600.0, 3600.5, 3603.0], Quorum(1, 1.0), **config)
    adaptive = history([3600.0, 3600.5, 3603.0], Quorum(1, 1.0, HALF), **config)
    assert met(plain) == met(adaptive)
    assert [each for each in plain if isinstance(each, Accepted)] == [
        each for each in adaptive if isinstance(each, Accepted)
    ]
