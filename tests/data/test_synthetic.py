import math

import numpy as np
import pytest

from simulator.data import TextDataset, load_dataset
from simulator.data.synthetic import MarkovSource, markov_source
from simulator.experiment.schema.data import SyntheticData
from simulator.host.errors import SettingError


def small(**settings: object) -> SyntheticData:
    return SyntheticData(
        **{"source": "synthetic", "vocabulary": 12, "tokens": 6000, "validation_tokens": 900} | settings
    )


def load(data: SyntheticData, shards: int = 3, context: int = 16) -> TextDataset:
    dataset = load_dataset(data, shards=shards, context=context)
    assert isinstance(dataset, TextDataset)
    return dataset


def test_two_states_by_hand():
    # 0 -> 1 with probability 1/4, 1 -> 0 with probability 1/2: pi = (2/3, 1/3).
    source = MarkovSource.of(np.array([[0.75, 0.25], [0.5, 0.5]]))
    np.testing.assert_allclose(source.stationary, [2 / 3, 1 / 3], rtol=1e-12)
    by_hand = 2 / 3 * (0.75 * math.log(4 / 3) + 0.25 * math.log(4)) + 1 / 3 * math.log(2)
    assert source.entropy_rate == pytest.approx(by_hand, rel=1e-12)


def test_a_cycle_has_no_entropy_and_equal_rows_have_their_own():
    cycle = MarkovSource.of(np.roll(np.eye(4), 1, axis=1))
    np.testing.assert_allclose(cycle.stationary, 0.25)
    assert cycle.entropy_rate == 0.0
    np.testing.assert_array_equal(np.diff(cycle.sample(np.random.default_rng(0), 9).astype(int)) % 4, 1)
    assert MarkovSource.of(np.full((4, 4), 0.25)).entropy_rate == pytest.approx(math.log(4))


def test_the_text_is_as_predictable_as_the_entropy_rate_says():
    source = markov_source(small())
    tokens = source.sample(np.random.default_rng(3), 100_000)
    losses = -np.log(source.transitions[tokens[:-1], tokens[1:]])
    assert np.isfinite(losses).all()
    # Successive losses are correlated, so the standard error comes from the means of blocks.
    means = losses[: len(losses) // 100 * 100].reshape(100, -1).mean(axis=1)
    error = means.std() / math.sqrt(len(means))
    assert error < 0.02
    assert losses.mean() == pytest.approx(source.entropy_rate, abs=4 * error)
    frequencies = np.bincount(tokens, minlength=12) / len(tokens)
    np.testing.assert_allclose(frequencies, source.stationary, atol=0.02)


def test_the_stationary_probabilities_stay():
    source = markov_source(small(vocabulary=50))
    np.testing.assert_allclose(source.stationary @ source.transitions, source.stationary, atol=1e-12)
    assert source.stationary.sum() == pytest.approx(1)


def test_a_higher_concentration_is_harder_to_predict():
    best = [markov_source(small(concentration=value)).entropy_rate for value in (0.1, 1.0, 100.0)]
    assert best[0] < best[1] < best[2] < math.log(12)


def test_shards_are_chunks_of_the_text_and_validation_another_text():
    data = small()
    dataset = load(data)
    tokens = dataset.arrays["tokens"]
    text = markov_source(data).sample(
        np.random.default_rng(np.random.SeedSequence([*b"synthetic training text"])), 6000
    )
    windows = (2000 - 1) // 16
    for shard, examples in enumerate(dataset.shard_examples):
        assert len(examples) == windows
        chunk = text[2000 * shard : 2000 * shard + windows * 16]
        np.testing.assert_array_equal(dataset.fetch(dataset.arrays, examples)[:, :-1].ravel(), chunk)
    held_out = tokens[dataset.validation.min() :]
    assert len(held_out) == (900 - 1) // 16 * 16 + 1
    assert bytes(held_out[:30]) not in bytes(text)
    assert dataset.best_loss == markov_source(data).entropy_rate
    assert tokens.dtype == np.uint8


def test_the_same_settings_give_the_same_text_whatever_the_shards():
    first, second, other = load(small()), load(small(), shards=2), load(small(concentration=0.2))
    np.testing.assert_array_equal(load(small()).arrays["tokens"], first.arrays["tokens"])
    assert first.content_hash == second.content_hash
    assert first.content_hash != other.content_hash


@pytest.mark.parametrize(("vocabulary", "concentration", "steps"), [(8, 0.001, "inf"), (23, 0.01, r"\d\.\d+e\+04")])
def test_a_source_that_falls_apart_is_an_error(vocabulary, concentration, steps):
    with pytest.raises(
        SettingError,
        match=rf"^data\.concentration = {concentration}: .* about {steps} tokens and the text has 6000, .* higher",
    ):
        load(small(vocabulary=vocabulary, concentration=concentration))


def test_parts_that_are_never_left_have_no_stationary_probabilities():
    apart = MarkovSource.of(np.eye(3))
    assert apart.settling_steps == np.inf
    assert np.isnan(apart.stationary).all()


def test_an_extreme_concentration_is_an_error():
    with pytest.raises(SettingError, match=r"data\.concentration = 1e\+308: no probabilities can be drawn"):
        load(small(concentration=1e308))


def test_more_tokens_than_addresses_are_refused_before_they_are_drawn():
    with pytest.raises(SettingError, match=r"data = '2147484547 tokens': at most .* use fewer data\.tokens"):
        load(small(tokens=2**31 - 1))


def test_texts_too_short_for_a_window_are_errors():
    with pytest.raises(
        SettingError, match=r"model\.context = 3000: .* shards has only 2000: .* or more data\.tokens \(now 6000\)"
    ):
        load(small(), context=3000)
    with pytest.raises(
        SettingError, match=r"model\.context = 1000: .* text has only 900: .* more data\.validation_tokens \(now 900\)"
    ):
        load(small(), context=1000)
