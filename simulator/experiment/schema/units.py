"""Quantities as people write them (`50ms`, `1Gbit/s`, `312TFLOP/s`), held in seconds, bytes, bytes/s and FLOP/s."""

import math
import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from simulator.host.nearest import alike

_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_QUANTITY = re.compile(rf"\s*({_NUMBER})\s*([^\s\d.,]\S*)?\s*")

_MICROS = ("\u03bc", "\u00b5")  # the Greek letter, and the sign that keyboards have

_DURATION_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE_BYTES = {"B": 1.0}
_BANDWIDTH_BYTES_PER_S = {"bit/s": 1 / 8, "B/s": 1.0}
_FLOPS = {"FLOP/s": 1.0}
for _prefix, _factor in {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}.items():
    _SIZE_BYTES[f"{_prefix}B"] = _factor
    _BANDWIDTH_BYTES_PER_S |= {f"{_prefix}bit/s": _factor / 8, f"{_prefix}B/s": _factor}
    _FLOPS[f"{_prefix}FLOP/s"] = _factor
for _power, _prefix in enumerate("KMGT", start=1):
    _SIZE_BYTES[f"{_prefix}iB"] = 1024.0**_power
    _BANDWIDTH_BYTES_PER_S[f"{_prefix}iB/s"] = 1024.0**_power


def _parse(
    value: Any, *, what: str, units: dict[str, float], bare_unit: str | None, unbounded: str | None, example: str
) -> Any:
    """Returns the number in base units; anything that is not a quantity raises a ValueError with the remedy."""
    if unbounded is not None and (value == unbounded or (isinstance(value, float) and value == math.inf)):
        return math.inf
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"expected a {what} such as {example}")
    if not isinstance(value, str):
        if bare_unit is None:
            raise ValueError(f"a {what} needs its unit: write for instance {example}")
        return _float(value)
    match = _QUANTITY.fullmatch(value)
    if match is None and unbounded is not None and value.strip().casefold() == unbounded:
        raise ValueError(f"did you mean {unbounded!r}?")
    if match is None:
        raise ValueError(f"not a {what}: write a number and a unit, such as {example}")
    number, unit = float(match[1]), match[2].replace(*_MICROS) if match[2] else bare_unit
    if unit is None:
        raise ValueError(f"a {what} needs its unit: write for instance {example}")
    if unit not in units:
        near = _meant(unit, units)
        hint = f"; did you mean {near!r}?" if near else ""
        raise ValueError(f"{unit!r} is not a unit of {what}{hint} (units: {', '.join(units)})")
    return number * units[unit]


def _meant(unit: str, units: Iterable[str]) -> str | None:
    """Returns the unit most like the written one, None if none is."""
    for spelled in (_bits, str.casefold):
        same = [each for each in units if spelled(each) == spelled(unit)]
        if same:
            return same[0]
    begun = [each for each in units if unit.casefold().startswith(each.casefold())]  # hours, days
    return max(begun, key=len) if begun else next(iter(alike(unit, units, cutoff=0.5)), None)


def _bits(unit: str) -> str:
    """Returns a unit without case, but with b for bits apart from B for bytes: Gb/s, Gbps and gbit/s are Gbit/s."""
    unit = re.sub("bit", "b", unit, flags=re.IGNORECASE).replace("ps", "/s")
    return f"{unit.casefold()}{'B' in unit}"


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ValueError("is too large") from None


class Quantity(NamedTuple):
    """Quantity that is written with a unit.

    Attributes:
      name: of its kind, such as duration.
      units: that it can be written in.
      bare_unit: of a number without one, None where it needs one.
      unbounded: word for infinity, None where it has to be finite.
    """

    name: str
    units: tuple[str, ...]
    bare_unit: str | None
    unbounded: str | None


QUANTITIES: dict[str, Quantity] = {}
"""Quantities by the pattern that they have in a JSON Schema."""


