"""The section of micro-batches: how many a local step takes the mean gradient of."""

from typing import Annotated

from pydantic import Field

from simulator.experiment.schema.section import Conflicts, Section
from simulator.experiment.schema.units import Number, Positive, PositiveInt


class MicroBatches(Section):
    """Micro-batches of `batch_size`, whose mean gradient a local step takes: as many as given, or by the norm test."""

    start: PositiveInt = Field(2, description="of a local step at the start, or of all where there is no threshold")
    threshold: Positive | None = Field(
        None,
        description="eta of the norm test: more where the variance of the mean is above (eta times its norm)^2; "
        "simulated times then depend on what is trained; never more when absent",
        examples=[0.5],
    )
    most: PositiveInt = Field(32, description="of a local step with a threshold, for which programs have room")
    overhead: Annotated[Number, Field(ge=0, le=1)] = Field(
        0.0, description="part of a device's time per step that further micro-batches of the step do not take again"
    )

    @property
    def room(self) -> int:
        """Most micro-batches that a local step can have."""
        return self.start if self.threshold is None else self.most

    def _conflicts(self) -> Conflicts:
        if self.threshold is None:
            return
        if self.start < 2:
            yield "start", "must be at least 2 with a threshold: a variance is that of several micro-batches"
        if self.most < self.start:
            yield "most", f"is less than start, which is {self.start}: give at least that"
