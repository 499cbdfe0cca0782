"""Policies as pure functions."""

import collections
import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest

from simulator.timeline import (
    Asynchronous,
    Barrier,
    FixedShard,
    LeastVisited,
    MeasuredSpeed,
    Proportional,
    ServerView,
    dynamic_steps,
    fixed_steps,
)
from tests.timeline.builders import AUTHORS_STEP_S


@dataclasses.dataclass
class Grid:
    """Stands in for a generator: `random` runs through the middles of `cells` equal parts of [0, 1)."""

    cells: int
    drawn: int = 0

    def random(self) -> float:
        self.drawn += 1
        return (self.drawn - 0.5) / self.cells


def shares(sizes: list[int], assigned: list[int], cells: int) -> list[int]:
    """How many of `cells` equally likely draws choose each shard."""
    choice, grid = Proportional(np.array(sizes)), Grid(cells)
    counts = collections.Counter(choice.new_choices(assigned, grid).assign(0, 1)[0] for _ in range(cells))
    return [counts[shard] for shard in range(len(sizes))]


def test_dynamic_steps_of_the_authors_devices_by_hand():
    # 50, 38.67, 19.21, 8.71
    assert dynamic_steps(AUTHORS_STEP_S, 50) == [50, 38, 19, 8]
    assert dynamic_steps(np.array(AUTHORS_STEP_S), 50) == [50, 38, 19, 8]


def test_dynamic_steps_are_at_least_one():
    assert dynamic_steps([1.0, 1000.0], 50) == [50, 1]


@pytest.mark.parametrize("parts", range(1, 101))
def test_dynamic_steps_of_an_exact_ratio_are_not_floored_down(parts: int):
    assert dynamic_steps([0.29, 0.29 * parts], 1000 * parts) == [1000 * parts, 1000]
    assert dynamic_steps([0.1 / parts, 0.1], 3 * parts) == [3 * parts, 3]


def test_plain_flooring_would_miss_exact_ratios():
    missed = [parts for parts in range(1, 101) if math.floor(0.29 / (0.29 * parts) * 1000 * parts) != 1000]
    assert missed != []


def test_dynamic_steps_do_not_round_up_what_is_nearly_whole():
    assert dynamic_steps([1.0, 1.0001], 100) == [100, 99]
    assert dynamic_steps([1.0, 1.0 + 1e-6], 1000) == [1000, 999]


def test_dynamic_steps_are_whole_python_numbers():
    assert {type(count) for count in dynamic_steps(np.array([1.0, 3.0]), 7)} == {int}


def test_fixed_steps_are_everybodys():
    assert fixed_steps(3, 50) == [50, 50, 50]


def test_measured_speeds_are_exact_though_the_assumed_ones_are_whole_seconds():
    speeds = MeasuredSpeed([1, 2], 10).new_choices()
    assert [speeds.steps(worker) for worker in range(2)] == [10, 5]
    speeds.observe(1, 1.5)
    assert [speeds.steps(worker) for worker in range(2)] == [10, 6]
    speeds.observe(0, 0.75)
    assert [speeds.steps(worker) for worker in range(2)] == [10, 5]


def test_a_shard_without_data_is_never_chosen():
    choices = Proportional([0, 3, 1]).new_choices([0, 0, 0], np.random.default_rng(0))
    assert {choices.assign(0, 1)[0] for _ in range(100)} == {1, 2}


def test_proportional_starts_in_proportion_to_the_sizes():
    assert shares([100, 300, 600], [0, 0, 0], 1000) == [100, 300, 600]


def test_proportional_falls_back_to_the_sizes_where_all_are_level():
    assert shares([100, 300, 600], [7, 21, 42], 1000) == [100, 300, 600]


def test_proportional_chooses_in_proportion_to_what_is_behind():
    # |D|/sum = 0.1, 0.3, 0.6 and n/sum = 0.5, 0.1, 0.4: behind by 0, 0.2, 0.2
    assert shares([100, 300, 600], [50, 10, 40], 1000) == [0, 500, 500]
    # n/sum = 0.1, 0.2, 0.3, 0.4 of sizes 0.4, 0.3, 0.2, 0.1: behind by 0.3, 0.1, 0, 0
    assert shares([4, 3, 2, 1], [10, 20, 30, 40], 400) == [300, 100, 0, 0]


def test_proportional_with_a_generator_keeps_the_probabilities():
    choice, random = Proportional(np.array([10, 20, 30, 40])), np.random.default_rng(0)
    draws = [choice.new_choices([40, 0, 30, 30], random).assign(0, 1)[0] for _ in range(4000)]
    counts = np.bincount(draws, minlength=4)
    expected = 4000 * np.array([0, 2, 0, 1]) / 3
    assert counts[[0, 2]].tolist() == [0, 0]
    assert np.sum((counts - expected)[[1, 3]] ** 2 / expected[[1, 3]]) < 10.83  # chi-square, 1 degree, p = 0.001


