"""Independent experts: shards from routers, and evaluations that route."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from simulator import Cache, ExperimentError, Setup, check, load, simulate
from simulator.data import DataOrder
from simulator.experiment.file import merge
from simulator.learning.routers import Routers, partition_of, router_model
from simulator.simulation.simulate import Simulation
from simulator.verify import verify
from tests.experiments import TINY
from tests.killed_runs import CLASSIFIER

pytestmark = pytest.mark.usefixtures("mixed_dtypes")

CACHE = Cache()
CONTEXT, PREFIX = 16, 8
WORDS = (["red", "green", "blue", "grey"], ["1", "22", "333", "4444"])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents of letters and of digits, as long in all."""
    folder = tmp_path_factory.mktemp("corpus")
    random = np.random.default_rng(0)
    for number in range(80):
        text = " ".join(random.choice(WORDS[number % 2], 60))[:160]
        (folder / f"{number:03d}.txt").write_text(text)
    return folder


def experts(corpus: Path, workers: int = 2, **changes: Any) -> Any:
    """The method on the corpus, with more laid over it."""
    below = {
        "model": {"context": CONTEXT},
        "data": {"source": "text", "files": f"{corpus}/*.txt", "validation_fraction": 0.2},
        "cluster": {"devices": {"seconds_per_step": [1.0, 2.0, 3.0][:workers]}},
        "inner": {"optimizer": "sgd", "learning_rate": 0.5},
        "budget": {"local_steps": 40 * workers},
        "evaluate": {"every_local_steps": None, "windows": 50},
    }
    method = {"method": {"kind": "smalltalk", "prefix": PREFIX}}
    [point] = load(merge(merge(TINY, below), {"variants": {"experts": merge(method, changes)}}))
    return point.experiment


def windows_of(experiment: Any, examples: np.ndarray) -> np.ndarray:
    dataset = Setup(experiment, CACHE).dataset
    return np.asarray(dataset.fetch(dataset.arrays, dataset.gather(examples)))


def cross_entropy(model: Any, params: Any, windows: np.ndarray) -> np.ndarray:
    """Mean loss of each window, in numpy from the logits."""
    logits = np.asarray(model.logits(params, windows[:, :-1]), np.float64)
    log_sums = np.log(np.exp(logits).sum(axis=-1))
    return (log_sums - np.take_along_axis(logits, windows[:, 1:, None], axis=-1)[..., 0]).mean(axis=-1)


def test_one_expert_is_plain_training(corpus: Path):
    """Bit for bit what a worker does whose server takes all of its progress, on the same windows."""
    alone = Simulation(experts(corpus, 1), cache=CACHE)
    plain = {"data": {"partition": {"kind": "iid"}}, "topology": {"kind": "server"}, "evaluate": {"of": "consensus"}}
    served = Simulation(experts(corpus, 1, **plain), cache=CACHE)
    losses = [each.run().evaluations["loss"].tolist() for each in (alone, served)]
    assert losses[0] == losses[1]
    [expert] = alone.learner.params()
    jax.tree.map(np.testing.assert_array_equal, expert, served.learner.params())
    assert losses[0][-1] < losses[0][0]


def test_every_expert_trains_on_its_own_windows_alone(corpus: Path):
    experiment = experts(corpus)
    simulation = Simulation(experiment, cache=CACHE)
    record = simulation.run()
    setup = Setup(experiment, CACHE)
    order = DataOrder(setup.dataset, experiment.inner.batch_size, experiment.seed)
    gradient = jax.jit(jax.grad(lambda params, batch: setup.model.loss(params, batch, None)))
    for worker, found in enumerate(simulation.learner.params()):
        params = setup.start()
        done = int(record.rounds.query(f"worker == {worker}")["local_steps"].sum())
        assert done >= 20
        for step in range(done):
            batch = windows_of(experiment, order.batch(worker, step))
            params = jax.tree.map(lambda leaf, g: leaf - np.float32(0.5) * g, params, gradient(params, batch))
        jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5), found, params)
    assert record.summary["bytes_sent"] == 0


def test_a_routed_evaluation_is_the_loss_of_the_expert_that_the_routers_choose(corpus: Path):
    """Routers and experts in numpy from their logits, window by window."""
    experiment = experts(corpus, evaluate={"per_shard": True})
    simulation = Simulation(experiment, cache=CACHE)
    record = simulation.run()
    setup = Setup(experiment, CACHE)
    partition = partition_of(experiment)
    assert partition is not None
    routers = Routers(experiment, partition, setup.loaded, setup.arrays())
    routers.train()
    evaluated = windows_of(experiment, setup.loaded.validation[:50])
    small = router_model(experiment, partition)
    scores = np.stack([cross_entropy(small, each, evaluated[:, : PREFIX + 1]) for each in routers.params], axis=1)
    chosen = scores.argmin(axis=1)
    each = np.stack([cross_entropy(setup.model, each, evaluated) for each in simulation.learner.params()], axis=1)
    expected = each[np.arange(50), chosen].mean()
    assert record.summary["final_loss"] == pytest.approx(expected, rel=1e-5)
    assert abs(each.mean() - expected) > 0.1  # of an expert that is not asked by its routers
    assert record.summary["evaluated"] == "experts"
    own = setup.dataset.shard_validation
    assert record.summary["evaluated_shard_windows"] == [min(len(windows), 50) for windows in own]
    of_shards = [
        cross_entropy(setup.model, params, windows_of(experiment, windows[:50])).mean()
        for params, windows in zip(simulation.learner.params(), own, strict=True)
    ]
    np.testing.assert_allclose(record.summary["final_shard_losses"], of_shards, rtol=1e-5)


