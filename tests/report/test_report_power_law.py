"""Power laws against numbers worked out by hand, another's fit of published losses, and their own claim to cover."""

import math

import numpy as np
import pytest

from simulator.report import ReportError
from simulator.report.power_law import power_law

# Tables 4 and 7 of arXiv 2503.09799: final losses, and the laws that are published for them.
PUBLISHED_PARAMETERS = np.array([35e6, 90e6, 180e6, 335e6, 550e6, 1.3e9, 2.4e9])
PUBLISHED = {
    "plain": ([3.485, 3.167, 2.950, 2.784, 2.653, 2.460, 2.326], 18.129, -0.0953),
    "M=1": ([3.482, 3.162, 2.943, 2.777, 2.645, 2.451, 2.317], 18.363, -0.0961),
    "M=2": ([3.508, 3.182, 2.957, 2.788, 2.657, 2.464, 2.323], 18.768, -0.0969),
    "M=4": ([3.554, 3.213, 2.981, 2.808, 2.673, 2.472, 2.332], 19.762, -0.0992),
    "M=8": ([3.621, 3.265, 3.019, 2.841, 2.698, 2.493, 2.351], 21.051, -0.1018),
}


def test_an_exact_law_is_recovered():
    x = np.array([1e4, 2e4, 4e4, 9e4])
    law = power_law(x, 18.0 * x**-0.095)
    assert law.coefficient == pytest.approx(18.0, rel=1e-12)
    assert (law.exponent, law.exponent_low, law.exponent_high) == pytest.approx((-0.095,) * 3, abs=1e-12)
    assert law.scatter == pytest.approx(0, abs=1e-14)
    np.testing.assert_allclose(law.at(np.array([1e9])), 18.0 * 1e9**-0.095, rtol=1e-12)
    np.testing.assert_allclose(law.band(x), [18.0 * x**-0.095] * 2, rtol=1e-12)


def test_numbers_worked_out_by_hand():
    """Logarithms to base e: u = 0, 1, 2 with log y = 0, 2, 1, so S = 2, a = 1/2, log A = 1/2, residuals -1/2, 1, -1/2.

    Their squares are 3/2, with one degree of freedom: s = sqrt(3/2), and t = tan(0.45 pi) = 6.3138 for 90 %.
    """
    e = math.e
    law = power_law(np.array([1, e, e**2]), np.array([1, e**2, e]), confidence=0.9)
    assert (law.exponent, law.coefficient) == pytest.approx((0.5, math.exp(0.5)))
    assert law.scatter == pytest.approx(math.sqrt(1.5))
    half = 6.313752 * math.sqrt(1.5) / math.sqrt(2)
    assert (law.exponent_low, law.exponent_high) == pytest.approx((0.5 - half, 0.5 + half), rel=1e-6)
    low, high = law.band(np.array([e, 1.0]))
    at_center, at_end = 6.313752 * math.sqrt(1.5 / 3), 6.313752 * math.sqrt(1.5 * (1 / 3 + 1 / 2))
    np.testing.assert_allclose(np.log(high), [1 + at_center, 0.5 + at_end], rtol=1e-6)
    np.testing.assert_allclose(np.log(low), [1 - at_center, 0.5 - at_end], rtol=1e-6)


def test_the_points_of_all_seeds_count_alike():
    """Two points at x = e, of log y = 1 and 3, and one each at 1 and e^2, of 0 and 4: a = 2, residuals 0, -1, 1, 0."""
    e = math.e
    law = power_law(np.array([1, e, e, e**2]), np.array([1, e, e**3, e**4]))
    assert (law.exponent, law.coefficient, law.scatter) == pytest.approx((2.0, 1.0, 1.0))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_losses_have_the_published_laws(name):
    """Only nominal numbers of parameters are published, hence the tolerance."""
    losses, coefficient, exponent = PUBLISHED[name]
    law = power_law(PUBLISHED_PARAMETERS, np.array(losses))
    assert law.exponent == pytest.approx(exponent, abs=1.5e-4)
    assert law.coefficient == pytest.approx(coefficient, rel=3e-3)
    assert law.exponent_low < exponent < law.exponent_high


def test_intervals_cover_as_often_as_they_claim():
    """3,000 draws: 80 % of them within three standard errors of a share, 2.2 %."""
    draw, x = np.random.default_rng(5), np.repeat([1e4, 2e4, 4e4, 8e4], 3)
    exact = 18.0 * x**-0.095
    laws = [power_law(x, exact * np.exp(0.02 * draw.standard_normal(x.size)), confidence=0.8) for _ in range(3000)]
    assert np.mean([law.exponent_low < -0.095 < law.exponent_high for law in laws]) == pytest.approx(0.8, abs=0.022)
    far = np.array([1e6])
    bands = [law.band(far) for law in laws]
    inside = [low[0] < 18.0 * 1e6**-0.095 < high[0] for low, high in bands]
    assert np.mean(inside) == pytest.approx(0.8, abs=0.022)
    assert np.mean([law.scatter for law in laws]) == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1, 2], [1, 2], r"^N has 2 values \(1, 2\), and a power law needs 3: give more runs, or no fit$"),
        ([2, 2, 2], [1, 2, 3], r"^N has 1 value \(2\), and"),
        ([0, 1, 2], [1, 2, 3], r"^N of a run is 0, and a power law goes through finite numbers above 0"),
        ([1, 2, 3], [1, -2, 3], r"^L of a run is -2, and"),
        ([1, 2, 3], [1, math.inf, 3], r"^L of a run is inf, and"),
        ([1, 2, 3], [1, math.nan, 3], r"^L of a run is nan, and"),
    ],
)
def test_points_without_a_law_are_refused(x, y, message):
    with pytest.raises(ReportError, match=message):
        power_law(np.array(x, dtype=float), np.array(y, dtype=float), names=("N", "L"))
