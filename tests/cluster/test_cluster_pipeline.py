"""Times of pipelines in closed form, against schedules in which every pass and every message is simulated."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.cluster import build_cluster
from simulator.cluster.pipeline import PipelineCosts, pipeline_costs
from simulator.experiment.schema.cluster import Cluster
from simulator.experiment.schema.inner import Inner
from simulator.experiment.schema.pipeline import AsynchronousStages, GPipeStages, PipelineTimes

SHARES = st.lists(st.sampled_from([1.0, 1.0, 2.0, 5.0]), min_size=1, max_size=6)
DURATIONS_S = st.sampled_from([0.0, 0.1, 0.5, 3.0])


class Pipeline(NamedTuple):
    """Times of a micro-batch: forward and backward passes of each stage, and of a message, which occupies its link."""

    forward_s: Sequence[float]
    backward_s: Sequence[float]
    latency_s: float
    occupied_s: float

    def end_s(self, orders: Sequence[Sequence[tuple[str, int]]]) -> float:
        """The end of all passes, each stage's of which begin in the given order, as soon as they can."""
        count, ends_s, free_s = len(orders), dict[tuple[str, int, int], float](), [0.0] * len(orders)
        arrived_s = {("F", 0, batch): 0.0 for _, batch in orders[0]}
        link_s = dict.fromkeys(itertools.product("FB", range(count)), 0.0)
        left = [list(order) for order in orders]
        while any(left):
            before = sum(map(len, left))
            for stage, order in enumerate(left):
                while order:
                    kind, batch = order[0]
                    turns = kind == "B" and stage == count - 1
                    ready = ends_s.get(("F", stage, batch)) if turns else arrived_s.get((kind, stage, batch))
                    if ready is None:
                        break
                    took_s = (self.forward_s if kind == "F" else self.backward_s)[stage]
                    free_s[stage] = end_s = ends_s[kind, stage, batch] = max(free_s[stage], ready) + took_s
                    link_s[kind, stage] = max(link_s[kind, stage], end_s) + self.occupied_s
                    to = stage + (1 if kind == "F" else -1)
                    arrived_s[kind, to, batch] = link_s[kind, stage] + self.latency_s
                    order.pop(0)
            assert sum(map(len, left)) < before, "it stands still"
        return max(ends_s.values())

    def asynchronous_s(self, batches: int) -> float:
        """One forward, one backward: stage i of P from 1 begins with P - i forward passes."""
        count = len(self.forward_s)
        return self.end_s([list(_one_forward_one_backward(count - 1 - stage, batches)) for stage in range(count)])

    def gpipe_s(self, batches: int) -> float:
        order = [(kind, batch) for kind in "FB" for batch in range(batches)]
        return self.end_s([order] * len(self.forward_s))


def _one_forward_one_backward(warm_up: int, batches: int) -> Iterator[tuple[str, int]]:
    yield from (("F", batch) for batch in range(min(warm_up, batches)))
    for batch in range(batches):
        if batch + warm_up < batches:
            yield "F", batch + warm_up
        yield "B", batch


def costs_of(kind: str, step_s: float, count: int, parts: int = 1, activations: float = 0.0, **times: Any) -> Any:
    stages: Any = (
        AsynchronousStages(kind="asynchronous", count=count, passes_per_update=parts)
        if kind == "asynchronous"
        else GPipeStages(kind="gpipe", count=count, micro_batches=parts)
    )
    made = pipeline_costs(stages, PipelineTimes(**times), np.array([step_s]), activations)
    return PipelineCosts(*(float(each[0]) for each in made))


def of_shares(shares: Sequence[float], step_s: float, parts: int, latency_s: float, occupied_s: float) -> Pipeline:
    whole_s = [step_s * share / sum(shares) / parts for share in shares]
    return Pipeline([each / 3 for each in whole_s], [2 * each / 3 for each in whole_s], latency_s, occupied_s)


def test_times_by_hand():
    """A step of 6 s on one device, in three stages of 2 s; or of 1.5, 3 and 1.5 s."""
    assert costs_of("asynchronous", 6.0, 3) == PipelineCosts(2.0, 4.0)
    assert costs_of("asynchronous", 6.0, 3, shares=[1, 2, 1]) == PipelineCosts(3.0, 6.0)
    assert costs_of("asynchronous", 6.0, 3, parts=2) == PipelineCosts(2.0, 2.0)  # micro-batches of 1 s
    # A micro-batch is back at the first stage after 6 s and four messages, and three are under way.
    assert costs_of("asynchronous", 6.0, 3, latency=0.3) == PipelineCosts((6 + 4 * 0.3) / 3, 2 * (6 + 4 * 0.3) / 3)
    assert costs_of("gpipe", 6.0, 3, parts=4) == PipelineCosts((4 + 3 - 1) / 4 * 2.0, 0.0)
    assert costs_of("gpipe", 6.0, 1, parts=4) == costs_of("asynchronous", 6.0, 1) == PipelineCosts(6.0, 0.0)


