"""Micro-batches whose number is given, or follows from what is trained: arrays, times, records."""

import itertools
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simulator import Cache, simulate
from simulator.experiment import Experiment, ExperimentError, load, registry
from simulator.experiment.file import merge
from simulator.experiment.schema.inner import Inner
from simulator.experiment.settings_without_effect import notes
from simulator.learning import Programs, Recipe, RoundData, Stretch, build_inner
from simulator.record import RunRecord
from simulator.simulation.simulate import Simulation
from simulator.sweep.reuse_plan import sharing
from simulator.timeline import Dispatched, NeedsTrainingError, NormTest
from simulator.verify import verify
from tests.experiments import tiny
from tests.killed_runs import CLASSIFIER
from tests.simulation.quadratic_cluster import RATE, START, Followed, H, experiment, gradient

CACHE = Cache()
ADAPTIVE = {"inner": {"micro_batches": {"start": 2, "threshold": 0.6, "most": 9}}}
# Of a classifier; a threshold at which the number grows several times.
GROWING = {"inner": {"batch_size": 2, "micro_batches": {"start": 2, "threshold": 0.4, "most": 30}}}
BARRIER = {"synchronization": {"kind": "barrier"}, "outer": {"weight": 1.0}}


@pytest.mark.parametrize(
    ("threshold", "noise_scale", "after"),
    [
        (0.5, 0.5, 2),  # 0.5 / 0.25 = 2
        (0.5, 0.75, 3),
        (0.5, 0.76, 4),
        (0.5, 0.75000001, 3),  # a whole number but for rounding
        (0.25, 0.5, 8),
        (0.1, 0.5, 20),  # 50, and there is room for 20
        (0.5, math.inf, 20),  # a variance, and a mean of zero
        (0.5, math.nan, 2),
        (0.5, 0.0, 2),
        (1e-200, 1.0, 20),
        (1e9, 1e9, 2),
        (None, 1e9, 2),
    ],
)
def test_the_norm_test_by_hand(threshold: float | None, noise_scale: float, after: int):
    assert NormTest(2, threshold, 20).enough(2, noise_scale) == after


def test_micro_batches_are_never_fewer_than_before():
    assert NormTest(2, 0.5, 20).enough(7, 0.5) == 7


def measured(targets: list[list[float]], x: float = 4.0) -> Any:
    """Result of a round of 0.5 |x - target|^2, a row of targets a step; every micro-batch has one example."""
    arrays = {"targets": jnp.array(targets, jnp.float32).reshape(-1)}
    recipe = Recipe(
        lambda params, batch, key: 0.5 * jnp.sum(jnp.square(params["x"] - batch)),
        lambda arrays, examples: arrays["targets"][examples],
        build_inner(Inner(optimizer="sgd", learning_rate=1.0, batch_size=1)),
    )
    order = lambda shard, first, count: np.arange(first, first + count, dtype=np.int32)[:, None]  # noqa: E731
    rates = lambda shard, first, steps: np.full(steps, 0.5, np.float32)  # noqa: E731
    data = RoundData(arrays, order, rates, 3, jax.random.key(0), micro_batches=4)
    stretch = Stretch(0, 0, 0, 0, len(targets), micro_batches=len(targets[0]))
    start = {"x": jnp.float32(x)}
    [(result, _)] = Programs(recipe).run(arrays, data.key, [data.inputs(stretch, start, recipe.initial_state(start))])
    return result


@pytest.mark.parametrize(
    ("targets", "x", "loss", "noise_scale"),
    [
        ([[1, 3]], 3.0, (4.5 + 0.5) / 2, 0.5),  # gradients 3 and 1: mean 2, variance 2; 4 - 2 / 2
        ([[1, 2, 3]], 3.0, (4.5 + 2 + 0.5) / 3, 0.25),  # 3, 2, 1: mean 2, variance 1
        ([[1, 3], [2, 0]], 2.0, (2.5 + (0.5 + 4.5) / 2) / 2, 0.5),  # 1 and 3, from 3
        ([[2, 2, 2]], 3.0, 2.0, 0.0),  # alike: no variance at all
        ([[3]], 3.5, 0.5, 0.0),  # alone
        ([[3, 5]], 4.0, 0.5, math.inf),  # 1 and -1: mean 0, variance 2
        ([[4, 4]], 4.0, 0.0, math.nan),
    ],
)
def test_gradients_of_micro_batches_by_hand(targets: list[list[float]], x: float, loss: float, noise_scale: float):
    result = measured(targets)
    assert float(result.params["x"]) == x
    assert float(result.loss) == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(float(result.noise_scale), noise_scale, rtol=1e-6)


