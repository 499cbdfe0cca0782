import jax
import numpy as np
import pytest

from simulator.data import DataOrder
from simulator.data.synthetic import load_synthetic
from simulator.experiment.schema.data import SyntheticData
from simulator.host.random_streams import data_stream, jax_key, numpy_stream


def test_the_draws_of_a_device_stay_as_they_are():
    assert numpy_stream(0, "jitter").integers(2**62, size=2).tolist() == [4004237252956217501, 469572094320764701]
    assert numpy_stream(7, "message loss", 3).random(2).tolist() == [0.3702489321875764, 0.697239150129568]


def test_the_draws_of_the_data_stay_as_they_are():
    drawn = data_stream("clusters of points").integers(2**62, size=2).tolist()
    assert drawn == [252637237941951833, 2466777038367707312]


def test_the_order_of_a_shard_stays_as_it_is():
    data = SyntheticData(source="synthetic", vocabulary=8, tokens=1000, validation_tokens=100)
    order = DataOrder(load_synthetic(data, shards=2, context=9), batch_size=4, seed=5)
    np.testing.assert_array_equal(order.batch(1, 30), [586, 739, 694, 577])


@pytest.mark.parametrize(
    ("seed", "purpose", "key"),
    [
        (0, "rounds", [3463406783, 2035195186]),
        (3, "initial parameters", [2154062755, 228471249]),
        (2**31 - 1, "pretraining", [268301417, 3008547250]),
    ],
)
def test_the_keys_of_training_stay_as_they_are(seed, purpose, key):
    assert jax.random.key_data(jax_key(seed, purpose)).tolist() == key