def test_activations_occupy_the_link():
    """8,000 elements of 2 bytes at 10 kB/s: 1.6 s for each of two halves is more than a stage's 1 s."""
    link: dict[str, Any] = {"bandwidth": "10kB/s", "bytes_per_element": 2.0, "activations": 16_000.0}
    made = costs_of("asynchronous", 6.0, 3, 2, **link)
    assert made.step_s == pytest.approx(2 * (3 + 4 * 1.6) / 3)
    assert costs_of("asynchronous", 6.0, 1, 2, **link) == PipelineCosts(6.0, 0.0)  # a single stage sends nothing
    assert math.isnan(costs_of("asynchronous", 6.0, 3, 2, **link | {"activations": math.nan}).step_s)


@given(st.integers(1, 6), st.sampled_from([1, 2, 3, 17]))
def test_an_asynchronous_pipeline_of_equal_stages_takes_exactly_that(count: int, batches: int):
    made, alike = costs_of("asynchronous", 6.0, count), of_shares([1.0] * count, 6.0, 1, 0.0, 0.0)
    assert made.fill_s + batches * made.step_s == pytest.approx(alike.asynchronous_s(batches))
    assert made.step_s == pytest.approx(6.0 / count)


@given(SHARES, st.integers(1, 3), DURATIONS_S, DURATIONS_S)
def test_an_asynchronous_pipeline_never_takes_longer_and_in_the_long_run_exactly_that(
    shares: list[float], parts: int, latency_s: float, occupied_s: float
):
    count, bandwidth = len(shares), f"{4.0 / occupied_s} B/s" if occupied_s else "unlimited"
    link = {"latency": latency_s, "bandwidth": bandwidth, "activations": float(parts)}
    made, real = (
        costs_of("asynchronous", 6.0, count, parts, shares=shares, **link),
        of_shares(shares, 6.0, parts, latency_s, occupied_s),
    )
    for updates in (1, 2, 7):
        assert real.asynchronous_s(updates * parts) <= made.fill_s + updates * made.step_s + 1e-9
    early, late = (real.asynchronous_s(updates * parts) for updates in (120, 180))  # 60 is a multiple of any cycle's
    assert (late - early) / 60 == pytest.approx(made.step_s)


@given(SHARES, st.integers(1, 7), DURATIONS_S, DURATIONS_S)
def test_gpipe_takes_exactly_that(shares: list[float], parts: int, latency_s: float, occupied_s: float):
    bandwidth = f"{4.0 / occupied_s} B/s" if occupied_s else "unlimited"
    link = {"latency": latency_s, "bandwidth": bandwidth, "activations": float(parts)}
    made = costs_of("gpipe", 6.0, len(shares), parts, shares=shares, **link)
    if len(shares) == 1:
        latency_s = occupied_s = 0.0
    assert made.step_s == pytest.approx(of_shares(shares, 6.0, parts, latency_s, occupied_s).gpipe_s(parts))


@pytest.mark.parametrize("state", ["keep", "reset"])
def test_a_pipeline_is_filled_once_or_in_every_round(state: str):
    cluster = Cluster.model_validate({"devices": {"seconds_per_step": [4.0, 8.0]}})
    stages = {"kind": "asynchronous", "count": 4}
    inner = Inner.model_validate({"learning_rate": 0.1, "batch_size": 1, "state": state, "stages": stages})
    model = build_cluster(cluster, parameters=1, flops_per_step=1.0, seed=0, inner=inner)
    assert model.step_s.tolist() == [1.0, 2.0]
    assert [model.filling_s(worker, 1.5, is_first=True) for worker in (0, 1)] == [1.5 * 3, 1.5 * 6]
    assert model.filling_s(1, 1.0, is_first=False) == (6.0 if state == "reset" else 0.0)
    plain = build_cluster(cluster, parameters=1, flops_per_step=1.0, seed=0)
    assert plain.filling_s(0, 1.0, is_first=True) == 0.0
