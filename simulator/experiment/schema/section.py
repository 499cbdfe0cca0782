"""Base of every section of an experiment file."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen mapping that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, defer_build=True, extra="forbid", use_attribute_docstrings=False)


class ConflictError(ValueError):
    """Settings that are valid one by one but not together. Raised by the sections' own validators.

    Attributes:
      mistakes: for each, the dotted key relative to the section that raises it, and what is wrong.
    """

    def __init__(self, *mistakes: tuple[str, str]):
        self.mistakes = mistakes
        super().__init__("; ".join(f"{key}: {message}" for key, message in mistakes))
