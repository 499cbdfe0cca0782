"""Values that are one for all workers, or one for each."""

from typing import Annotated, Any, TypeVar

from pydantic import Discriminator, Tag


def _one_or_each(value: Any) -> str:
    return "<each>" if isinstance(value, list | tuple) else "<one>"


T = TypeVar("T")
PerWorker = Annotated[Annotated[T, Tag("<one>")] | Annotated[tuple[T, ...], Tag("<each>")], Discriminator(_one_or_each)]
"""One value for all workers, or a list."""
