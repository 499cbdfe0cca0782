"""Collectives by hand and against direct loops over messages."""

from itertools import pairwise

import numpy as np
import pytest

from simulator.cluster import Collective, LinkCost

SIZE = 1000
PLAIN = LinkCost(0.5, 0.01)  # 10 s for all of it


def collective(algorithm, members=4, links=None, **more):
    links = tuple(links or [PLAIN] * members)
    return Collective(algorithm, links, links, **more)


@pytest.mark.parametrize(
    ("algorithm", "time_s"),
    [
        ("ring", 2 * 3 * (0.5 + 2.5)),  # 2 (M - 1)/M n/rate + 2 (M - 1) latencies = 15 + 3
        ("tree", 2 * 2 * (0.5 + 10)),
        ("star", 2 * (0.5 + 30)),
        ("bound", 0.5 + 15),
    ],
)
def test_times_by_hand(algorithm, time_s):
    assert collective(algorithm).seconds(range(4), SIZE) == pytest.approx(time_s, rel=1e-12)


def test_groups_by_hand():
    """A tree of two inside, up and down; a ring of two heads between, each step of which has half."""
    made = collective("hierarchical", groups=(0, 0, 1, 1), between=LinkCost(1.0, 0.1))
    assert made.seconds(range(4), SIZE) == pytest.approx(2 * (0.5 + 10) + 2 * (1 + 50), rel=1e-12)
    assert made.seconds([0, 1], SIZE) == pytest.approx(21)  # of one group: nothing between
    assert made.seconds([1, 3], SIZE) == pytest.approx(102)  # one of each: nothing inside
    assert made.sent(range(4), SIZE) == [2000, 1000, 2000, 1000]  # a head: its result below, and the ring's 2/2


def test_the_slowest_link_sets_the_pace():
    slow = LinkCost(0.5, 0.02)
    assert collective("ring", links=[PLAIN, PLAIN, slow, PLAIN]).seconds(range(4), SIZE) == pytest.approx(6 * 5.5)
    one_way = Collective("ring", (PLAIN,) * 4, (PLAIN, PLAIN, slow, PLAIN))
    assert one_way.seconds(range(4), SIZE) == pytest.approx(33)
    assert one_way.seconds([0, 1, 3], SIZE) == pytest.approx(4 * (0.5 + 10 / 3))  # without it


def test_a_star_is_at_the_fastest_link():
    made = collective("star", links=[PLAIN, PLAIN, PLAIN, LinkCost(0.5, 0.001)])
    assert made.seconds(range(4), SIZE) == pytest.approx(2 * (0.5 + 10))  # its own 3 s are not the slowest
    assert made.sent(range(4), SIZE) == [1000, 1000, 1000, 3000]
    assert made.sent([2, 0], SIZE) == [1000, 1000]


@pytest.mark.parametrize("algorithm", ["ring", "tree", "star", "bound", "hierarchical"])
def test_one_member_needs_nothing(algorithm):
    made = collective(algorithm, groups=(0, 0, 1, 1))
    assert made.seconds([2], SIZE) == 0
    assert made.sent([2], SIZE) == [0]


@pytest.mark.parametrize("members", range(2, 18))
@pytest.mark.parametrize("algorithm", ["ring", "tree", "star", "bound", "hierarchical"])
def test_any_algorithm_sends_as_much_and_none_is_below_the_bound(algorithm, members):
    groups = tuple(worker % 3 for worker in range(members))
    made = collective(algorithm, members, groups=groups)
    size = 12252240  # divisible by all of them
    assert sum(made.sent(range(members), size)) == 2 * (members - 1) * size
    least_s = collective("bound", members).seconds(range(members), size)
    assert made.seconds(range(members), size) >= least_s * (1 - 1e-12)


@pytest.mark.parametrize("members", [2, 3, 5, 8])
def test_a_ring_is_what_a_loop_over_its_messages_takes_and_sends(members):
    values = np.arange(members * members).reshape(members, members)  # worker, chunk
    total, held, sent, time_s = values.sum(0), values.copy(), np.zeros(members), 0.0
    for step in range(2 * (members - 1)):
        moved = []
        for worker in range(members):
            chunk = (worker - step) % members
            moved.append(((worker + 1) % members, chunk, held[worker, chunk]))
            sent[worker] += SIZE / members
        for to, chunk, value in moved:
            held[to, chunk] = held[to, chunk] + value if step < members - 1 else value
        time_s += PLAIN.latency_s + SIZE / members * PLAIN.byte_s
    assert (held == total).all()
    made = collective("ring", members)
    assert made.seconds(range(members), SIZE) == pytest.approx(time_s)
    assert made.sent(range(members), SIZE) == [round(each) for each in sent]


@pytest.mark.parametrize("members", [2, 3, 5, 8, 13])
def test_a_tree_is_what_a_loop_over_its_messages_takes_and_sends(members):
    values, sent, steps = list(range(members)), [0] * members, 0
    reach = 1
    while reach < members:  # up: who is an odd multiple of the distance sends and is done
        for worker in range(reach, members, 2 * reach):
            values[worker - reach] += values[worker]
            sent[worker] += SIZE
        reach, steps = 2 * reach, steps + 1
    assert values[0] == sum(range(members))
    has = [0]
    while reach > 1:  # down again
        reach, steps = reach // 2, steps + 1
        for worker in list(has):
            if worker + reach < members:
                has.append(worker + reach)
                sent[worker] += SIZE
    assert sorted(has) == list(range(members))
    made = collective("tree", members)
    assert made.sent(range(members), SIZE) == sent
    assert made.seconds(range(members), SIZE) == pytest.approx(steps * 10.5)


def test_more_members_take_longer():
    times_s = [collective("ring", count).seconds(range(count), SIZE) for count in range(1, 9)]
    assert all(fewer < more for fewer, more in pairwise(times_s))
