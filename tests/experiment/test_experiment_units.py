import math
import re
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from simulator.experiment.schema import units

DURATION = TypeAdapter(units.Duration)
FINITE = TypeAdapter(units.FiniteDuration)
SIZE = TypeAdapter(units.Size)
BANDWIDTH = TypeAdapter(units.Bandwidth)
FLOPS = TypeAdapter(units.Flops)
EVERY_KIND = {"duration": DURATION, "finite": FINITE, "size": SIZE, "bandwidth": BANDWIDTH, "flops": FLOPS}


def refusal(adapter: TypeAdapter[Any], value: object) -> str:
    with pytest.raises(pydantic.ValidationError) as caught:
        adapter.validate_python(value)
    return str(caught.value.errors()[0]["msg"]).removeprefix("Value error, ")


@pytest.mark.parametrize(
    ("adapter", "text", "expected"),
    [
        (DURATION, "3ns", 3e-9),
        (DURATION, "3us", 3e-6),
        (DURATION, "3\u00b5s", 3e-6),
        (DURATION, "3\u03bcs", 3e-6),
        (DURATION, "50ms", 0.05),
        (DURATION, "0.5s", 0.5),
        (DURATION, "2min", 120.0),
        (DURATION, "2h", 7200.0),
        (DURATION, "1d", 86400.0),
        (SIZE, "7B", 7.0),
        (SIZE, "500MB", 5e8),
        (SIZE, "2GiB", 2 * 1024.0**3),
        (BANDWIDTH, "1Gbit/s", 1.25e8),
        (BANDWIDTH, "125MB/s", 1.25e8),
        (BANDWIDTH, "8bit/s", 1.0),
        (BANDWIDTH, "1KiB/s", 1024.0),
        (FLOPS, "312TFLOP/s", 312e12),
        (FLOPS, "1.5PFLOP/s", 1.5e15),
        (FLOPS, "10FLOP/s", 10.0),
    ],
)
def test_a_quantity_in_base_units(adapter: TypeAdapter[float], text: str, expected: float):
    assert adapter.validate_python(text) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("text", ["50ms", " 50 ms ", "5e1ms", "50.ms", "+50ms", ".5e+2 ms", "50000us"])
def test_ways_to_write_the_same_duration(text: str):
    assert DURATION.validate_python(text) == pytest.approx(0.05, rel=1e-15)


@pytest.mark.parametrize("adapter", [DURATION, FINITE])
@pytest.mark.parametrize("bare", [3, 3.0, "3"])
def test_a_bare_number_is_in_seconds(adapter: TypeAdapter[float], bare: object):
    assert adapter.validate_python(bare) == 3.0


def test_a_bare_size_is_in_bytes():
    assert SIZE.validate_python(512) == 512.0


@pytest.mark.parametrize("bare", [5, 1e9, "5"])
def test_a_bare_bandwidth_or_speed_is_refused(bare: object):
    assert refusal(BANDWIDTH, bare) == "a bandwidth needs its unit: write for instance 1Gbit/s or 125MB/s"
    assert refusal(FLOPS, bare) == "a speed needs its unit: write for instance 312TFLOP/s"


@pytest.mark.parametrize(
    ("adapter", "text", "unit", "near"),
    [
        (DURATION, "5 sec", "sec", "s"),
        (DURATION, "5msec", "msec", "ms"),
        (DURATION, "5mins", "mins", "min"),
        (BANDWIDTH, "1GBit/s", "GBit/s", "Gbit/s"),
        (BANDWIDTH, "1Gbps", "Gbps", "Gbit/s"),
        (BANDWIDTH, "1Gb/s", "Gb/s", "Gbit/s"),
        (BANDWIDTH, "100Mbps", "Mbps", "Mbit/s"),
        (BANDWIDTH, "1GBps", "GBps", "GB/s"),
        (FLOPS, "312TFLOPs", "TFLOPs", "TFLOP/s"),
        (FLOPS, "312 TFLOPS", "TFLOPS", "TFLOP/s"),
        (SIZE, "5Gib", "Gib", "GiB"),
        (DURATION, "5 Seconds", "Seconds", "s"),
        (DURATION, "2hours", "hours", "h"),
        (DURATION, "2H", "H", "h"),
        (DURATION, "3 Days", "Days", "d"),
        (DURATION, "50MS", "MS", "ms"),
        (DURATION, "5\u03bcsec", "\u00b5sec", "\u00b5s"),
        (BANDWIDTH, "1gbit/s", "gbit/s", "Gbit/s"),
        (BANDWIDTH, "1GBIT/S", "GBIT/S", "Gbit/s"),
        (BANDWIDTH, "1gbps", "gbps", "Gbit/s"),
        (BANDWIDTH, "1Kbit/s", "Kbit/s", "kbit/s"),
        (BANDWIDTH, "1KB/S", "KB/S", "kB/s"),
        (BANDWIDTH, "1kib/s", "kib/s", "KiB/s"),
        (FLOPS, "5tflops", "tflops", "TFLOP/s"),
        (SIZE, "500mb", "mb", "MB"),
        (SIZE, "2gib", "gib", "GiB"),
        (SIZE, "4 G", "G", "GB"),
    ],
)
def test_a_wrong_unit_names_the_nearest(adapter: TypeAdapter[float], text: str, unit: str, near: str):
    assert f"{unit!r} is not a unit of " in refusal(adapter, text)
    assert f"; did you mean {near!r}? (units: " in refusal(adapter, text)