@pytest.mark.parametrize("shards", [1, 3, 4, 49, 100])
def test_proportional_visits_equal_shards_once_each_per_round(shards: int):
    choice, random = Proportional(np.full(shards, 1000)), np.random.default_rng(0)
    assignments = choice.new_choices([0] * shards, random)
    orders = set()
    for _ in range(10):
        order = [assignments.assign(0, 50)[0] for _ in range(shards)]
        assert sorted(order) == list(range(shards))
        orders.add(tuple(order))
    assert len(orders) > 1 or shards == 1


def test_proportional_compares_large_counts_exactly():
    sizes, assigned = [1, 2], [10**17, 2 * 10**17 + 1]
    assert np.array(sizes) / sum(sizes) - np.array(assigned) / sum(assigned) == pytest.approx([0.0, 0.0], abs=0.0)
    assert shares(sizes, assigned, 300) == [300, 0]
    assert shares(sizes, [10**17, 2 * 10**17], 300) == [100, 200]


def test_proportional_keeps_to_the_sizes_in_the_long_run():
    sizes = np.array([1, 2, 5])
    choice, random = Proportional(sizes), np.random.default_rng(1)
    assigned, assignments = np.zeros(3, np.int64), choice.new_choices([0] * 3, random)
    for _ in range(4000):
        assigned[assignments.assign(0, 20)[0]] += 20
    np.testing.assert_allclose(assigned / 20 / 500, sizes, atol=0.01)


def test_least_visited_draws_among_the_least():
    random = np.random.default_rng(0)
    draws = collections.Counter(
        LeastVisited().new_choices([3, 1, 2, 1, 1], random).assign(0, 1)[0] for _ in range(3000)
    )
    assert sorted(draws) == [1, 3, 4]
    assert min(draws.values()) > 900


def test_least_visited_without_a_tie_is_certain():
    random = np.random.default_rng(0)
    assert {LeastVisited().new_choices([3, 1, 2], random).assign(worker, 1) for worker in range(20)} == {(1, 1)}


def test_a_fixed_shard_wraps_around():
    random = np.random.default_rng(0)
    own = FixedShard().new_choices([5, 0, 0], random)
    assert [own.assign(worker, 10) for worker in range(4)] == [(0, 5), (1, 0), (2, 0), (0, 15)]


def plainly_proportional(sizes: np.ndarray, assigned: np.ndarray, random: np.random.Generator) -> int:
    """Eq. 2 as it is written, every term anew for every choice."""
    cumulative = np.maximum(sizes * assigned.sum() - assigned * sizes.sum(), 0).cumsum()
    if cumulative[-1] == 0:
        cumulative = sizes.cumsum()
    return int(cumulative.searchsorted(random.random() * cumulative[-1], side="right"))


def plainly_least_visited(_: np.ndarray, assigned: np.ndarray, random: np.random.Generator) -> int:
    candidates = np.flatnonzero(assigned == assigned.min())
    return int(candidates[random.integers(len(candidates))])


@pytest.mark.parametrize("shards", [1, 2, 3, 16, 64, 65, 100, 300])
@pytest.mark.parametrize("sizes", ["equal", "uneven"])
@pytest.mark.parametrize("lengths", [[50], [50, 38, 19, 8], [1, 2, 3], [10**6, 999_983]])
@pytest.mark.parametrize("plainly", [plainly_proportional, plainly_least_visited])
def test_shards_are_chosen_bit_for_bit_as_by_the_plain_rule(
    shards: int, sizes: str, lengths: list[int], plainly: Callable[..., int]
):
    given = np.random.default_rng(shards)
    size = np.full(shards, 7) if sizes == "equal" else given.integers(1, 10**5, shards)
    assigned = given.integers(0, 100, shards)
    choice = Proportional(size) if plainly is plainly_proportional else LeastVisited()
    assignments = choice.new_choices(assigned.tolist(), np.random.default_rng(1))
    random = np.random.default_rng(1)
    for steps in given.choice(lengths, 5 * shards + 100).tolist():
        shard = plainly(size, assigned, random)
        assert assignments.assign(0, steps) == (shard, assigned[shard])
        assigned[shard] += steps


def test_there_are_as_many_sizes_as_shards():
    with pytest.raises(ValueError, match="sizes of 2 shards where there are 3"):
        Proportional([1, 1]).new_choices([0, 0, 0], np.random.default_rng(0))


SECOND = 10**9


def view(**changes: float) -> ServerView:
    base = ServerView(10 * SECOND, opened_ns=8 * SECOND, group=2, outstanding=1, next_arrival_ns=11 * SECOND)
    return base._replace(**changes)


def test_a_barrier_closes_when_nobody_is_outstanding():
    assert Barrier().closes(view(outstanding=0, next_arrival_ns=math.inf))
    assert not Barrier().closes(view(outstanding=1, next_arrival_ns=10**18))


def test_a_window_closes_when_the_next_arrival_is_beyond_it():
    assert not Asynchronous(3.0).closes(view())
    assert Asynchronous(2.5).closes(view())
    assert Asynchronous(0.0).closes(view())
    assert not Asynchronous(math.inf).closes(view(next_arrival_ns=10**18))
    assert Asynchronous(math.inf).closes(view(outstanding=0, next_arrival_ns=math.inf))
