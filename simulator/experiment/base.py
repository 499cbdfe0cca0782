"""What every section of an experiment file has in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen mapping that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=False)
