"""Pydantic models of the files of a record; keys beyond theirs are not looked at."""

from collections.abc import Mapping
from typing import Any

import pydantic

from simulator.record.schema import OF_FAULTS, SUMMARY_KEYS

_needed: Mapping[str, Any] = {name: (key.kind, ...) for name, key in SUMMARY_KEYS.items()}
_optional: Mapping[str, Any] = {name: (key.kind, None) for name, key in OF_FAULTS.items()}
_losses: Any = list[float | None]
_Reused = pydantic.create_model("Reused", local_steps=(int, ...))
Summary = pydantic.create_model(
    "Summary", **_needed, **_optional, final_shard_losses=(_losses, []), reused=(_Reused | None, None)
)
"""Summary of a run."""


class _DataPrices(pydantic.BaseModel):
    price_per_gigabyte: float | None = None


class _NetworkPrices(_DataPrices):
    down: _DataPrices | None = None
    up: _DataPrices | None = None


class _AcceleratorPrices(pydantic.BaseModel):
    count: int = 1
    each: int = 1
    price_per_hour: float | None = None


class _DevicePrices(pydantic.BaseModel):
    price_per_hour: float | list[float] | None = None
    accelerators: list[_AcceleratorPrices] | None = None


class _ClusterPrices(pydantic.BaseModel):
    devices: _DevicePrices | None = None
    network: _NetworkPrices | None = None
    server_update_time: float | None = None
    server_price_per_hour: float | None = None
    currency: str | None = None


class Described(pydantic.BaseModel):
    """Experiment of a record, as far as it is read without the schema of experiments."""

    name: str
    variant: str | None
    seed: int
    description: str | None = None
    cluster: _ClusterPrices | None = None


class Facts(pydantic.BaseModel):
    """Facts of a checkpoint."""

    format: int
    events: int


class Updates(pydantic.BaseModel):
    """Server updates of a checkpoint, which tell how far its run is."""

    updates: int
