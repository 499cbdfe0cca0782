import numpy as np
import pytest

from simulator.data import load_dataset
from simulator.data.routed_windows import balanced_assignment, routed_windows
from simulator.experiment.schema.data import SyntheticData

TEXT = SyntheticData(source="synthetic", vocabulary=4, concentration=1.0, tokens=500, validation_tokens=100)


@pytest.mark.parametrize(
    ("losses", "routers"),
    [
        # Window 2 comes first (0.4), then 1 (0.5), and router 0 is full; then 3 (0.9), and 0 finds room at router 1.
        ([[1.0, 2.0], [0.5, 3.0], [0.4, 0.6], [2.0, 0.9]], [1, 0, 0, 1]),
        # Whoever is lowest may choose, and not whoever has most to lose: window 0 would.
        ([[0.3, 9.0], [0.2, 0.25]], [1, 0]),
        ([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]], [0, 0, 1]),  # ties, and parts of two and one
        ([[5.0], [1.0]], [0, 0]),
        # Three routers, two windows each: 5, 4 fill router 2; 3 would too and takes router 0, its next; 0 takes 1.
        ([[3.0, 2.5, 2.9], [9.0, 3.5, 3.6], [7.0, 8.0, 6.0], [2.0, 2.1, 0.3], [4.0, 4.0, 0.2], [9.0, 9.0, 0.1]],
         [1, 1, 0, 0, 2, 2]),
    ],
)  # fmt: skip
def test_windows_choose_in_the_order_of_their_lowest_losses(losses, routers):
    assert balanced_assignment(np.array(losses, np.float32)).tolist() == routers


def test_training_windows_go_in_equal_parts_and_those_of_validation_as_they_like_it():
    dataset = load_dataset(TEXT, shards=2, context=8)
    thirds = lambda examples: np.stack([examples % 3, 0.5 + 0 * examples], axis=1).astype(np.float32)  # noqa: E731
    routed = routed_windows(dataset, thirds)
    windows, half = np.concatenate(dataset.shard_examples), len(dataset.shard_examples[0])
    first, others = windows[windows % 3 == 0], windows[windows % 3 > 0]
    assert len(first) < half < len(others)  # so that the last of the others find no room
    np.testing.assert_array_equal(routed.shard_examples[1], others[:half])
    np.testing.assert_array_equal(routed.shard_examples[0], sorted([*first, *others[half:]]))
    of_first = dataset.validation % 3 == 0
    np.testing.assert_array_equal(routed.shard_validation[0], dataset.validation[of_first])
    np.testing.assert_array_equal(routed.shard_validation[1], dataset.validation[~of_first])


def test_the_divergence_is_that_of_the_shards_tokens():
    dataset = load_dataset(TEXT, shards=2, context=8)
    routed = routed_windows(dataset, lambda examples: np.stack([examples, -examples], axis=1).astype(np.float32))
    counts = [np.zeros(4), np.zeros(4)]
    for shard, own in enumerate(routed.shard_examples):
        for first in own:
            for token in dataset.arrays["tokens"][first : first + 8]:
                counts[shard][token] += 1
    p, q = (each / each.sum() for each in counts)
    mean = (p + q) / 2
    expected = sum(float(each @ np.log2(each / mean)) for each in (p, q)) / 2
    assert routed.facts["shard_divergence_bits"] == pytest.approx(expected, rel=1e-9)
