"""Progress callbacks of long work on data."""

from collections.abc import Callable

PrepareProgress = Callable[[str, int, int | None, str], None]
"""Called with what is being done, how much is done, of how much (None where unknown), and the unit."""


def silent(doing: str, done: int, of: int | None, unit: str) -> None:
    """Ignores the progress."""
