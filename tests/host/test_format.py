import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.host import format as human


@pytest.mark.parametrize(
    ("seconds", "text", "short"),
    [
        (0, "0 s", "0 s"),
        (0.05, "50 ms", "50 ms"),
        (0.58, "0.58 s", "0.58 s"),
        (12.34, "12.3 s", "12.3 s"),
        (59.94, "59.9 s", "59.9 s"),
        (59.96, "1 min", "60 s"),
        (1050, "17 min 30 s", "17.5 min"),
        (1020, "17 min", "17 min"),
        (3599.6, "1 h", "60 min"),
        (7500, "2 h 5 min", "2.08 h"),
        (86399, "1 d", "24 h"),
        (273600, "3 d 4 h", "3.17 d"),
        (-90, "-1 min 30 s", "-90 s"),
    ],
)
def test_durations(seconds, text, short):
    assert human.duration(seconds) == text
    assert human.short_duration(seconds) == short


@given(st.floats(0.1, 1e9))
def test_a_duration_says_what_it_is_to_one_percent(seconds):
    sizes = {"s": 1, "min": 60, "h": 3600, "d": 86400, "ms": 1e-3}
    parts = re.findall(r"([\d.,]+) (\w+)", human.duration(seconds))
    total = sum(float(number.replace(",", "")) * sizes[unit] for number, unit in parts)
    assert total == pytest.approx(seconds, rel=0.021)
    assert [unit for _, unit in parts] == sorted((unit for _, unit in parts), key=sizes.__getitem__, reverse=True)


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (human.byte_count, 0, "0 B"),
        (human.byte_count, 999, "999 B"),
        (human.byte_count, 999.6, "1 kB"),
        (human.byte_count, 64_000_000, "64 MB"),
        (human.byte_count, 3.456e9, "3.46 GB"),
        (human.byte_count, 5e21, "5,000 EB"),
        (human.count, 4025, "4,025"),
        (human.short_count, 950, "950"),
        (human.short_count, 1_024_000, "1.02 M"),
        (human.decimal, 1.196, "1.20"),
        (human.percent, 0.463, "46.3 %"),
        (human.ratio, 1.0, "1.00×"),  # noqa: RUF001 - the multiplication sign is meant
        (human.ratio, 0.0123, "0.012×"),  # noqa: RUF001 - the multiplication sign is meant
        (human.perplexity, 5.66349, "5.663"),
        (human.perplexity, 41.351, "41.35"),
        (human.perplexity, 1234.4, "1,234"),
        (human.perplexity, 12345678.0, "1.23e+07"),
    ],
)
def test_numbers(function, value, text):
    assert function(value) == text
    for unknown in (None, math.nan, math.inf):
        assert function(unknown) == human.UNKNOWN


def test_unknown_durations():
    for unknown in (None, math.nan, -math.inf):
        assert human.duration(unknown) == human.short_duration(unknown) == human.UNKNOWN
