"""Workers with batches of their own: arrays, times, tokens, records."""

from typing import Any

import numpy as np
import pytest

from simulator import Cache, simulate
from simulator.experiment import Experiment, ExperimentError, load
from simulator.experiment.file import merge
from simulator.learning import Setup
from simulator.record import RunRecord
from simulator.timeline import Dispatched
from simulator.verify import verify
from tests.experiments import TINY, tiny
from tests.killed_runs import CLASSIFIER
from tests.simulation.quadratic_cluster import RATE, START, Followed, H, experiment, gradient

CACHE = Cache()
BARRIER = {"synchronization": {"kind": "barrier"}, "outer": {"weight": 1.0}}


def by_a_loop(batches: list[int], rounds: int) -> np.ndarray:
    """Parameters after synchronous rounds whose steps take the mean gradient of so many micro-batches."""
    x, seen = START.astype(float), [0] * len(batches)
    for _ in range(rounds):
        ends = []
        for worker, count in enumerate(batches):
            local = x
            for _ in range(H):
                own = range(seen[worker], seen[worker] + count)
                seen[worker] += count
                local = local - RATE * np.mean([gradient(worker, each, local) for each in own], axis=0)
            ends.append(local)
        x = np.mean(ends, axis=0)
    return x


@pytest.mark.parametrize("trainer", ["batched", "serial"])
def test_steps_are_means_over_each_workers_own_batch(trainer: str):
    made = Followed(experiment([1.0, 2.5, 1.0], {"inner": {"batch_size": [4, 2, 6]}}, rounds=3), trainer)
    np.testing.assert_allclose(made.params, by_a_loop([2, 1, 3], 3), rtol=1e-4, atol=1e-5)
    rounds = [event.round for event in made.events if isinstance(event, Dispatched)]
    assert {(round.worker, round.micro_batches) for round in rounds} == {(0, 2), (1, 1), (2, 3)}
    assert made.setup.quadratic[0].compilations <= 3  # of 1, 2 and 4 lanes: none of a number of micro-batches


def run(*changes: dict[str, Any], trainer: Any = None) -> RunRecord:
    tree = CLASSIFIER
    for each in changes:
        tree = merge(tree, each)
    return simulate(tiny(**tree), cache=CACHE, trainer=trainer)


@pytest.mark.parametrize("meetings", [BARRIER, {}])
def test_a_list_of_one_size_is_that_size(meetings: dict[str, Any]):
    one, each = (run(meetings, {"inner": {"batch_size": size}}) for size in (4, [4, 4, 4, 4]))
    assert one.evaluations.equals(each.evaluations)
    assert one.rounds.equals(each.rounds)
    assert one.summary["parameters_hash"] == each.summary["parameters_hash"]


@pytest.mark.parametrize("meetings", [BARRIER, {}])
def test_tokens_are_those_of_each_workers_batches_and_measured_times_are_as_given(meetings: dict[str, Any]):
    sizes = [6, 4, 2, 4]
    own, even = (run(meetings, {"inner": {"batch_size": size}}) for size in (sizes, 4))
    assert verify(own) == []
    times = ["compute_start_s", "push_start_s", "update_s"]
    assert own.rounds[times].equals(even.rounds[times])
    expected = int((own.rounds["local_steps"] * own.rounds["worker"].map(dict(enumerate(sizes)))).sum())
    assert own.summary["tokens"] == own.evaluations["tokens"].iloc[-1] == expected
    serial = run(meetings, {"inner": {"batch_size": sizes}}, trainer="serial")
    np.testing.assert_allclose(serial.evaluations["loss"], own.evaluations["loss"], rtol=1e-4)


def test_devices_by_flops_take_time_in_proportion_to_their_batch():
    devices = {"accelerators": [{"name": "slow", "peak": "1MFLOP/s", "count": 4}]}
    tree = merge(merge(TINY, CLASSIFIER), {"inner": {"batch_size": [6, 4, 2, 4]}})
    tree["cluster"] = {"devices": devices}
    made = Experiment.model_validate(tree)
    record = simulate(made, cache=CACHE)
    assert verify(record) == []
    rounds = record.rounds
    step_s = (rounds["push_start_s"] - rounds["compute_start_s"]) / rounds["local_steps"]
    flops = Setup(made, CACHE).model.train_flops(1)
    for worker, size in enumerate([6, 4, 2, 4]):
        expected = size * flops / (1e6 * made.cluster.devices.accelerators[0].utilization)
        np.testing.assert_allclose(step_s[rounds["worker"] == worker], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": [4, 2]}, "inner.batch_size: has 2 values for 4 workers: give one for all, or one for each"),
        ({"batch_size": []}, "inner.batch_size: is empty: give one for all workers, or one for each"),
        (
            {"batch_size": [4, 2, 6, 4], "accumulation": 4},
            "inner.accumulation = 4: does not divide the greatest common divisor of batch_size, which is 2: change one",
        ),
        (
            {"batch_size": [4, 2, 6, 4], "micro_batches": {"start": 2}},
            "inner.micro_batches: beside a batch_size for each worker is not built: leave out one of them",
        ),
        (
            {"batch_size": [4, 2, 6, 4], "stages": {"kind": "asynchronous", "count": 1}},
            "inner.stages: beside a batch_size for each worker is not built",
        ),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], message: str):
    with pytest.raises(ExperimentError) as found:
        load(merge(TINY, {"inner": changes}))
    assert message in str(found.value)


def test_pretraining_needs_a_batch_of_its_own_beside_several():
    changes = {"inner": {"batch_size": [4, 2, 6, 4]}, "pretrain": {"steps": 2}}
    with pytest.raises(
        ExperimentError, match=r"pretrain.batch_size: is missing, and workers have batches of their own"
    ):
        load(merge(TINY, changes))
    assert load(merge(TINY, merge(changes, {"pretrain": {"batch_size": 8}})))
