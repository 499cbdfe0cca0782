"""Measured step times and link rates, replayed: times that were worked out by hand."""

import itertools
import math
from typing import Any

import pytest

from simulator.cluster import ClusterModel, build_cluster, nanoseconds, seconds
from simulator.cluster.episodes import Episode, Episodes
from simulator.cluster.traces import PaceTrace
from simulator.experiment import SimulationError
from simulator.experiment.schema.cluster import Cluster

STEPS = [[0, 0, 0.5], [2, 0, 1.0], [8, 0, 0.25], [0, 1, 3.0]]
RATES = [[0, 0, "400Mbit/s"], [1, 0, "80Mbit/s"], [4, 0, 160e6]]  # a plain number is in bit/s
LINK = {"message_size": "100MB", "latency": "500ms", "trace": RATES}


def cluster(**sections: Any) -> ClusterModel:
    devices = {"seconds_per_step": [0.1, 0.2]}
    section = Cluster.model_validate({"devices": devices} | sections)
    return build_cluster(section, parameters=1, flops_per_step=1.0, seed=0)


def computed(model: ClusterModel, worker: int, start_s: float, steps: int) -> float:
    """When so many steps are done that begin at a time, in seconds."""
    pace, work_ns = model.pace(worker), nanoseconds(model.compute_s(worker, steps))
    return seconds(nanoseconds(start_s) + work_ns if pace is None else pace.finished_ns(nanoseconds(start_s), work_ns))


def sent(model: ClusterModel, start_s: float, share: float = 1.0, worker: int = 0) -> float:
    """When a message to a worker arrives that is sent at a time, in seconds."""
    alone_ns = nanoseconds(model.down.transfer_s(worker, share))
    return seconds(
        model.down.arrival_ns(
            worker, nanoseconds(start_s), alone_ns, share, () if model.faults is None else (model.faults.link(worker),)
        )
    )


def test_steps_take_the_time_of_the_row_above_them():
    model = cluster(devices={"trace": STEPS})
    assert model.step_s.tolist() == [0.5, 3.0]
    assert [computed(model, 0, 0, steps) for steps in (1, 4, 5, 9, 10, 12)] == [0.5, 2, 3, 7, 8, 8.5]
    assert [computed(model, 0, start_s, 10) for start_s in (8, 100)] == [10.5, 102.5]
    assert computed(model, 0, 1.0, 4) == 4  # two of half a second, two of one
    assert (computed(model, 1, 7, 10), model.pace(1)) == (37, model.pace(1))
    assert list(model.pace(1) or ()) == []


def test_before_its_first_row_a_worker_is_as_at_it():
    later = cluster(devices={"trace": [[2, 0, 0.5], [4, 0, 2.0]]})
    assert [computed(later, 0, 0, steps) for steps in (4, 8, 9)] == [2, 4, 6]


def test_a_trace_begins_anew():
    model = cluster(devices={"trace": STEPS, "repeat_every": "10s"})
    assert computed(model, 0, 8, 13) == 13  # eight of a quarter until 10, four of half a second until 12, one of one
    assert [computed(model, 0, 10 * turn, 10) for turn in range(5)] == [10 * turn + 8 for turn in range(5)]
    assert computed(model, 1, 5, 10) == 35
    factors = [(seconds(each.start_ns), each.factor) for each in itertools.islice(model.pace(0) or (), 4)]
    assert factors == [(2, 2), (8, 0.5), (12, 2), (18, 0.5)]


def test_rows_that_say_the_same_change_nothing():
    constant = PaceTrace([(0, time_s, 0.3) for time_s in range(10)], repeat_every=20.0)
    assert list(constant.episodes(0)) == []
    assert constant.fastest(0) == 1
    halting = PaceTrace([(0, 0, 0.4), (0, 3, 0.2), (0, 5, 0.8)])
    assert (halting.fastest(0), halting.fastest(7)) == (0.5, 1)
    assert list(halting.episodes(0)) == [Episode(3 * 10**9, 5 * 10**9, 0.5), Episode(5 * 10**9, math.inf, 2)]


