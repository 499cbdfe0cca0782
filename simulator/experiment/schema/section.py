"""Base of every section of an experiment file."""

from collections.abc import Iterable
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

Conflicts = Iterable[tuple[str, str]]
"""Of each, the dotted key relative to a section ("" for the section itself), and what is wrong."""


class ConflictError(ValueError):
    """Settings that are valid one by one but not together.

    Attributes:
      mistakes: for each, the dotted key relative to the section that raises it, and what is wrong.
    """

    def __init__(self, *mistakes: tuple[str, str]):
        self.mistakes = mistakes
        super().__init__("; ".join(f"{key}: {message}".removeprefix(": ") for key, message in mistakes))


class Section(BaseModel):
    """A frozen mapping that refuses keys it does not know, and settings that do not go together."""

    model_config = ConfigDict(frozen=True, defer_build=True, extra="forbid", use_attribute_docstrings=False)

    def _conflicts(self) -> Conflicts:
        """Returns the settings that are valid one by one but not together."""
        return ()

    @model_validator(mode="after")
    def _without_conflicts(self) -> Self:
        conflicts = tuple(self._conflicts())
        if conflicts:
            raise ConflictError(*conflicts)
        return self
