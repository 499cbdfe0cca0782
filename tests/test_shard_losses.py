import numpy as np
import pytest

from simulator import Workshop, simulate
from tests.experiments import tiny

WORKSHOP = Workshop()
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
    dataset = WORKSHOP.dataset(experiment)
    return float(WORKSHOP.model(experiment).loss(params, dataset.fetch(dataset.arrays, examples), None))


def test_every_shard_is_evaluated_on_held_out_documents_like_its_own(experiment):
    record = simulate(experiment, workshop=WORKSHOP)
    dataset = WORKSHOP.dataset(experiment)
    start = WORKSHOP.start(experiment)
    expected = [loss_of(experiment, start, np.resize(own, 12)) for own in dataset.shard_validation]
    assert [own.tolist() == sorted(own.tolist()) for own in dataset.shard_validation] == [False, False]
    losses = record.evaluations[["loss_shard_0", "loss_shard_1"]]
    np.testing.assert_allclose(losses.iloc[0], expected, rtol=1e-5)
    assert abs(expected[0] - expected[1]) > 1e-3
    assert losses.iloc[-1].tolist() == record.summary["final_shard_losses"]
    assert (losses.iloc[-1] < losses.iloc[0]).all()
    assert record.evaluations["loss"].iloc[-1] != losses.iloc[-1].mean()


def test_alike_shards_have_the_losses_of_all_held_out_documents(experiment):
    alike = experiment.data.model_copy(update={"partition": type(experiment.data).model_fields["partition"].default})
    record = simulate(experiment.model_copy(update={"data": alike}), workshop=WORKSHOP)
    losses = record.evaluations[["loss", "loss_shard_0", "loss_shard_1"]].to_numpy()
    np.testing.assert_allclose(losses[:, 1], losses[:, 0], rtol=1e-5)
    np.testing.assert_allclose(losses[:, 2], losses[:, 0], rtol=1e-5)


def test_a_shard_without_held_out_documents_has_no_loss(experiment):
    data = experiment.data.model_copy(update={"validation_fraction": 0.01})  # one document
    evaluate = experiment.evaluate.model_copy(update={"windows": 2})
    record = simulate(experiment.model_copy(update={"data": data, "evaluate": evaluate}), workshop=WORKSHOP)
    known = [loss is not None for loss in record.summary["final_shard_losses"]]
    assert sorted(known) == [False, True]
    assert record.evaluations[["loss_shard_0", "loss_shard_1"]].notna().to_numpy().tolist() == [known] * 3


def test_nothing_trained_no_losses(experiment):
    record = simulate(experiment, trainer="null", workshop=WORKSHOP)
    assert record.summary["final_shard_losses"] == [None, None]
    assert "final_shard_losses" not in simulate(tiny(**SETTINGS), trainer="null", workshop=WORKSHOP).summary
