"""Messages on links that they share, against theory and sums worked by hand; seconds, for a message of one byte."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
import simpy

from simulator.cluster import Crossing, FaultModel, Link, seconds
from simulator.experiment.schema.faults import Faults
from simulator.timeline import Asynchronous
from simulator.timeline.links import Channel, SharedLinks
from tests.timeline.builders import cluster, events, link, log, updates

Sent = tuple[float, int, float]  # when, by which worker, and the share of the model's size


def ends(sent: Iterable[Sent], of: Link, *, fair: bool, faults: dict[str, Any] | None = None) -> list[float | None]:
    """When each message is there, in the order given; None for never."""
    env, found = simpy.Environment(), list[list[float | None]]()
    model = None if faults is None else FaultModel(Faults.model_validate(faults), 0)
    channel = Channel(env, of, SharedLinks(env, fair=fair, faults=model))

    def one(time_s: float, worker: int, share: float, there: list[float | None]):
        yield env.timeout(round(time_s * 1e9))
        duration_ns, end = channel.send(worker, share)
        if end is not None and (yield end):
            there.append(seconds(env.now))
        elif end is None:
            there.append(seconds(env.now + duration_ns))
        else:
            there.append(None)

    for each in sent:
        found.append([])
        env.process(one(*each, found[-1]))
    env.run(until=int(1e18))
    return [each for [each] in found]


def uplinked(*crossings: Sequence[tuple[str, float]], latency_s: float = 0.0, transmission_s: float = 0.0) -> Link:
    """A link of which each worker crosses others: their names, and the seconds that a message occupies each."""
    own = tuple(tuple(Crossing(*each) for each in of_worker) for of_worker in crossings)
    return dataclasses.replace(link(len(crossings), latency_s, transmission_s), uplinks=own)


def test_two_transfers_share_fairly():
    # Alone for 1 s, then half the rate each: 3 - 1 = 2 left against 1, which is through at 1 + 2 = 3 with 1 left.
    assert ends([(0, 0, 3.0), (1, 1, 1.0)], link(2, shared_s=1.0), fair=True) == [4.0, 3.0]
    assert ends([(0, 0, 3.0), (1, 1, 1.0)], link(2, shared_s=1.0), fair=False) == [3.0, 4.0]


def test_three_transfers_share_fairly_and_equal_ones_end_together():
    # 3 of 1 byte at 0: 3 s. Another one of 1 at 1.5: each of the first has had 0.5, and has a quarter from then on.
    assert ends([(0, 0, 1.0)] * 3, link(1, shared_s=1.0), fair=True) == [3.0] * 3
    assert ends([*[(0, 0, 1.0)] * 3, (1.5, 0, 1.0)], link(1, shared_s=1.0), fair=True) == [3.5, 3.5, 3.5, 4.0]


def test_equal_transfers_end_together_whatever_their_rate_is():
    # 3 s / 7 each, and thirds of a nanosecond, in any order of their beginnings at one time
    many = [(0.1 * place, worker, 1 / 3) for place in range(50) for worker in range(7)]
    found = np.array(ends(many, link(7, shared_s=0.37), fair=True)).reshape(50, 7)
    assert (found == found[:, :1]).all()


def test_a_transfer_takes_no_more_than_its_own_link_does_and_leaves_the_rest_to_others():
    # Worker 0 alone takes 4 s a byte: a quarter of the shared link's rate; the others have 3/8 each.
    own = link(3, transmission_s=[4.0, 0.0, 0.0], shared_s=1.0)
    assert ends([(0, 0, 1.0), (0, 1, 0.75), (0, 2, 0.75)], own, fair=True) == [4.0, 2.0, 2.0]


def test_latency_comes_after_what_is_shared():
    assert ends([(0, 0, 1.0), (0, 0, 1.0)], link(1, 0.5, shared_s=1.0), fair=True) == [2.5, 2.5]


def test_rates_are_max_min_fair_on_several_links():
    # Over link a (1 byte/s) go workers 0 and 1, over b (2 bytes/s) workers 1 and 2: 1/2, 1/2, and the rest, 3/2.
    several = uplinked([("a", 1.0)], [("a", 1.0), ("b", 0.5)], [("b", 0.5)])
    assert ends([(0, 0, 1.0), (0, 1, 1.0), (0, 2, 3.0)], several, fair=True) == [2.0, 2.0, 2.0]


def test_a_message_is_through_two_queues_at_once_where_neither_is_busy():
    # 1 s and 2 s at the same time, not 3 s; a second one waits behind the first at the slower of them.
    two = uplinked([("a", 1.0), ("b", 2.0)])
    assert ends([(0, 0, 1.0)], two, fair=False) == [2.0]
    assert ends([(0, 0, 1.0), (0, 0, 1.0)], two, fair=False) == [2.0, 4.0]
    assert ends([(0, 0, 1.0)], uplinked([("a", 2.0), ("b", 1.0)]), fair=False) == [2.0]


def test_who_waits_at_one_queue_does_not_block_the_next():
    # Both messages of worker 0 cross a, 10 s each, and then b; worker 1, which comes later, crosses b alone.
    two = uplinked([("a", 10.0), ("b", 1.0)], [("b", 1.0)])
    assert ends([(0, 0, 1.0), (0, 0, 1.0), (5, 1, 1.0)], two, fair=False) == [10.0, 20.0, 6.0]
    assert ends([(0, 0, 1.0), (9, 1, 2.0)], two, fair=False) == [12.0, 11.0]  # which is in b from 9 to 11


@pytest.mark.parametrize("fair", [True, False])
def test_a_transfer_alone_takes_as_long_either_way(fair: bool):
    own = link(2, [0.25, 0.0], [3.0, 0.5], shared_s=1.0)
    assert ends([(0, 0, 1.0), (10, 1, 1.0), (20, 1, 0.5)], own, fair=fair) == [3.25, 11.0, 20.5]


DOWN = {"trace": [[0, 2, "disconnect"], [0, 5, "reconnect"]]}


def test_while_a_link_is_down_its_transfer_stands_still_and_others_have_its_part():
    # Half each until 2; from 2 to 4 worker 1 alone has its other 2; from 5 on worker 0 alone.
    assert ends([(0, 0, 3.0), (0, 1, 3.0)], link(2, shared_s=1.0), fair=True, faults=DOWN) == [7.0, 4.0]


def test_a_transfer_over_a_link_that_is_down_for_good_never_ends():
    gone = {"trace": [[0, 2, "disconnect"]]}
    assert ends([(0, 0, 3.0), (0, 1, 3.0)], link(2, shared_s=1.0), fair=True, faults=gone) == [None, 4.0]
    assert ends([(3, 0, 1.0), (0, 1, 3.0)], link(2, shared_s=1.0), fair=True, faults=gone) == [None, 3.0]


def test_while_the_server_is_down_nothing_goes_on():
    down = {"trace": [["server", 1, "down"], ["server", 4, "up"]]}
    assert ends([(0, 0, 1.0), (0, 1, 1.0)], link(2, shared_s=1.0), fair=True, faults=down) == [5.0, 5.0]


def poisson(rate: float, shares: Sequence[float]) -> list[Sent]:
    times_s = np.cumsum(np.random.default_rng(7).exponential(1 / rate, len(shares)))
    return [(time_s, 0, share) for time_s, share in zip(times_s.tolist(), shares, strict=True)]


@pytest.mark.parametrize("sizes", ["equal", "exponential", "two"])
def test_processor_sharing_slows_all_down_alike(sizes: str):
    """M/G/1-PS: a transfer that alone takes x takes x / (1 - rho) on average, whatever the sizes are."""
    random, count, load = np.random.default_rng(3), 6000, 0.5
    shares = {
        "equal": np.ones(count),
        "exponential": random.exponential(1.0, count) + 1e-6,
        "two": random.choice([0.5, 3.0], count, p=[0.8, 0.2]),
    }[sizes]
    sent = poisson(load / shares.mean(), shares.tolist())
    took_s = np.array(ends(sent, link(1, shared_s=1.0), fair=True)) - [time_s for time_s, *_ in sent]
    assert took_s.sum() / shares.sum() == pytest.approx(1 / (1 - load), rel=0.05)
    if sizes == "two":
        for share in (0.5, 3.0):
            assert took_s[shares == share].mean() / share == pytest.approx(1 / (1 - load), rel=0.08)


def test_a_queue_waits_as_theory_has_it():
    """M/D/1: a mean wait of rho / (2 mu (1 - rho))."""
    sent = poisson(0.6, [1.0] * 20_000)
    waited_s = np.array(ends(sent, link(1, shared_s=1.0), fair=False)) - [time_s for time_s, *_ in sent] - 1.0
    assert waited_s.min() == pytest.approx(0.0, abs=1e-6)
    assert waited_s.mean() == pytest.approx(0.6 / (2 * (1 - 0.6)), rel=0.05)


def test_a_queue_of_equal_messages_at_equal_times():
    """D/D/1: nobody waits below the link's rate; above it each waits longer than the one before by the same."""
    assert ends([(2.0 * place, 0, 1.0) for place in range(9)], link(1, shared_s=1.0), fair=False) == [
        2.0 * place + 1.0 for place in range(9)
    ]
    assert ends([(1.0 * place, 0, 1.5) for place in range(9)], link(1, shared_s=1.0), fair=False) == [
        1.5 * (place + 1) for place in range(9)
    ]