def test_a_slow_down_of_a_measured_worker_multiplies():
    slow = {"trace": [[0, 1, "slow 3"], [0, 4, "normal"]]}
    model = cluster(devices={"trace": [[0, 0, 0.5], [2, 0, 1.0], [0, 1, 3.0]]}, faults=slow)
    # Two steps until 1; two thirds of one until 2, at 1.5 s; two thirds until 4, at 3 s; two thirds are left, at 1 s.
    assert computed(model, 0, 0, 4) == pytest.approx(4 + 2 / 3, abs=2e-9)
    assert computed(model, 1, 0, 4) == 12


def test_without_a_trace_faults_are_what_disturbs_work():
    slow = {"slowdowns": {"time_between": "10s", "duration": "5s", "factor": 2}}
    model = cluster(faults=slow)
    assert model.faults is not None
    assert model.pace(1) is model.faults.slowdowns(1)
    assert cluster().pace(1) is None


def test_a_transfer_across_two_changes_of_rate():
    model = cluster(network=LINK)
    assert sent(model, 0) == 5.5  # 50 MB in 1 s, 30 MB in 3 s, 20 MB in 1 s; half a second of latency
    assert sent(model, 0, share=0.5) == 1.5
    assert sent(model, 4) == 9.5
    assert model.down.transfer_s(0) == 2.5  # at the first rate
    half = cluster(network=LINK | {"efficiency": 0.5})
    assert sent(half, 0) == 10.5  # 25 MB, 15 MB, and 60 MB in 6 s


def test_rates_are_of_a_direction_or_of_both():
    up_only = [[*row, "up"] for row in RATES]
    model = cluster(network=LINK | {"trace": up_only, "bandwidth": "1Gbit/s"})
    assert (model.down.rates(0), model.up.rates(1)) == (None, None)
    assert sent(model, 0) == 1.3  # 100 MB at 125 MB/s
    assert model.up.transmission_s.tolist() == [2.0, 0.8]
    assert sent(cluster(network=LINK | {"bandwidth": "1Gbit/s"}), 0, worker=1) == 1.3


def test_an_outage_stops_transmission_and_latency():
    def down(start_s: float, end_s: float) -> dict[str, Any]:
        return {"trace": [[0, start_s, "disconnect"], [0, end_s, "reconnect"]]}

    assert sent(cluster(network=LINK, faults=down(2, 3)), 0) == 6.0  # 70 MB until 4, 30 MB at 20 MB/s
    assert sent(cluster(network=LINK, faults=down(5.25, 6.25)), 0) == 6.5  # within the latency
    assert sent(cluster(network=LINK | {"latency": 0}, faults=down(5, 6)), 0) == 5.0


def test_a_measured_rate_that_stays_is_a_bandwidth():
    rate = {"latency": "20ms", "message_size": "3MB"}
    measured = cluster(network=rate | {"trace": [[7, 0, "10Mbit/s"]]})
    given = cluster(network=rate | {"bandwidth": "10Mbit/s"})
    assert [sent(measured, start_s, share) for start_s in (0, 9.5) for share in (1, 1 / 3)] == [
        sent(given, start_s, share) for start_s in (0, 9.5) for share in (1, 1 / 3)
    ]


def test_work_that_is_disturbed_too_often_is_told():
    model = cluster(devices={"trace": [[0, 0, 1.0], ["1us", 0, 2.0]], "repeat_every": "2us"})
    with pytest.raises(SimulationError, match=r"or between rows of traces, or shorter rounds"):
        computed(model, 0, 0, 10)


def test_episodes_of_a_trace_are_made_as_they_are_needed():
    endless = PaceTrace([(0, 0, 1.0), (0, 1, 2.0)], repeat_every=2.0)
    assert Episodes(endless.episodes(0)).work_ns(0, 1_000 * 2 * 10**9) == 1_000 * 1.5 * 10**9