def _quantity(
    *,
    what: str,
    units: dict[str, float],
    example: str,
    bare_unit: str | None = None,
    unbounded: str | None = None,
    finite: bool = False,
    write: Callable[[float], Any] = lambda value: value,
) -> tuple[BeforeValidator, PlainSerializer, WithJsonSchema]:
    def parse(value: Any) -> Any:
        return _parse(value, what=what, units=units, bare_unit=bare_unit, unbounded=unbounded, example=example)

    def serialize(value: float) -> Any:
        return unbounded if math.isinf(value) else write(value)

    names = "|".join(re.escape(unit).replace(_MICROS[1], f"[{''.join(_MICROS)}]") for unit in units)
    text = rf"^\s*{_NUMBER}\s*({names}){'' if bare_unit is None else '?'}\s*$"
    word = None if finite else unbounded
    pattern = text if word is None else f"{text}|^{word}$"
    QUANTITIES[pattern] = Quantity(what, tuple(units), bare_unit, word)
    schema: dict[str, Any] = {
        "description": f"a {what}, such as {example}",
        "type": "string" if bare_unit is None else ["number", "string"],
        "pattern": pattern,
        "examples": re.split(", | or ", example),
    }
    return BeforeValidator(parse), PlainSerializer(serialize), WithJsonSchema(schema)


_duration, _finite_duration = (
    _quantity(
        what="duration",
        units=_DURATION_S,
        bare_unit="s",
        unbounded="infinite",  # known where it is refused, for the message
        finite=finite,
        example="50ms, 0.5s or 2h",
    )
    for finite in (False, True)
)
_size = _quantity(what="size", units=_SIZE_BYTES, bare_unit="B", example="500MB or 2GiB")
_bandwidth = _quantity(
    what="bandwidth",
    units=_BANDWIDTH_BYTES_PER_S,
    unbounded="unlimited",
    example="1Gbit/s or 125MB/s",
    write=lambda value: f"{value!r} B/s",
)
_flops = _quantity(what="speed", units=_FLOPS, example="312TFLOP/s", write=lambda value: f"{value!r} FLOP/s")

Duration = Annotated[float, Field(ge=0), *_duration]
"""Seconds; a bare number is in seconds; `infinite` is allowed."""
FiniteDuration = Annotated[float, Field(ge=0, allow_inf_nan=False), *_finite_duration]
"""Seconds, finite; a bare number is in seconds."""
PositiveDuration = Annotated[float, Field(gt=0, allow_inf_nan=False), *_finite_duration]
"""Seconds, above 0 and finite."""
Size = Annotated[float, Field(gt=0, le=1e18, allow_inf_nan=False), *_size]
"""Bytes, up to an exabyte; a bare number is in bytes."""
Bandwidth = Annotated[float, Field(gt=0), *_bandwidth]
"""Bytes per second, written with a unit; `unlimited` is allowed."""
Flops = Annotated[float, Field(gt=0, allow_inf_nan=False), *_flops]
"""Floating-point operations per second, written with a unit."""


def _not_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected a number, not yes/no or true/false")
    return value


def _plain(value: Any) -> Any:
    """Refuses values of YAML that JSON lacks: dates, binary, sets, infinity and NaN."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"the key {key!r} must be text: put it in quotes")
            _plain(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _plain(item)
    elif not (value is None or isinstance(value, bool | int | float | str)):
        raise ValueError(f"{value!r} is not a number, text, true, false, null, list or mapping")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return value


Arguments = Annotated[dict[str, Any], BeforeValidator(_plain)]
"""Keyword arguments that are passed on as they are."""
Int = Annotated[int, BeforeValidator(_not_bool), Field(lt=2**31)]
"""A number that may be the length of an array, or a 32-bit number on a device."""
Number = Annotated[float, BeforeValidator(_not_bool), Field(allow_inf_nan=False)]
PositiveInt = Annotated[Int, Field(ge=1)]
Members = Annotated[PositiveInt, Field(le=10_000_000)]
"""How many of what is simulated one by one."""
Sigma = Annotated[Number, Field(ge=0, le=10)]
"""Of a log-normal distribution; at 10 one in six is 22,000 times the median."""
Count = Annotated[int, BeforeValidator(_not_bool), Field(ge=1, lt=2**63)]
"""A number that things are only counted up to."""
NonNegativeInt = Annotated[Int, Field(ge=0)]
Positive = Annotated[Number, Field(gt=0)]
NonNegative = Annotated[Number, Field(ge=0)]
Fraction = Annotated[Number, Field(gt=0, le=1)]