def test_a_window_closes_where_it_is_not_known_when_others_come():
    # Both push at 1: fair, both are there at 5; first come, first served, at 3 and 5, and a window of 1 s is over.
    up, fair = link(2, shared_s=2.0), dataclasses.replace
    model = cluster([1.0, 1.0], up=up)
    settings = {"synchronization": Asynchronous(1.0), "budget_updates": 2}
    assert [update.time_ns for update in updates(events(model, **settings))] == [3_000_000_000, 5_000_000_000]
    history = events(fair(model, sharing="fair"), **settings)
    assert [update.time_ns for update in updates(history)] == [5_000_000_000, 5_000_000_000]
    # Worker 1 computes for 1.5 s more: it may come in the window until that is over, at 3, and comes after it.
    late = fair(cluster([1.0, 2.5], up=up), sharing="fair")
    assert [line for line in log(events(late, **settings | {"budget_updates": 3})) if line[1].startswith("start")][
        :3
    ] == [
        (0.0, "start 0 1"),
        (4.5, "start 0"),
        (5.0, "start 1"),
    ]


def test_a_worker_that_goes_away_leaves_its_message_in_its_turn():
    # Worker 0 crashes at 2 while its push, from 1 on, has its half of the link until 5; so worker 1 is there at 5 too.
    faults = {"trace": [[0, 2, "crash"], [0, 100, "join"]]}
    model = dataclasses.replace(cluster([1.0, 1.0], up=link(2, shared_s=2.0), faults=faults), sharing="fair")
    assert [update.time_ns for update in updates(events(model, budget_updates=1))] == [5_000_000_000]