def test_two_sources_are_told_apart_and_better_routed_than_the_mean_of_the_experts(corpus: Path):
    routed = experts(corpus)
    dataset = Setup(routed, CACHE).dataset
    letters = [(windows_of(routed, own) >= ord("a")).any(axis=1).mean() for own in dataset.shard_examples]
    assert max(letters) == 1.0
    assert min(letters) < 0.2  # what more there is of letters than fits the other shard
    assert dataset.facts["shard_divergence_bits"] > 0.5
    mean = simulate(experts(corpus, evaluate={"of": "consensus"}), cache=CACHE)
    asked = simulate(routed, cache=CACHE)
    assert mean.summary["evaluated"] == "mean of workers"
    assert asked.summary["final_loss"] < mean.summary["final_loss"] - 0.2


def test_routers_are_trained_once_and_as_the_seed_says(corpus: Path, monkeypatch: pytest.MonkeyPatch):
    shards = [Setup(experts(corpus, seed=seed), CACHE).dataset.shard_examples for seed in (0, 0, 7)]
    anew = Setup(experts(corpus), Cache()).dataset.shard_examples
    for shard in range(2):
        assert shards[0][shard] is shards[1][shard]
        np.testing.assert_array_equal(shards[0][shard], anew[shard])
    assert not np.array_equal(shards[0][0], shards[2][0])
    assert sorted(np.concatenate(shards[0])) == sorted(np.concatenate(shards[2]))

    def fail(*_: Any) -> None:
        raise AssertionError("a check trains no routers")

    monkeypatch.setattr(Routers, "train", fail)
    assert check(experts(corpus, seed=8), CACHE) == []
    record = simulate(experts(corpus, seed=8), trainer="null", cache=CACHE)
    assert "evaluated" not in record.summary


def test_text_that_stays_on_the_host_is_divided_alike(corpus: Path):
    few = {"kind": "routed", "assignments": 3, "steps": 2}
    found = []
    for feed in ("device", "host"):
        experiment = experts(corpus, data={"feed": feed, "partition": few})
        found.append([windows_of(experiment, own) for own in Setup(experiment, CACHE).dataset.shard_examples])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_record_of_experts_is_verified(corpus: Path):
    assert verify(simulate(experts(corpus, 3), cache=CACHE)) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"topology": {"kind": "server"}}, "evaluate.of = 'experts': needs workers with models of their own (server)"),
        ({"data": {"partition": {"kind": "iid"}}}, "evaluate.of = 'experts': asks routers, and there are none"),
        ({"data": {"shards": 3}}, "data.shards = 3: must be as many as workers, 2"),
        ({"shard_choice": {"kind": "proportional"}}, "shard_choice.kind = 'proportional': must be fixed"),
        ({"data": {"partition": {"heads": 3}}}, "data.partition.width: does not divide into 3 heads"),
    ],
)
def test_what_makes_no_sense_with_experts_is_refused_with_the_reason(corpus: Path, changes: Any, message: str):
    with pytest.raises(ExperimentError) as found:
        experts(corpus, **changes)
    assert message in str(found.value)


@pytest.mark.parametrize("below", [TINY, merge(TINY, CLASSIFIER)])
def test_data_without_first_tokens_to_tell_them_apart_are_refused_with_the_reason(below: Any):
    with pytest.raises(ExperimentError) as found:
        load(merge(below, {"variants": {"experts": {"method": "smalltalk"}}}))
    source = below["data"]["source"]
    assert f"unknown key of source {source}: it divides documents, or windows of text by their" in str(found.value)


@pytest.mark.parametrize(
    ("partition", "message"),
    [
        ({"prefix": 17}, "data.partition.prefix = 17: is longer than a window, which has model.context tokens, 16"),
        ({"windows": 1}, "data.partition.windows = 1: are not enough for 2 routers"),
    ],
)
def test_routers_that_do_not_fit_are_found_before_anything_is_trained(corpus: Path, partition: Any, message: str):
    [problem] = check(experts(corpus, data={"partition": partition}), CACHE)
    assert message in str(problem)


@pytest.mark.filterwarnings("ignore:overflow")
def test_routers_that_diverge_are_told(corpus: Path):
    experiment = experts(corpus, data={"partition": {"learning_rate": 1e30}})
    with pytest.raises(ExperimentError, match=r"data.partition.learning_rate = 1e\+30: lets a router's loss grow"):
        simulate(experiment, cache=CACHE)