def test_a_gradient_that_is_not_finite_is_no_measurement():
    assert math.isnan(float(measured([[1, math.inf]]).noise_scale))


def by_a_loop(step_s: list[float], rounds: int, threshold: float, most: int, fixed: float) -> tuple[Any, Any, Any]:
    """Parameters, micro-batches and times of the meetings of synchronous rounds."""
    x, count, seen, time_s = START.astype(float), 2, [0] * len(step_s), 0.0
    counts, times_s = [], []
    for _ in range(rounds):
        ends, needed = [], [count]
        for worker in range(len(step_s)):
            local = x
            for _ in range(H):
                batches = range(seen[worker], seen[worker] + count)
                gradients = np.array([gradient(worker, each, local) for each in batches])
                seen[worker] += count
                local = local - RATE * gradients.mean(axis=0)
            variance = gradients.var(axis=0, ddof=1).sum()
            needed.append(math.ceil(variance / (threshold**2 * np.square(gradients.mean(axis=0)).sum())))
            ends.append(local)
        x = np.mean(ends, axis=0)
        time_s += max(step_s) * H * (fixed + (1 - fixed) * count)
        counts.append(count)
        times_s.append(time_s)
        count = min(max(needed), most)
    return x, counts, times_s


@pytest.mark.parametrize("trainer", ["batched", "serial"])
@pytest.mark.parametrize(("threshold", "fixed"), [(1.0, 0.0), (0.7, 0.25)])
def test_adaptive_batches_are_their_loop(threshold: float, fixed: float, trainer: str):
    step_s = [1.0, 2.5, 1.0]
    settings = {"start": 2, "threshold": threshold, "most": 9, "overhead": fixed}
    made = Followed(experiment(step_s, {"inner": {"micro_batches": settings}}, rounds=4), trainer)
    x, counts, times_s = by_a_loop(step_s, 4, threshold, 9, fixed)
    assert len(set(counts)) > 1
    assert [update.arrivals[0].round.micro_batches for update in made.updates()] == counts
    assert [update.time_ns / 1e9 for update in made.updates()] == pytest.approx(times_s)
    np.testing.assert_allclose(made.params, x, rtol=1e-4, atol=1e-5)


def test_no_number_of_micro_batches_is_compiled_anew():
    made = Followed(experiment([1.0, 2.5, 1.0], ADAPTIVE, rounds=4))
    dispatched = [event.round for event in made.events if isinstance(event, Dispatched)]
    assert len({round.micro_batches for round in dispatched}) > 1
    assert made.setup.quadratic[0].compilations <= 3  # of 1, 2 and 4 lanes


def test_every_micro_batch_of_a_shard_is_taken_once_and_in_order():
    made = Followed(experiment([1.0, 2.5], ADAPTIVE, rounds=4))
    for shard in range(2):
        own = [event.round for event in made.events if isinstance(event, Dispatched) and event.round.shard == shard]
        taken = [(round.first_batch, round.first_batch + round.steps * round.micro_batches) for round in own]
        assert taken[0][0] == 0
        assert all(end == begin for (_, end), (begin, _) in itertools.pairwise(taken))


def test_offers_tell_how_many_tokens_they_are_of():
    with registry.emptied():

        class Tokens:
            def init(self, params: Any) -> tuple[()]:
                return ()

            def update(self, offers: Any, state: Any) -> tuple[Any, Any]:
                return jax.tree.map(lambda leaf: jnp.zeros_like(leaf) + offers.tokens.sum(), offers.trees[0]), state

        registry.register("aggregation", "tokens", Tokens)
        settings = {"inner": {"micro_batches": {"start": 3}}, "aggregation": {"kind": "tokens"}}
        made = Followed(experiment([1.0, 1.0], settings, rounds=1))
        np.testing.assert_allclose(made.params, START - 2 * 3 * H, rtol=1e-6)


