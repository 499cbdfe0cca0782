"""Groups of workers in a section: lists of them, or a number of groups of neighbors."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from simulator.experiment.schema.units import NonNegativeInt, PositiveInt

WorkerGroups = Annotated[tuple[tuple[NonNegativeInt, ...], ...], Field(min_length=1)] | PositiveInt


def members_of(groups: tuple[tuple[int, ...], ...] | int, workers: int) -> tuple[tuple[int, ...], ...]:
    """Returns the workers of each group.

    Args:
      groups: lists of workers, or a number of groups.
      workers: their number.
    """
    if isinstance(groups, tuple):
        return groups
    return tuple(
        tuple(worker for worker in range(workers) if worker * groups // workers == group) for group in range(groups)
    )


def group_mistakes(groups: tuple[tuple[int, ...], ...] | int, workers: int, name: str) -> Iterator[str]:
    """Yields the mistakes in groups that are called `name`."""
    if isinstance(groups, tuple):
        named = sorted(worker for group in groups for worker in group)
        if named != list(range(workers)) or not all(groups):
            yield f"must name each worker from 0 to {workers - 1} once, in {name} that have some"
    elif groups > workers:
        yield f"is more than there are workers, {workers}: choose fewer"
