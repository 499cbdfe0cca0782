"""Devices and links of each worker from a CSV file, a row for each worker."""

import functools
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from simulator.experiment.schema.per_worker import Word
from simulator.experiment.schema.tables import first_mistake, read_rows
from simulator.experiment.schema.units import Bandwidth, FiniteDuration, NonNegative, Positive, PositiveDuration

DEVICE_COLUMNS: Mapping[str, Any] = {
    "seconds_per_step": PositiveDuration,
    "relative_speed": Positive,
    "price_per_hour": NonNegative,
    "names": Word,
    "sites": Word,
}
LINK_COLUMNS: Mapping[str, Any] = {
    f"{direction}{name}": kind
    for direction in ("", "down.", "up.")
    for name, kind in (("latency", FiniteDuration), ("bandwidth", Bandwidth))
}
_COLUMNS = {**DEVICE_COLUMNS, **LINK_COLUMNS}


def with_workers(section: Mapping[str, Any], columns: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the section of devices or links, with columns of its `file` in place of that.

    The file may have all columns of devices and links, and one called worker, which counts from 0.

    Args:
      section: as an experiment file has it.
      columns: those for the section: `DEVICE_COLUMNS` or `LINK_COLUMNS`.

    Raises:
      ValueError: the file cannot be read, has none of the columns, or a value is wrong; the message says where.
    """
    filled = {key: value for key, value in section.items() if key != "file"}
    for path, values in _read(section["file"], columns).items():
        within, _, name = path.rpartition(".")
        target = filled
        if within:
            own = filled.get(within) or {}
            if not isinstance(own, Mapping):  # which is refused with the section
                continue
            target = filled[within] = dict(own)
        if name in target:
            raise ValueError(f"{section['file']} has a column {path}, which is given beside it too: leave one out")
        target[name] = values
    return filled


def _read(path: Any, columns: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    if not isinstance(path, str):
        raise ValueError(f"expected the path of a CSV file with columns such as {', '.join([*columns][:3])}")
    rows = read_rows(path, "the file")
    where, header = next(rows, (path, []))
    unknown = [name for name in header if name not in (*_COLUMNS, "worker")]
    if unknown or len(set(header)) < len(header):
        wrong = f"no column is called {unknown[0]!r}" if unknown else "a column is there twice"
        raise ValueError(f"{where}: {wrong}; known: worker, {', '.join(_COLUMNS)}")
    chosen = [name for name in header if name in columns]
    if not chosen:
        raise ValueError(f"{where}: needs a column {', '.join(columns)}; it has {', '.join(header) or 'none'}")
    values: dict[str, list[Any]] = {name: [] for name in chosen}
    for number, (place, cells) in enumerate(rows):
        row = dict(zip(header, cells, strict=True))
        if row.get("worker", str(number)) != str(number):
            raise ValueError(f"{place}: worker {row['worker']!r} should be {number}: a row for each worker, from 0")
        for name in chosen:
            values[name].append(_value(place, name, row[name]))
    if not any(values.values()):
        raise ValueError(f"{path}: has no row of a worker")
    return {name: tuple(each) for name, each in values.items()}


@functools.cache
def _type(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(_COLUMNS[name])


def _value(place: str, name: str, cell: str) -> Any:
    try:
        return _type(name).dump_python(_type(name).validate_python(cell))
    except ValidationError as error:
        raise ValueError(f"{place}: {name} = {cell!r}: {first_mistake(error)}") from error
