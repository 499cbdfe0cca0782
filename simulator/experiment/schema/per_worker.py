"""Values that are one for all workers, or one for each."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import Discriminator, Field, Tag

from simulator.experiment.schema.units import PositiveInt


def one_or_each(value: Any) -> str:
    """Returns the tag of a value: whether it is a list."""
    return "<each>" if isinstance(value, list | tuple) else "<one>"


T = TypeVar("T")
PerWorker = Annotated[Annotated[T, Tag("<one>")] | Annotated[tuple[T, ...], Tag("<each>")], Discriminator(one_or_each)]
"""One value for all workers, or a list."""

Word = Annotated[str, Field(min_length=1)]


def _words_tag(value: Any) -> str:
    return "<counts>" if isinstance(value, Mapping) else one_or_each(value)


PerWorkerWords = Annotated[
    Annotated[Word, Tag("<one>")]
    | Annotated[tuple[Word, ...], Tag("<each>")]
    | Annotated[dict[Word, PositiveInt], Tag("<counts>")],
    Discriminator(_words_tag),
]
"""One word for all workers, a list, or how many workers have each, in order."""
