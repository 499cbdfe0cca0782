import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from simulator import Cache, ExperimentError, Setup, check, simulate
from simulator.data import DataOrder, TextDataset
from simulator.host.errors import SettingError
from simulator.learning import memory
from tests.experiments import outside, tiny

pytestmark = pytest.mark.usefixtures("mixed_dtypes")

CACHE = Cache()  # texts, models and compiled programs are shared by the tests of this file
WORDS = (["red", "green", "blue", "grey"], ["one", "two", "three", "four"], ["oak", "elm", "ash", "fir"])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folders of 40 documents each, of different words."""
    folder = tmp_path_factory.mktemp("corpus")
    random = np.random.default_rng(0)
    for number in range(120):
        words = random.choice(WORDS[number % 3], random.integers(4, 30))
        path = folder / f"{number % 3}/{number:03d}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(" ".join(words))
    return folder


def of_text(corpus, data, **changes):
    """The tiny experiment on the corpus."""
    text = {"source": "text", "files": f"{corpus}/*/*.txt", "validation_fraction": 0.2} | data
    return tiny(data=text, **({"evaluate": {"windows": 20}} | changes))


def bits_of(corpus):
    """Returns what training from the host and from the device gives."""
    partition = {"kind": "dirichlet", "alpha": 1.0, "groups": {"kind": "folder"}}
    settings = {
        "inner": {"optimizer": "sgd", "learning_rate": 0.5},  # compiles fast
        "pretrain": {"steps": 7, "batch_size": 3},
        "budget": {"local_steps": 60},
        "compute": {"lanes": 2},
    }
    experiments = [of_text(corpus, {"feed": feed, "partition": partition}, **settings) for feed in ("host", "device")]
    assert [dict(Setup(experiment, CACHE).arrays()).keys() for experiment in experiments] == [set(), {"tokens"}]
    found = []
    for trainer in ("serial", "batched"):
        for experiment in experiments:
            record = simulate(experiment, trainer=trainer, cache=CACHE)
            summary = record.summary
            found.append([summary["parameters_hash"], record.evaluations["loss"].tolist(), summary["data"]])
    return found


def test_training_from_the_host_gives_the_bits_of_training_on_the_device(corpus):
    """As compilers are set for users: they decide what is computed in one go, and so what is rounded."""
    code = "import json\nfrom tests.simulation.test_text_simulation import bits_of\n"
    code += f"print(json.dumps(bits_of({str(corpus)!r})))"
    environment = outside() | {"XLA_FLAGS": ""}
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, env=environment, capture_output=True, text=True
    ).stdout
    serial_host, serial_device, batched_host, batched_device = json.loads(printed)
    assert serial_host == serial_device
    assert batched_host == batched_device
    for _, losses, _ in (serial_host, batched_host):
        assert losses[-1] < losses[0]


def test_auto_goes_by_a_quarter_of_the_memory(corpus, monkeypatch):
    experiment = of_text(corpus, {"feed": "auto"})
    for limit, on_host in ((1e9, False), (100.0, True)):
        monkeypatch.setattr(memory, "resident_bytes", lambda of_host, limit=limit: limit)
        dataset = Setup(experiment).dataset
        assert isinstance(dataset, TextDataset)
        assert (dataset.on_host is not None) == on_host


def rounds_of_shards(experiment) -> list[int]:
    record = simulate(experiment, trainer="null", cache=CACHE)
    return np.bincount(record.rounds["shard"], minlength=experiment.shards).tolist()


def test_shards_are_chosen_in_proportion_to_their_sizes(corpus):
    budget = {"local_steps": 4000}
    uneven = of_text(corpus, {"partition": {"kind": "iid", "sizes": [1, 2, 5]}, "shards": 3}, budget=budget)
    sizes = np.array(Setup(uneven, CACHE).dataset.shard_sizes)
    np.testing.assert_allclose(sizes / sizes.sum(), [1 / 8, 2 / 8, 5 / 8], atol=0.02)
    np.testing.assert_allclose(rounds_of_shards(uneven), 800 * sizes / sizes.sum(), atol=8)
    even = of_text(corpus, {"shards": 3}, budget=budget)
    np.testing.assert_allclose(rounds_of_shards(even), 800 / 3, atol=8)
    grouped = of_text(
        corpus, {"partition": {"kind": "grouped", "groups": {"kind": "folder"}}, "shards": 2}, budget=budget
    )
    assert max(rounds_of_shards(grouped)) == pytest.approx(800 * 2 / 3, abs=60)


def test_a_shards_part_of_the_budget_and_of_pretraining_goes_by_its_size(corpus):
    settings = {
        "inner": {"schedule": {"kind": "cosine"}},
        "budget": {"local_steps": 4000},
        "pretrain": {"steps": 40, "batch_size": 1},
    }
    partition = {"partition": {"kind": "iid", "sizes": [1, 2, 5]}, "shards": 3}
    by_size, fixed = (
        of_text(corpus, partition, shard_choice={"kind": kind}, **settings) for kind in ("proportional", "fixed")
    )
    sizes = np.array(Setup(by_size, CACHE).dataset.shard_sizes)
    orders = [DataOrder(Setup(by_size, CACHE).dataset, batch, by_size.seed) for batch in (1, by_size.inner.batch_size)]
    for shard, size in enumerate(sizes.tolist()):
        for experiment, end in ((by_size, -(-4000 * size // sizes.sum())), (fixed, -(-4000 // 3))):
            rates = Setup(experiment, CACHE).round_data().rates(shard, 0, 4000)
            assert np.flatnonzero(rates < 1e-9)[0] == pytest.approx(end, abs=2)
        visits = 40 * size / sizes.sum()
        pretrained = orders[0].batches(shard, 0, int(visits)).ravel()
        first = Setup(by_size, CACHE).round_data().order(shard, 0, 1)
        assert not set(pretrained) & set(first.ravel())
        steps = -(-np.array([np.floor(visits), np.ceil(visits)]) // by_size.inner.batch_size)
        assert any(np.array_equal(first, orders[1].batches(shard, int(step), 1)) for step in steps)


def test_a_warm_up_that_a_small_shard_would_not_get_beyond_is_refused(corpus):
    partition = {"partition": {"kind": "iid", "sizes": [1, 2, 5]}, "shards": 3}
    settings = {"inner": {"schedule": {"kind": "cosine", "warmup_steps": 130}}, "budget": {"local_steps": 1000}}
    with pytest.raises(
        SettingError, match=r"^inner\.schedule\.warmup_steps = 130: must be below 12\d, the part .* shard 0: "
    ):
        _ = Setup(of_text(corpus, partition, **settings), CACHE).dataset
    _ = Setup(of_text(corpus, partition, shard_choice={"kind": "fixed"}, **settings), CACHE).dataset
    settings["inner"]["schedule"]["warmup_steps"] = 120
    _ = Setup(of_text(corpus, partition, **settings), CACHE).dataset


def test_the_timeline_of_even_shards_reads_no_data():
    experiment = of_text("nowhere", {"partition": {"kind": "iid"}})
    assert len(simulate(experiment, trainer="null").rounds) > 0
    uneven = of_text("nowhere", {"partition": {"kind": "iid", "sizes": [1, 1, 1, 2]}})
    with pytest.raises(ExperimentError, match=r"^data\.files = 'nowhere/\*/\*\.txt': matches no file"):
        simulate(uneven, trainer="null")


@pytest.mark.parametrize(
    ("changes", "key", "value"),
    [
        ({"inner": {"batch_size": 900}}, "inner.batch_size", 900),
        ({"pretrain": {"steps": 1, "batch_size": 901}}, "pretrain.batch_size", 901),
    ],
)
def test_a_batch_of_more_examples_than_a_shard_has_is_an_error(corpus, changes, key, value):
    experiment = of_text(corpus, {}, **changes)
    with pytest.raises(SettingError) as caught:
        _ = Setup(experiment, CACHE).dataset
    smallest = min(Setup(of_text(corpus, {}), CACHE).dataset.shard_sizes)
    assert str(caught.value) == (
        f"{key} = {value}: the smallest of 4 shards has only {smallest} examples: use a smaller batch, a shorter "
        "model.context, fewer data.shards, or more data"
    )
    assert [problem.key for problem in check(experiment, CACHE)] == [key]


def test_a_batch_as_large_as_the_smallest_shard_is_enough(corpus):
    smallest = min(Setup(of_text(corpus, {}), CACHE).dataset.shard_sizes)
    for changes in (
        {"inner": {"batch_size": smallest}},
        {"pretrain": {"steps": 0, "batch_size": smallest + 1}},
    ):
        _ = Setup(of_text(corpus, {}, **changes), CACHE).dataset
    with pytest.raises(SettingError, match=f"^inner.batch_size = {smallest + 1}: "):
        _ = Setup(of_text(corpus, {}, inner={"batch_size": smallest + 1}), CACHE).dataset
