"""The clock counts whole nanoseconds: nothing depends on the unit in which times are given."""

import statistics
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cluster import ClusterModel, build_cluster, nanoseconds
from simulator.experiment import Experiment
from simulator.experiment.file import merge
from simulator.timeline import Asynchronous, Barrier, Event, NoProgressError, timeline_of
from tests.experiments import TINY, tiny
from tests.timeline.builders import cluster, events, timeline, updates


@pytest.mark.parametrize(("time_s", "time_ns"), [(0.3, 300_000_000), (3 * 0.1, 300_000_000), (1e-12, 1), (0.0, 0)])
def test_durations_are_rounded_to_nanoseconds_and_last_at_least_one(time_s: float, time_ns: int):
    counted = nanoseconds(time_s)
    assert (counted, type(counted)) == (time_ns, int)


@pytest.mark.parametrize("unit", [0.1, 1.0, 60.0])
def test_staleness_is_the_same_in_any_unit(unit: float):
    history = events(cluster([unit, 2 * unit, 3 * unit]), budget_local_steps=1200)
    assert round(statistics.mean(update.staleness[0] for update in updates(history)), 2) == 1.45


@pytest.mark.parametrize("unit", [0.001, 0.1, 1.0, 60.0])
def test_a_window_is_as_long_in_any_unit(unit: float):
    model = cluster([unit, 3 * unit])
    history = events(model, synchronization=Asynchronous(2 * unit), budget_local_steps=240)
    assert history[-1].time_ns == nanoseconds(360 * unit)


def test_a_round_of_three_tenths_ends_within_a_budget_of_as_many():
    history = events(cluster([0.1]), steps=[3], budget_s=0.3)
    assert [update.time_ns for update in updates(history)] == [300_000_000]


def test_a_round_that_ends_at_the_timeout_is_in_time():
    history = events(cluster([0.1, 0.05]), steps=[3, 3], synchronization=Barrier(timeout_s=0.3), budget_updates=20)
    assert {update.outcome for update in updates(history)} == {"applied"}


@pytest.mark.parametrize("scale", [0.01, 0.1, 60, 3600])
@pytest.mark.parametrize("grace_s", [0.0, 0.5])
def test_a_profile_has_one_order_of_events_at_every_scale(scale: float, grace_s: float):
    def history(scale: float) -> tuple[str, int]:
        settings = merge(TINY, {"synchronization": {"grace": grace_s * scale}, "budget": {"local_steps": 4000}})
        devices = {"profile": "very", "workers": 4, "scale": scale}
        return order_and_end(Experiment.model_validate(settings | {"cluster": {"devices": devices}}))

    (order, end_ns), (scaled, scaled_end_ns) = history(1), history(scale)
    assert (order, round(end_ns * scale)) == (scaled, scaled_end_ns)


def model_of(experiment: Experiment) -> ClusterModel:
    return build_cluster(experiment.cluster, parameters=1, flops_per_step=1.0, seed=experiment.seed)


