import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from simulator.cluster import AUTHORS_STEP_S, PEAK_FLOPS, PROFILES, build_cluster, profile_step_s, step_seconds
from simulator.experiment.schema.cluster import Cluster
from simulator.experiment.schema.devices import Devices
from simulator.host.errors import SettingError

FLOPS_PER_STEP = 6e12


def step_s(seed: int = 0, **devices: object) -> np.ndarray:
    section: Devices = TypeAdapter(Devices).validate_python(devices)
    found = step_seconds(section, flops_per_step=FLOPS_PER_STEP, seed=seed)
    assert found.dtype == np.float64
    assert found.shape == (section.count,)
    return found


def drawn(workers: int, seed: int = 0, **distribution: object) -> np.ndarray:
    return step_s(seed, workers=workers, distribution=distribution)


def test_very_with_four_workers_is_exactly_the_authors_four():
    assert profile_step_s("very", 4).tolist() == [0.58, 0.75, 1.51, 3.33]


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 100])
def test_none_is_the_same_device_for_all(workers: int):
    assert profile_step_s("none", workers).tolist() == [0.58] * workers


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("workers", [2, 3, 4, 5, 16, 101])
def test_a_profile_spans_the_same_range_for_any_number_of_workers(profile: str, workers: int):
    times = profile_step_s(profile, workers)
    assert times[0] == pytest.approx(0.58, rel=1e-12)
    assert times[-1] == pytest.approx(0.58 * (3.33 / 0.58) ** PROFILES[profile], rel=1e-12)
    assert np.all(np.diff(times) >= 0)


def test_slowest_over_fastest_of_each_profile():
    spans = [round(float(np.divide(*profile_step_s(profile, 4)[[-1, 0]])), 1) for profile in PROFILES]
    assert spans == [1.0, 1.5, 2.4, 5.7]


def test_profiles_are_ordered_for_every_worker_but_the_fastest():
    times = np.array([profile_step_s(profile, 7) for profile in ("none", "slight", "moderate", "very")])
    assert np.all(np.diff(times[:, 1:], axis=0) > 0)


def test_seven_workers_halve_the_distances_between_four_in_the_logarithm():
    times = profile_step_s("very", 7)
    np.testing.assert_allclose(times[::2], AUTHORS_STEP_S, rtol=1e-12)
    np.testing.assert_allclose(times[1], math.sqrt(0.58 * 0.75), rtol=1e-12)


def test_one_worker_is_the_fastest():
    assert profile_step_s("very", 1).tolist() == [0.58]


def test_measured_seconds_for_each_or_for_all():
    assert step_s(seconds_per_step=["500ms", 2]).tolist() == [0.5, 2.0]
    assert step_s(seconds_per_step="500ms", workers=3).tolist() == [0.5] * 3


def test_relative_speeds_divide_the_step_time_of_speed_one():
    assert step_s(relative_speed=[1, 2, 0.5]).tolist() == [1.0, 0.5, 2.0]
    assert step_s(relative_speed=[1, 4], seconds_per_step="2s").tolist() == [2.0, 0.5]


def test_a_profile_with_a_scale():
    assert step_s(profile="very", scale=2).tolist() == [1.16, 1.5, 3.02, 6.66]
    assert len(step_s(profile="slight", workers=6)) == 6


def test_flops_by_hand():
    accelerators = [
        {"name": "A100", "count": 2},  # 6e12 / (312e12 * 0.4) s
        {"name": "T4", "utilization": 0.5},  # 6e12 / (65e12 * 0.5) s
        {"name": "mine", "peak": "10TFLOP/s", "utilization": 0.3},  # 6e12 / 3e12 s
    ]
    expected = [6 / 124.8, 6 / 124.8, 6 / 32.5, 2.0]
    np.testing.assert_allclose(step_s(accelerators=accelerators), expected, rtol=1e-14)


def test_a_peak_that_is_given_goes_before_the_table():
    assert step_s(accelerators=[{"name": "A100", "peak": "6TFLOP/s", "utilization": 1}]).tolist() == [1.0]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("A10O", "did you mean 'A100'?"),
        ("abacus", f"valid: {', '.join(PEAK_FLOPS)}"),
        ("rtx4090", "did you mean 'RTX 4090'?"),
    ],
)
def test_an_unknown_accelerator(name: str, hint: str):
    cluster = Cluster.model_validate({"devices": {"accelerators": [{"name": "T4"}, {"name": name}]}})
    with pytest.raises(SettingError) as caught:
        build_cluster(cluster, parameters=1, flops_per_step=1.0, seed=0)
    assert (caught.value.key, caught.value.value) == ("cluster.devices.accelerators.1.name", name)
    assert caught.value.message == (
        f"no built-in peak for this accelerator; {hint}; otherwise give its peak, such as peak: 312TFLOP/s"
    )


