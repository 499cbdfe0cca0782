import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.learning.lane_schedule import (
    Segment,
    default_lanes,
    lanes_of_use,
    lanes_on_each,
    launch_overhead,
    plan,
    whole_lanes,
)


def test_shorter_rounds_leave_when_they_are_done():
    assert plan([50, 38, 19, 8]) == [
        Segment(places=((0, 1, 2, 3),), steps=(8,)),
        Segment(places=((0, 1),), steps=(30,)),  # the third waits, for three lanes are no power of two
        Segment(places=((0, 2),), steps=(11,)),
        Segment(places=((0,),), steps=(1,)),
    ]


def test_rounds_of_one_length_are_one_segment():
    assert plan([50, 50]) == [Segment(places=((0, 1),), steps=(50,))]
    assert plan([7, 7], devices=2) == [Segment(places=((0,), (1,)), steps=(7, 7))]


def test_every_device_does_as_many_steps_as_its_own_rounds_have():
    assert plan([50, 38], devices=2) == [Segment(places=((0,), (1,)), steps=(50, 38))]
    assert plan([50, 38, 19, 8], devices=2) == [  # the longest and the shortest share a device
        Segment(places=((0, 3), (1, 2)), steps=(8, 19)),
        Segment(places=((0,), (1,)), steps=(42, 19)),
    ]


def test_a_device_that_is_free_takes_what_waits():
    assert plan([50, 38, 19], devices=2) == [
        Segment(places=((0,), (1,)), steps=(38, 38)),
        Segment(places=((0,), (2,)), steps=(12, 19)),
    ]


def test_fewer_rounds_than_devices_leave_some_idle():
    assert plan([4, 3], devices=4) == [Segment(places=((0,), (1,), (None,), (None,)), steps=(4, 3, 0, 0))]


def test_where_starting_a_step_costs_much_lanes_are_rather_left_empty():
    assert plan([5, 5, 5], overhead=100.0) == [Segment(places=((0, 1, 2, None),), steps=(5,))]
    assert [lanes_on_each(3, 1, overhead) for overhead in (0.0, 1.0, 3.0)] == [2, 2, 4]  # 5/3 > 3/2, 7/3 < 5/2


def test_a_round_without_steps_is_run_too():
    assert plan([3, 0]) == [Segment(places=((0, 1),), steps=(0,)), Segment(places=((0,),), steps=(3,))]


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=20),
    st.integers(1, 8),
    st.sampled_from([0.0, 0.5, 4.0, 1000.0]),
)
def test_every_round_gets_its_steps_and_lanes_are_powers_of_two(lengths: list[int], devices: int, overhead: float):
    segments = plan(lengths, devices, overhead)
    done = [0] * len(lengths)
    seen: set[int] = set()
    for segment in segments:
        assert len(segment.places) == len(segment.steps) == devices
        [lanes] = {len(row) for row in segment.places}
        assert lanes & (lanes - 1) == 0
        assert lanes < 2 * max(len(lengths) / devices, 1)
        rounds = [each for row in segment.places for each in row if each is not None]
        assert len(rounds) == len(set(rounds)) > 0
        seen |= set(rounds)
        for row, steps in zip(segment.places, segment.steps, strict=True):
            for each in row:
                if each is not None:
                    done[each] += steps
    assert done == lengths
    assert seen == set(range(len(lengths)))
    assert len(segments) <= len(lengths)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=16))
def test_without_overhead_no_lane_of_one_device_does_a_step_too_many(lengths: list[int]):
    assert sum(len(segment.places[0]) * segment.steps[0] for segment in plan(lengths)) == sum(lengths)


def test_a_cpu_runs_one_round_per_core_and_an_accelerator_as_many_as_fill_it():
    assert launch_overhead("cpu", 1.0) == 0.0
    assert [default_lanes(8, cores, 0.0) for cores in (1, 2, 16)] == [1, 2, 8]
    small, large = launch_overhead("gpu", 3e8), launch_overhead("gpu", 3e13)
    assert [default_lanes(16, devices, small) for devices in (1, 4)] == [16, 16]
    assert [default_lanes(16, devices, large) for devices in (1, 4)] == [1, 4]


@given(
    st.integers(1, 70), st.integers(1, 70), st.integers(1, 8), st.sampled_from([0.0, 0.5, 4.0, 20.0, 1000.0]), st.data()
)
def test_lanes_are_never_more_than_asked_for(
    most: int, workers: int, devices: int, overhead: float, data: st.DataObject
):
    lanes = lanes_of_use(most, workers, devices, overhead)
    assert 1 <= lanes == whole_lanes(lanes, devices) <= most
    used = min(lanes, devices)
    rounds = data.draw(st.integers(1, min(lanes, workers)))
    for segment in plan([5] * rounds, used, overhead):
        assert sum(len(row) for row in segment.places) <= lanes


@pytest.mark.parametrize(
    ("workers", "most", "devices", "lanes"),
    [(12, 6, 1, 4), (12, 12, 1, 8), (12, 99, 1, 16), (12, 12, 3, 12), (12, 11, 3, 6), (12, 2, 3, 2), (2, 9, 4, 2)],
)
def test_lanes_of_the_largest_program(workers: int, most: int, devices: int, lanes: int):
    assert lanes_of_use(most, workers, devices, overhead=20.0) == lanes


@pytest.mark.parametrize(("rounds", "devices", "lanes"), [(1, 1, 1), (7, 1, 4), (8, 1, 8), (3, 4, 1), (9, 2, 4)])
def test_lanes_of_each_device(rounds: int, devices: int, lanes: int):
    assert lanes_on_each(rounds, devices) == lanes
