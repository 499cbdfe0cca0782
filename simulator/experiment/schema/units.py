"""Quantities as people write them (`50ms`, `1Gbit/s`, `312TFLOP/s`), held in seconds, bytes, bytes/s and FLOP/s."""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

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


def _meant(unit: str, units: Iterable[str]) -> str | None:
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


@dataclasses.dataclass(frozen=True)
class Quantity:
    """Quantity that is written with a unit.

    Attributes:
      name: of its kind, such as duration.
      units: that it can be written in, each with its size in the base unit.
      example: as alternatives: "a, b or c".
      bare_unit: of a number without one, None where it needs one.
      infinity: word for it, None where there is none.
      finite: whether infinity is refused all the same; its word is known for the message.
    """

    name: str
    units: Mapping[str, float]
    example: str
    bare_unit: str | None = None
    infinity: str | None = None
    finite: bool = False

    @property
    def unbounded(self) -> str | None:
        """Word for infinity, None where it has to be finite."""
        return None if self.finite else self.infinity

    def annotations(self) -> tuple[BeforeValidator, PlainSerializer, WithJsonSchema]:
        """Returns how pydantic reads, writes and describes it."""
        names = "|".join(re.escape(unit).replace(_MICROS[1], f"[{''.join(_MICROS)}]") for unit in self.units)
        pattern = rf"^\s*{_NUMBER}\s*({names}){'?' if self.bare_unit else ''}\s*$"
        pattern += f"|^{self.unbounded}$" if self.unbounded else ""
        QUANTITIES[pattern] = self
        schema: dict[str, Any] = {
            "description": f"a {self.name}, such as {self.example}",
            "type": ["number", "string"] if self.bare_unit else "string",
            "pattern": pattern,
            "examples": re.split(", | or ", self.example),
        }
        return BeforeValidator(self._parse), PlainSerializer(self._serialize), WithJsonSchema(schema)

    def _serialize(self, value: float) -> Any:
        if math.isinf(value):
            return self.infinity
        return value if self.bare_unit else f"{value!r} {next(unit for unit, size in self.units.items() if size == 1)}"

    def _parse(self, value: Any) -> Any:
        """Returns the number in base units; anything that is not a quantity raises a ValueError with the remedy."""
        if self.infinity and (value == self.infinity or (isinstance(value, float) and value == math.inf)):
            return math.inf
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError(f"expected a {self.name} such as {self.example}")
        number, unit = value, self.bare_unit
        if isinstance(value, str):
            match = _QUANTITY.fullmatch(value)
            if match is None and self.infinity and value.strip().casefold() == self.infinity:
                raise ValueError(f"did you mean {self.infinity!r}?")
            if match is None:
                raise ValueError(f"not a {self.name}: write a number and a unit, such as {self.example}")
            number, unit = match[1], match[2].replace(*_MICROS) if match[2] else unit
        if unit is None:
            raise ValueError(f"a {self.name} needs its unit: write for instance {self.example}")
        if unit not in self.units:
            near = _meant(unit, self.units)
            hint = f"; did you mean {near!r}?" if near else ""
            raise ValueError(f"{unit!r} is not a unit of {self.name}{hint} (units: {', '.join(self.units)})")
        try:
            return float(number) * self.units[unit]
        except OverflowError:
            raise ValueError("is too large") from None


QUANTITIES: dict[str, Quantity] = {}
"""Quantities by the pattern that they have in a JSON Schema."""

_duration, _finite_duration = (
    Quantity("duration", _DURATION_S, "50ms, 0.5s or 2h", "s", "infinite", finite).annotations()
    for finite in (False, True)
)
_size = Quantity("size", _SIZE_BYTES, "500MB or 2GiB", "B").annotations()
_bandwidth = Quantity("bandwidth", _BANDWIDTH_BYTES_PER_S, "1Gbit/s or 125MB/s", infinity="unlimited").annotations()
_flops = Quantity("speed", _FLOPS, "312TFLOP/s").annotations()

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
