import pickle

import pytest

from simulator.data import load_dataset
from simulator.experiment.schema.data import ClustersData, SyntheticData
from simulator.host.errors import SettingError

TEXT = SyntheticData(source="synthetic", vocabulary=4, concentration=1.0, tokens=500, validation_tokens=100)
POINTS = ClustersData(source="gaussian-clusters", dimension=2, points=100, evaluation_points=10)


@pytest.mark.parametrize(
    ("data", "shards", "context", "message"),
    [
        (TEXT, 0, 8, "data.shards = 0: there must be at least one shard"),
        (TEXT, 2, None, "model.context: source synthetic is text: give a context of at least 1 token"),
        (TEXT, 2, 0, "model.context = 0: source synthetic is text: give a context of at least 1 token"),
        (POINTS, 2, 8, "model.context = 8: source gaussian-clusters has no tokens: leave the context out"),
    ],
)
def test_arguments_that_do_not_fit_the_source(data, shards, context, message):
    with pytest.raises(SettingError) as caught:
        load_dataset(data, shards=shards, context=context)
    assert str(caught.value) == message


def test_an_error_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(SettingError("data.files", "*.txt", "matches no file")))
    assert (error.key, error.value, error.message) == ("data.files", "*.txt", "matches no file")
    assert str(error) == "data.files = '*.txt': matches no file"