@pytest.mark.parametrize("adapter", [DURATION, SIZE, BANDWIDTH, FLOPS])
def test_a_unit_in_another_case_names_the_right_one(adapter: TypeAdapter[float]):
    listed = re.search(r"\(units: (.*)\)", refusal(adapter, "1 zzz"))
    assert listed is not None
    for unit in listed[1].split(", "):
        for typed in {unit.lower(), unit.upper(), unit.swapcase()} - set(listed[1].split(", ")):
            near = re.search(r"did you mean '(.*?)'", refusal(adapter, f"1 {typed}"))
            assert near is not None
            assert near[1].casefold().replace("bit", "b") == unit.casefold().replace("bit", "b")


@pytest.mark.parametrize(("adapter", "typed"), [(DURATION, "Infinite"), (BANDWIDTH, " UNLIMITED ")])
def test_a_word_in_another_case_names_the_right_one(adapter: TypeAdapter[float], typed: str):
    assert refusal(adapter, typed) == f"did you mean {typed.strip().lower()!r}?"


def test_a_unit_like_no_other_lists_all():
    assert refusal(DURATION, "5 xyz") == "'xyz' is not a unit of duration (units: ns, us, µs, ms, s, min, h, d)"


@pytest.mark.parametrize("value", ["fast", "", "ms", "1,5ms", "1 2 ms", "5 m s", "--5s", "nan", "inf"])
def test_text_that_is_no_quantity(value: str):
    assert refusal(DURATION, value) == "not a duration: write a number and a unit, such as 50ms, 0.5s or 2h"


@pytest.mark.parametrize("value", [None, True, [1], {"s": 1}])
@pytest.mark.parametrize("adapter", EVERY_KIND.values(), ids=EVERY_KIND)
def test_neither_number_nor_text(adapter: TypeAdapter[float], value: object):
    assert re.fullmatch(r"expected a (duration|size|bandwidth|speed) such as .*", refusal(adapter, value))


@pytest.mark.parametrize("value", ["infinite", math.inf])
def test_infinite_only_where_it_makes_sense(value: object):
    assert DURATION.validate_python(value) == math.inf
    assert DURATION.dump_python(math.inf) == "infinite"
    assert refusal(FINITE, value) == "Input should be a finite number"


@pytest.mark.parametrize("value", ["unlimited", math.inf])
def test_unlimited_bandwidth(value: object):
    assert BANDWIDTH.validate_python(value) == math.inf
    assert BANDWIDTH.dump_python(math.inf) == "unlimited"


@pytest.mark.parametrize(
    ("adapter", "value"),
    [
        (DURATION, "unlimited"),
        (BANDWIDTH, "infinite"),
        (FLOPS, math.inf),
        (FLOPS, "1e999FLOP/s"),
        (SIZE, math.inf),
        (SIZE, 0),
        (BANDWIDTH, "0B/s"),
        (DURATION, -1),
        (DURATION, math.nan),
        (DURATION, 10**400),
        (TypeAdapter(units.PositiveDuration), 0),
    ],
)
def test_values_out_of_range(adapter: TypeAdapter[float], value: object):
    assert refusal(adapter, value)


@pytest.mark.parametrize("adapter", EVERY_KIND.values(), ids=EVERY_KIND)
@given(value=st.floats(min_value=0, exclude_min=True, allow_infinity=False))
def test_reading_what_was_written_gives_the_same_value(adapter: TypeAdapter[float], value: float):
    value = min(value, 1e18) if adapter is SIZE else value
    assert adapter.validate_python(adapter.dump_python(value)) == value
    assert adapter.validate_json(adapter.dump_json(value)) == value


@given(
    number=st.floats(min_value=1e-3, max_value=1e6),
    unit=st.sampled_from(["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s", "Pbit/s"]),
)
def test_bits_are_an_eighth_of_bytes(number: float, unit: str):
    in_bytes = BANDWIDTH.validate_python(f"{number!r} {unit.replace('bit', 'B')}")
    assert BANDWIDTH.validate_python(f"{number!r}{unit}") * 8 == pytest.approx(in_bytes, rel=1e-12)


@pytest.mark.parametrize("value", [True, False])
def test_truth_values_are_not_numbers(value: bool):
    for annotation in (units.Int, units.Number):
        assert refusal(TypeAdapter(annotation), value) == "expected a number, not yes/no or true/false"


@pytest.mark.parametrize(("annotation", "end"), [(units.PositiveInt, 2**31), (units.Count, 2**63)])
@given(above=st.integers(min_value=0))
def test_whole_numbers_have_an_end(annotation: Any, end: int, above: int):
    with pytest.raises(pydantic.ValidationError):
        TypeAdapter(annotation).validate_python(end + above)
    assert TypeAdapter(annotation).validate_python(end - 1) == end - 1
