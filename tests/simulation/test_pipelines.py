"""Clusters whose workers are pipelines: their learning against direct loops, their times, and what makes no sense."""

import dataclasses
import functools
from typing import Any

import numpy as np
import pytest

from simulator import Cache, load, simulate
from simulator.experiment import Experiment, ExperimentError
from simulator.experiment.file import merge
from simulator.experiment.settings_without_effect import notes
from simulator.learning import Setup
from simulator.simulation.checks import check, cluster_of
from simulator.sweep.reuse_plan import sharing
from simulator.timeline import Accepted
from simulator.verify import verify
from tests.experiments import tiny
from tests.killed_runs import CLASSIFIER
from tests.simulation.quadratic_cluster import RATE, START, WIDTH, Followed, H, experiment, gradient, nesterov

CACHE = Cache()
THREE = {"kind": "asynchronous", "count": 3}
DELAYS = (2, 1, 0)


def pipelines(step_s: list[float], *changes: dict[str, Any], rounds: int = 4, **stages: Any) -> Experiment:
    return experiment(step_s, {"inner": {"stages": THREE | stages}}, *changes, rounds=rounds)


class DelayedWorker:
    """A worker by a direct loop: SGD with Nesterov's momentum, each part's gradient at its own older version."""

    def __init__(self, number: int, momentum: float = 0.0):
        self.number, self.momentum = number, momentum
        self.m = np.zeros_like(START, float)
        self.history: list[np.ndarray] = []

    def trained(self, steps: int, x: np.ndarray) -> np.ndarray:
        for _ in range(steps):
            self.history.append(x)
            at = np.concatenate(
                [
                    self.history[max(len(self.history) - 1 - delay, 0)][stage * WIDTH : (stage + 1) * WIDTH]
                    for stage, delay in enumerate(DELAYS)
                ]
            )
            slope = gradient(self.number, len(self.history) - 1, at)
            self.m = slope + self.momentum * self.m
            x = x - RATE * (slope + self.momentum * self.m)
        return x


def test_one_worker_is_the_papers_pipeline_whatever_the_rounds():
    base = experiment([1.0], rounds=4).model_dump(mode="json", exclude_unset=True)
    tree = {key: value for key, value in base.items() if key not in ("synchronization", "outer", "inner")}
    method = {"kind": "nesterov_pipeline", "stages": 3, "optimizer": "sgd", "momentum": 0.8}
    tree["inner"] = {"learning_rate": RATE, "batch_size": 1, "local_steps": H, "arguments": {}}
    [point] = load(tree | {"method": method})
    made = Followed(point.experiment)
    expected = DelayedWorker(0, 0.8).trained(4 * H, START.astype(float))
    np.testing.assert_allclose(made.params, expected, rtol=1e-4, atol=1e-5)
    assert point.experiment.inner.stages == pipelines([1.0]).inner.stages


@pytest.mark.parametrize("trainer", ["batched", "serial"])
def test_diloco_of_pipelines_is_its_loop(trainer: str):
    outer = {"optimizer": "nesterov", "learning_rate": 0.7, "momentum": 0.9, "weight": 1.0}
    made = Followed(pipelines([1.0, 2.0], {"outer": outer}, rounds=5), trainer)
    workers, step = [DelayedWorker(0), DelayedWorker(1)], nesterov(0.7, 0.9)
    x, state = START.astype(float), None
    for _ in range(5):
        x, state = step(state, np.mean([x - worker.trained(H, x) for worker in workers], axis=0), x)
    np.testing.assert_allclose(made.params, x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("state", "fills"), [("keep", [1, 0, 0]), ("reset", [1, 1, 1])])
def test_rounds_take_the_steps_of_the_slowest_stage_and_the_fill(state: str, fills: list[int]):
    """Of 3 and 6 seconds in stages of 1/4, 2/4 and 1/4: 1.5 and 3 a step, and two more steps to fill."""
    changes = {"inner": {"state": state}, "cluster": {"pipeline": {"shares": [1, 2, 1]}}}
    made = Followed(pipelines([3.0, 6.0], changes, rounds=3))
    times_s = [update.time_ns / 1e9 for update in made.updates()]
    assert times_s == np.cumsum([3.0 * (H + 2 * fill) for fill in fills]).tolist()


def test_a_pipeline_is_filled_before_the_first_of_its_steps():
    """The first round has 2 s to fill and H = 6 steps of 1 s; its offer is accepted a step later, then every two."""
    overlap = {"schedule": {"fragments": 3, "overlap": 1, "composition": "by_size"}}
    made = Followed(pipelines([3.0], overlap, rounds=3))
    accepted_s = [event.time_ns / 1e9 for event in made.events if isinstance(event, Accepted)]
    assert accepted_s[:3] == [2 + 6 + 1, 2 + 6 + 3, 2 + 6 + 5]


def test_gpipe_takes_time_and_trains_like_one_device():
    plain = experiment([3.0, 6.0])
    inner = {"batch_size": 4, "stages": {"kind": "gpipe", "count": 3}}
    made = [experiment([3.0, 6.0], {"inner": inner}, {"inner": {"stages": {"micro_batches": n}}}) for n in (2, 4)]
    found = [Followed(each) for each in (*made, plain)]
    for each in found[:2]:
        np.testing.assert_array_equal(each.params, found[2].params)
    times_s = [each.updates()[0].time_ns / 1e9 for each in found]
    assert times_s == pytest.approx([H * 6 / 3 * (2 + 2) / 2, H * 6 / 3 * (4 + 2) / 4, H * 6])