def order_and_end(experiment: Experiment) -> tuple[str, int]:
    """The causal hash and the end in nanoseconds; of one that deadlocks, those by then."""
    each, last = timeline_of(experiment, model_of(experiment)), 0
    try:
        for event in each:
            last = event.time_ns
    except NoProgressError:
        pass
    return each.causal_hash, last


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, Any]:
    """Settings of an experiment whose times are whole milliseconds, in a unit of "ms" that a test replaces.

    Without slow-downs, which divide times: their rounding decides between events that would be at one instant.
    """
    workers = draw(st.integers(1, 4))

    def times(least: int, most: int) -> str:
        return f"{draw(st.integers(least, most))} ms"

    network: dict[str, Any] = {"latency": times(0, 20), "message_size": "1kB"}
    if draw(st.booleans()):
        network["server_link"] = {"bandwidth": times(1, 5)}
    faults: dict[str, Any] = {}
    if draw(st.booleans()):
        often = {"time_between": {"kind": "constant", "value": times(50, 900)}}
        faults["crashes"] = often | {"repair": {"kind": "constant", "value": times(1, 90)}}
    if draw(st.booleans()):
        faults["message_loss"] = {"probability": 0.2, "timeout": times(1, 30), "attempts": 3}
    if draw(st.booleans()):
        outages = {"time_between": {"kind": "constant", "value": times(50, 900)}}
        faults["server_outages"] = outages | {"duration": {"kind": "constant", "value": times(1, 20)}}
    synchronization: dict[str, Any] = {"kind": "asynchronous", "grace": times(0, 60)}
    outer: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 1.0, "weight": 1.0}
    if draw(st.booleans()):
        synchronization = {"kind": "barrier", "timeout": times(1, 200), "quorum": 1}
    return {
        "seed": draw(st.integers(0, 3)),
        "data": {"shards": draw(st.integers(1, 3))},
        "cluster": {
            "devices": {"seconds_per_step": [times(1, 40) for _ in range(workers)]},
            "network": network,
            "server_update_time": times(0, 10),
            "faults": faults or None,
        },
        "inner": {"local_steps": draw(st.integers(1, 4))},
        "local_steps": {"kind": draw(st.sampled_from(["fixed", "dynamic"]))},
        "synchronization": synchronization,
        "outer": outer,
        "budget": {"local_steps": 150, "simulated_time": times(500, 2000)},
        "evaluate": {"every_local_steps": None, "every_simulated": times(30, 100), "takes": times(0, 20)},
    }


def scaled(settings: Any, factor: float) -> Any:
    """The settings with each "n ms" as n milliseconds times the factor; of a bandwidth, in which a message takes so."""
    if isinstance(settings, dict):
        return {
            key: {"bandwidth": f"{1000 / scaled(value['bandwidth'], factor)!r}B/s"}
            if key == "server_link"
            else scaled(value, factor)
            for key, value in settings.items()
        }
    if isinstance(settings, list):
        return [scaled(value, factor) for value in settings]
    if isinstance(settings, str) and settings.endswith(" ms"):
        return int(settings[:-3]) * factor / 1000
    return settings


def assert_scaled(world: dict[str, Any], factor: float) -> None:
    one, other = tiny(**scaled(world, 1)), tiny(**scaled(world, factor))
    (order, end_ns), (scaled_order, scaled_end_ns) = order_and_end(one), order_and_end(other)
    assert order == scaled_order
    assert scaled_end_ns == pytest.approx(end_ns * factor, abs=500 * max(1, factor))  # half a nanosecond a phase


@settings(max_examples=100)
@given(worlds(), st.sampled_from([0.001, 0.01, 0.1, 7, 10, 60, 3600]))
def test_an_experiment_that_is_scaled_in_time_has_the_same_order_of_events(world: dict[str, Any], factor: float):
    assert_scaled(world, factor)


@pytest.mark.parametrize("factor", [0.001, 0.1, 7, 3600])
@pytest.mark.parametrize("slow", [2, 5, 10])
def test_slow_downs_have_the_same_order_in_any_unit(slow: int, factor: float):
    often = {"time_between": {"kind": "constant", "value": "307 ms"}, "duration": "53 ms", "factor": slow}
    devices = {"seconds_per_step": ["17 ms", "23 ms", "41 ms"]}
    cluster = {"devices": devices, "network": {"latency": "3 ms"}, "faults": {"slowdowns": often}}
    synchronization = {"kind": "asynchronous", "grace": "29 ms"}
    budget = {"local_steps": 900}
    assert_scaled({"cluster": cluster, "synchronization": synchronization, "budget": budget}, factor)


def test_times_are_whole_numbers_in_every_event():
    history: list[Event] = events(cluster([0.1, 0.37], jitter=0.2, server_update_s=0.01), budget_s=5.0)
    times = [event.time_ns for event in history]
    times += [time for update in updates(history) for arrival in update.arrivals for time in arrival[1:6]]
    assert {type(time) for time in times} == {int}
    assert type(timeline(cluster([1.0]), budget_s=1.0).now_s) is float