# Whole runs.


def run(*changes: dict[str, Any], trainer: Any = None) -> RunRecord:
    tree = CLASSIFIER
    for each in changes:
        tree = merge(tree, each)
    return simulate(tiny(**tree), cache=CACHE, trainer=trainer)


@pytest.mark.parametrize("synchronization", [BARRIER, {}])
def test_a_number_that_never_grows_is_a_batch_as_large(synchronization: dict[str, Any]):
    """On devices for which a batch is as large as it takes long; a threshold that nothing passes leaves it as it is."""
    slow = {"cluster": {"devices": {"seconds_per_step": [1.16, 1.5, 3.02, 6.66]}}}
    whole = run(synchronization, slow, {"inner": {"batch_size": 6}})
    for bound in ({}, {"threshold": 1e9, "most": 8}):
        parts = run(synchronization, {"inner": {"batch_size": 3, "micro_batches": {"start": 2, **bound}}})
        columns = ["simulated_s", "local_steps", "tokens", "server_updates"]
        assert parts.evaluations[columns].equals(whole.evaluations[columns])
        np.testing.assert_allclose(parts.evaluations["loss"], whole.evaluations["loss"], rtol=1e-5)
        assert set(parts.rounds["micro_batches"]) == {2}
        assert parts.rounds["noise_scale"].isna().all() == (not bound)
        assert parts.summary["tokens"] == 6 * parts.summary["local_steps"]


REGIONS = {
    "kind": "regions",
    "regions": 2,
    "every_versions": 2,
    "latency": "500ms",
    "outer": {"optimizer": "sgd", "learning_rate": 1.0},
}


@pytest.fixture(scope="module")
def grown() -> dict[str, RunRecord]:
    """Records of runs in which micro-batches grow, of several kinds of meetings."""
    kinds: dict[str, dict[str, Any]] = {
        "barrier": BARRIER,
        "asynchronous": {},
        "buffer": {"outer": {"arrivals_per_update": 3, "staleness": {"kind": "threshold", "drop_above": 1}}},
        "regions": {"topology": REGIONS},
        "pulls": BARRIER | {"inner": {"pull": {"probability": 0.4}}},
        "fixed time": BARRIER | {"inner": {"micro_batches": {"overhead": 0.3}}},
    }
    records = {kind: run(GROWING, changes) for kind, changes in kinds.items()}
    tree = records["barrier"].experiment
    devices = {"accelerators": [{"name": "T4", "count": 2}, {"name": "H100", "count": 2}]}
    by_flops = Experiment.model_validate(tree | {"cluster": tree["cluster"] | {"devices": devices}})
    return records | {"FLOP/s": simulate(by_flops, cache=CACHE)}


def test_records_of_runs_whose_batches_grow_are_verified(grown: dict[str, RunRecord]):
    for kind, record in grown.items():
        assert verify(record) == [], kind
        assert record.rounds["micro_batches"].nunique() > 1, kind
        met = record.rounds["outcome"] != "dropped"
        assert (record.rounds["noise_scale"].notna() == met).all(), kind
        tokens = (record.rounds["local_steps"] * record.rounds["micro_batches"]).sum() * 2
        assert record.summary["tokens"] == record.evaluations["tokens"].iloc[-1] == tokens, kind


def test_forged_micro_batches_and_measurements_are_found(grown: dict[str, RunRecord]):
    for column, value, rules in (
        ("micro_batches", 3, {"micro-batches", "durations"}),
        ("noise_scale", 0.0, {"micro-batches"}),
    ):
        record = grown["barrier"]
        rounds = record.rounds.copy()
        rounds.loc[:3, column] = value
        forged = RunRecord(
            record.experiment,
            record.summary,
            rounds,
            record.evaluations,
            record.faults,
            record.updates,
            record.transfers,
        )
        assert {violation.rule for violation in verify(forged)} == rules


def test_serial_and_batched_training_have_one_timeline(grown: dict[str, RunRecord]):
    serial = run(GROWING, BARRIER, trainer="serial")
    assert serial.summary["causal_hash"] == grown["barrier"].summary["causal_hash"]
    np.testing.assert_allclose(serial.evaluations["loss"], grown["barrier"].evaluations["loss"], rtol=1e-4)