def classifier(**changes: Any) -> Experiment:
    base = CLASSIFIER | {"synchronization": {"kind": "barrier"}, "model": {"kind": "mlp", "hidden": [8, 8]}}
    return tiny(**base | changes)


def test_gpipes_of_any_micro_batches_are_trained_once():
    stages = {"kind": "gpipe", "count": 3}
    inner = CLASSIFIER["inner"]
    made = [classifier(inner=inner | {"stages": stages | {"micro_batches": n}}) for n in (1, 2, 4)]
    plan = sharing([*made, classifier()], ["1", "2", "4", "plain"], CACHE)
    assert [plan.source(index) for index in (1, 2, 3)] == [(0, True)] * 3


def test_a_pipeline_with_links_is_a_transformers_and_its_record_is_verified():
    """Batch 4, context 8, width 16: 512 elements of 2 bytes at 1 kB/s take 1.024 s, twice in two periods."""
    changes = {
        "model": {"layers": 2},
        "inner": {"stages": {"kind": "asynchronous", "count": 2}},
        "cluster": {"pipeline": {"bandwidth": "1kB/s", "bytes_per_element": 2}},
        "synchronization": {"kind": "barrier"},
        "outer": {"weight": 1.0},
        "budget": {"local_steps": 40},
    }
    made = tiny(**changes)
    setup = Setup(made, CACHE)
    assert (setup.costs.activations, Setup(classifier(), CACHE).costs.activations) == (512, 0)
    np.testing.assert_allclose(
        cluster_of(made, setup.costs).step_s, (np.array([0.58, 0.75, 1.51, 3.33]) + 2 * 1.024) / 2
    )
    assert verify(simulate(made, cache=CACHE, trainer="null")) == []


@pytest.mark.parametrize(("state", "periods", "wrong"), [("keep", 5, 7), ("reset", 7, 5)])
def test_a_round_with_a_fill_too_much_or_too_few_is_found(state: str, periods: int, wrong: int):
    """The slowest worker's last round is five steps of 3.33 / 3 s, with the fill of a drained pipeline seven."""
    inner = CLASSIFIER["inner"] | {"stages": THREE, "state": state}
    record = simulate(classifier(inner=inner, budget={"local_steps": 60}), cache=CACHE, trainer="null")
    assert verify(record) == []
    rounds = record.rounds.copy()
    row = rounds.index[rounds["worker"] == 3][-1]
    took_s = rounds.loc[row, "push_start_s"] - rounds.loc[row, "compute_start_s"]
    assert took_s == pytest.approx(periods * 3.33 / 3)
    rounds.loc[row, "compute_start_s"] = rounds.loc[row, "push_start_s"] - wrong * 3.33 / 3
    forged = verify(dataclasses.replace(record, rounds=rounds))
    assert any("compute took" in each.message for each in forged)


def test_a_model_with_too_few_layers_is_told_before_a_run():
    made = classifier(inner=CLASSIFIER["inner"] | {"stages": {"kind": "asynchronous", "count": 4}})
    [problem] = check(made, CACHE)
    assert (problem.key, problem.value) == ("inner.stages.count", 4)
    assert "the model has 3 blocks or layers, which cannot be divided into 4 stages" in problem.message


def test_times_of_stages_that_are_not_there_are_noted():
    made = classifier(cluster={"devices": {"seconds_per_step": [1.0]}, "pipeline": {"latency": "1s"}})
    assert "cluster.pipeline.latency = 1.0: has no effect without inner.stages" in set(notes(made))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inner": {"stages": {"passes_per_update": 3}}}, "inner.stages.passes_per_update = 3: does not divide"),
        (
            {"inner": {"stages": {"kind": "gpipe", "count": 3, "micro_batches": 3}}},
            "inner.stages.micro_batches = 3: does not divide inner.batch_size, which is 4: change one",
        ),
        ({"inner": {"stages": {"count": 1, "adaptive_momentum": 0.9}}}, "has no effect on a single stage"),
        ({"inner": {"stages": {"count": 2, "correction_steps": 9}}}, "no stage's gradient is two or more updates late"),
        (
            {"inner": {"stages": {"correction_steps": 9}, "state": "reset"}},
            "counts a worker's updates, which inner.state: reset forgets",
        ),
        ({"inner": {"pull": {}}}, "inner.stages: beside inner.pull is not built: leave out one of them"),
        ({"cluster": {"pipeline": {"shares": [1, 2]}}}, "cluster.pipeline.shares: has 2 values for 3 stages"),
        ({"cluster": {"pipeline": {"bandwidth": "1MB/s"}}}, "and the model is an mlp: give latency alone"),
        ({"cluster": {"faults": {"message_loss": {"probability": 0.1}}}}, "cluster.faults"),
        ({"schedule": {"seconds": "9s"}}, "the first of an asynchronous pipeline takes longer"),
        ({"schedule": {"overlap": 1}, "inner": {"state": "reset"}}, "inner.state = 'reset': drains the pipeline"),
    ],
)
def test_pipelines_that_make_no_sense_are_refused_with_the_reason(changes: dict[str, Any], message: str):
    tree = experiment([1.0, 2.0]).model_dump(mode="json", exclude_unset=True)
    base = {"inner": {"batch_size": 4, "stages": THREE}}
    with pytest.raises(ExperimentError) as found:
        load(functools.reduce(merge, [base, changes], tree))
    assert message in str(found.value)
