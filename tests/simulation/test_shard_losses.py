import numpy as np
import pytest

from simulator import Cache, Setup, simulate
from tests.experiments import tiny

CACHE = Cache()
SETTINGS = {"inner": {"optimizer": "sgd", "learning_rate": 0.5}, "budget": {"local_steps": 40}}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Two shards of different words."""
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(60):
        path = folder / f"{number % 2}/{number:02d}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(("red green blue " if number % 2 else "one two three four ") * (3 + number % 5))
    data = {"source": "text", "files": f"{folder}/*/*.txt", "validation_fraction": 0.2, "shards": 2}
    partition = {"kind": "grouped", "groups": {"kind": "folder"}}
    evaluate = {"every_local_steps": 20, "windows": 12, "per_shard": True}
    return tiny(data=data | {"partition": partition}, evaluate=evaluate, **SETTINGS)


def loss_of(experiment, params, examples):
    dataset = Setup(experiment, CACHE).dataset
    return float(Setup(experiment, CACHE).model.loss(params, dataset.fetch(dataset.arrays, examples), None))


def test_every_shard_is_evaluated_on_held_out_documents_like_its_own(experiment):
    record = simulate(experiment, cache=CACHE)
    dataset = Setup(experiment, CACHE).dataset
    start = Setup(experiment, CACHE).start()
    expected = [loss_of(experiment, start, np.resize(own, 12)) for own in dataset.shard_validation]
    assert [own.tolist() == sorted(own.tolist()) for own in dataset.shard_validation] == [False, False]
    losses = record.evaluations[["loss_shard_0", "loss_shard_1"]]
    np.testing.assert_allclose(losses.iloc[0], expected, rtol=1e-5)
    assert abs(expected[0] - expected[1]) > 1e-3
    assert losses.iloc[-1].tolist() == record.summary["final_shard_losses"]
    assert (losses.iloc[-1] < losses.iloc[0]).all()
    assert record.evaluations["loss"].iloc[-1] != losses.iloc[-1].mean()


def test_windows_that_are_there_count_once_however_many_are_asked_for(experiment):
    few = experiment.model_copy(update={"evaluate": experiment.evaluate.model_copy(update={"windows": 500})})
    record = simulate(few, cache=CACHE)
    dataset, start = Setup(few, CACHE).dataset, Setup(few, CACHE).start()
    lengths = [len(own) for own in dataset.shard_validation]
    assert len(set(lengths)) == 2
    assert all(8 < length < 500 for length in lengths)
    assert record.summary["evaluated_windows"] == len(dataset.validation) < 500
    assert record.summary["evaluated_shard_windows"] == lengths
    first = record.evaluations[["loss", "loss_shard_0", "loss_shard_1"]].iloc[0]
    expected = [loss_of(few, start, own) for own in (dataset.validation, *dataset.shard_validation)]
    np.testing.assert_allclose(first, expected, rtol=1e-5)


def test_the_size_of_batches_does_not_change_what_is_evaluated():
    records = [
        simulate(tiny(evaluate={"windows": windows, "batch_size": batch_size}, **SETTINGS), cache=CACHE)
        for windows, batch_size in ((16, 16), (16, 3), (512, 64), (512, 249))
    ]
    assert [record.summary["evaluated_windows"] for record in records] == [16, 16, 249, 249]
    assert len({record.summary["parameters_hash"] for record in records}) == 1
    losses = [record.evaluations["loss"] for record in records]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    np.testing.assert_allclose(losses[3], losses[2], rtol=1e-5)
    assert not np.allclose(losses[2], losses[0], rtol=1e-3)
    assert "evaluated_windows" not in simulate(tiny(**SETTINGS), trainer="null", cache=CACHE).summary


def test_alike_shards_have_the_losses_of_all_held_out_documents(experiment):
    alike = experiment.data.model_copy(update={"partition": type(experiment.data).model_fields["partition"].default})
    record = simulate(experiment.model_copy(update={"data": alike}), cache=CACHE)
    losses = record.evaluations[["loss", "loss_shard_0", "loss_shard_1"]].to_numpy()
    np.testing.assert_allclose(losses[:, 1], losses[:, 0], rtol=1e-5)
    np.testing.assert_allclose(losses[:, 2], losses[:, 0], rtol=1e-5)


def test_a_shard_without_held_out_documents_has_no_loss(experiment):
    data = experiment.data.model_copy(update={"validation_fraction": 0.01})  # one document
    evaluate = experiment.evaluate.model_copy(update={"windows": 2})
    record = simulate(experiment.model_copy(update={"data": data, "evaluate": evaluate}), cache=CACHE)
    known = [loss is not None for loss in record.summary["final_shard_losses"]]
    assert sorted(known) == [False, True]
    assert record.evaluations[["loss_shard_0", "loss_shard_1"]].notna().to_numpy().tolist() == [known] * 3


def test_nothing_trained_no_losses(experiment):
    record = simulate(experiment, trainer="null", cache=CACHE)
    assert record.summary["final_shard_losses"] == [None, None]
    assert "final_shard_losses" not in simulate(tiny(**SETTINGS), trainer="null", cache=CACHE).summary