DISTRIBUTIONS = {
    "lognormal": {"kind": "lognormal", "median": 2, "sigma": 0.5},
    "uniform": {"kind": "uniform", "low": 1, "high": 3},
    "mixture": {"kind": "mixture", "seconds_per_step": [1, 2, 4], "weights": [1, 2, 1]},
}


@pytest.mark.parametrize("distribution", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_drawn_speeds_depend_on_the_seed_alone_and_not_on_the_other_workers(distribution: dict[str, object]):
    ten = drawn(10, seed=3, **distribution)
    assert drawn(10, seed=3, **distribution).tolist() == ten.tolist()
    assert drawn(14, seed=3, **distribution)[:10].tolist() == ten.tolist()
    assert drawn(10, seed=4, **distribution).tolist() != ten.tolist()


def test_lognormal_speeds_have_the_given_median_and_sigma():
    logarithms = np.log(drawn(2000, kind="lognormal", median=2, sigma=0.5))
    assert np.mean(logarithms) == pytest.approx(math.log(2), abs=5 * 0.5 / math.sqrt(2000))
    assert np.std(logarithms) == pytest.approx(0.5, rel=0.1)
    assert drawn(3, kind="lognormal", median=2, sigma=0).tolist() == [2.0] * 3


def test_uniform_speeds_fill_their_range():
    times = drawn(2000, kind="uniform", low=1, high=3)
    assert 1 <= times.min() < 1.01
    assert 2.99 < times.max() <= 3
    assert np.mean(times) == pytest.approx(2, abs=5 * math.sqrt(1 / 3 / 2000))


@pytest.mark.parametrize(("weights", "shares"), [(None, [1 / 3] * 3), ([1, 2, 5], [1 / 8, 2 / 8, 5 / 8])])
def test_mixtures_have_their_weights(weights: list[float] | None, shares: list[float]):
    times = drawn(2000, kind="mixture", seconds_per_step=[1, 2, 4], weights=weights)
    assert set(times) == {1.0, 2.0, 4.0}
    found = [np.mean(times == value) for value in (1, 2, 4)]
    np.testing.assert_allclose(found, shares, atol=5 * 0.5 / math.sqrt(2000))


@given(st.sampled_from(list(PROFILES)), st.integers(1, 300))
def test_every_profile_has_positive_ordered_times(profile: str, workers: int):
    times = profile_step_s(profile, workers)
    assert len(times) == workers
    assert times[0] > 0
    assert np.all(np.diff(times) >= 0)


def test_pareto_step_times_have_their_tail():
    found = drawn(20_000, kind="pareto", shortest=0.5, shape=2)
    assert found.min() >= 0.5
    for times in (2, 4, 10):
        assert np.mean(found > 0.5 * times) == pytest.approx(times**-2.0, abs=4 * times**-1.0 / math.sqrt(20_000))
    assert drawn(1000, kind="pareto", shortest=0.5, shape=0.5, longest=3).max() == 3


def test_zipf_step_times_are_multiples_with_zipfs_probabilities():
    found = drawn(20_000, kind="zipf", shortest="100ms", exponent=2) / 0.1
    assert np.allclose(found, np.rint(found))
    for multiple in (1, 2, 3):
        expected = 6 / math.pi**2 / multiple**2
        assert np.mean(np.rint(found) == multiple) == pytest.approx(expected, abs=0.02)
    assert drawn(1000, kind="zipf", shortest=0.5, exponent=1.1, longest="1min").max() == 60


@pytest.mark.parametrize("kind", ["pareto", "zipf"])
def test_the_longest_step_time_is_at_least_the_shortest(kind: str):
    with pytest.raises(ValueError, match=r"longest: must be at least shortest, which is 2.0 s"):
        drawn(3, kind=kind, shortest=2, longest=1, **({"shape": 1} if kind == "pareto" else {"exponent": 2}))


def test_how_slow_a_worker_is_does_not_depend_on_how_many_there_are():
    for distribution in ({"kind": "pareto", "shape": 1.5}, {"kind": "zipf", "exponent": 1.5}):
        few, many = (drawn(workers, shortest=1, **distribution) for workers in (3, 30))
        assert many[:3].tolist() == few.tolist()
        assert len(set(many.tolist())) > 3