# Where nothing is trained.


def test_a_timeline_that_depends_on_training_is_refused_where_nothing_is_trained():
    message = r"inner.micro_batches.threshold = 0.4: times depend on what is trained, and nothing is: train"
    with pytest.raises(NeedsTrainingError, match=message):
        run(GROWING, BARRIER, trainer="null")
    record = run(BARRIER, {"inner": {"micro_batches": {"start": 3}}}, trainer="null")
    assert verify(record) == []
    assert set(record.rounds["micro_batches"]) == {3}


def test_nothing_is_shared_with_a_run_whose_timeline_needs_training():
    experiments = [tiny(**merge(merge(CLASSIFIER, GROWING), BARRIER)) for _ in range(2)]
    assert sharing(experiments, ["a", "b"], CACHE).groups(2) == [[0], [1]]
    assert Simulation(experiments[0], cache=CACHE).timeline.needs_training


FILE = Path("experiments/quickstart.yaml").resolve()
METHOD = "method={kind: adaptive_batch, threshold: 0.4}"


def test_commands_say_that_the_timeline_needs_training(tardigrad: Any):
    code, out, err = tardigrad("validate", str(FILE), METHOD, "--variant", "sync DiLoCo", "--no-data")
    assert code == 0
    assert "note: inner.micro_batches.threshold = 0.4: simulated times depend on what is trained" in out
    code, out, err = tardigrad("timeline", str(FILE), METHOD, "--variant", "sync DiLoCo")
    assert code == 1
    assert "inner.micro_batches.threshold = 0.4: times depend on what is trained, and nothing is" in err
    code, out, err = tardigrad("explain", "inner.micro_batches.threshold")
    assert "simulated times then depend on what is trained" in " ".join(out.split())
    code, out, err = tardigrad("methods", "adaptive_batch")
    assert "the timeline needs training" in " ".join(out.split())


def test_an_estimate_says_what_it_does_not_know(tardigrad: Any):
    _, out, _ = tardigrad("run", str(FILE), METHOD, "--variant", "sync DiLoCo", "--dry-run", "--rate", "1TFLOP/s")
    assert "cost: not known" in out
    assert "besides 1 point of which that is not known" in out
    one, three = (
        tardigrad("run", str(FILE), *more, "--variant", "sync DiLoCo", "--dry-run", "--rate", "1TFLOP/s")[1]
        for more in ([], ["inner.micro_batches={start: 3}"])
    )
    tokens = [next(line for line in out.splitlines() if line.startswith("to train:")) for out in (one, three)]
    assert tokens[0] != tokens[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": 0.5, "most": 4, "start": 1}, "inner.micro_batches.start = 1: must be at least 2"),
        ({"threshold": 0.5, "most": 4, "start": 5}, "inner.micro_batches.most = 4: is less than start, which is 5"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any], message: str):
    tree = experiment([1.0, 2.0]).model_dump(mode="json", exclude_unset=True)
    with pytest.raises(ExperimentError) as found:
        load(merge(tree, {"inner": {"micro_batches": changes}}))
    assert message in str(found.value)


def test_room_for_more_has_no_effect_without_a_threshold():
    [note] = notes(experiment([1.0], {"inner": {"micro_batches": {"most": 4}}}))
    assert note == "inner.micro_batches.most = 4: has no effect: there is no threshold"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": {"overlap": 2}}, "schedule: beside inner.micro_batches.threshold is not built"),
        ({"topology": {"kind": "nobody"}}, "topology.kind = 'nobody': beside inner.micro_batches.threshold"),
        ({"local_steps": {"kind": "dynamic"}}, "local_steps.kind = 'dynamic': beside inner.micro_batches.threshold"),
        ({"cluster": {"faults": {"trace": [[0, 1, "leave"]]}}}, "cluster.faults"),
    ],
)
def test_what_is_not_built_beside_the_norm_test_is_refused(changes: dict[str, Any], message: str):
    tree = experiment([1.0, 2.0], ADAPTIVE).model_dump(mode="json", exclude_unset=True)
    with pytest.raises(ExperimentError) as found:
        load(merge(tree, changes))
    assert message in str(found.value)
