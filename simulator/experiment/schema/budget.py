"""The `budget` section: the end of a simulation."""

from pydantic import Field

from simulator.experiment.schema.section import Conflicts, Section
from simulator.experiment.schema.units import Count, PositiveDuration


class Budget(Section):
    """End of the simulation: whichever limit is reached first."""

    local_steps: Count | None = Field(None, description="over all workers, counted as they arrive", examples=[10000])
    tokens: Count | None = Field(
        None, description="over all workers, counted as they arrive (examples, of a classifier)", examples=[10**9]
    )
    rounds: Count | None = Field(
        None,
        description="per worker, on average over workers as they arrive; of a model in fragments one is H steps",
        examples=[100],
    )
    simulated_time: PositiveDuration | None = Field(None, description="on the cluster's clock", examples=["2h"])
    server_updates: Count | None = Field(None, description="outer steps", examples=[1000])

    def _conflicts(self) -> Conflicts:
        if not self.limits:
            yield "", f"give at least one of {', '.join(Budget.model_fields)}"

    @property
    def limits(self) -> dict[str, float]:
        """Limits that there are, by name."""
        return {name: value for name in Budget.model_fields if (value := getattr(self, name)) is not None}
