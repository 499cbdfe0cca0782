"""Section of the schedule: when a worker offers, and when it accepts what it is answered."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from simulator.experiment.problems import SimulationError, cause_of
from simulator.experiment.registry import NamedPolicy, build, kind_tag, whole
from simulator.experiment.schema.section import ConflictError, Conflicts, Section
from simulator.experiment.schema.units import NonNegativeInt, PositiveDuration, PositiveInt
from simulator.experiment.schema.worker_words import in_numbers

Interval = Callable[[int, int], int]
"""From the number of a worker's offer, and its H, to the local steps of the round that ends with it."""

_TRIED = 100  # offers whose rounds are looked at before a run


class PeriodicSchedule(Section):
    """Offers every H steps, which are `inner.local_steps`."""

    kind: Literal["periodic"] = "periodic"
    fragments: PositiveInt = Field(1, description="parts of the model, each offered by itself every H steps")
    composition: Literal["strided", "sequential", "by_size"] = Field(
        "strided",
        description="which blocks a fragment has: every fragments-th, neighbors, or arrays so that all are as large",
    )
    offsets: tuple[NonNegativeInt, ...] | None = Field(
        None,
        description="local steps by which each fragment comes after the first; at equal distances when absent",
        examples=[[0, 5]],
    )
    layers: Annotated[PositiveInt, Field(le=10_000)] | None = Field(
        None,
        description="of the model: a fragment is offered as soon as a local step's backward pass is done with its "
        "layers, and its answer awaited before the forward pass of the first; fragments are numbered in the order in "
        "which they are offered; whole steps when absent; for timelines alone",
        examples=[24],
    )
    phases: PositiveInt | None = Field(
        None,
        description="different offsets, in turn or of neighbors as composition has it, at equal distances: 1 offers "
        "all fragments in one step; as many as fragments when absent",
        examples=[8],
    )
    overlap: NonNegativeInt = Field(
        0, description="local steps that a worker does between an offer and accepting the answer; at most H"
    )
    seconds: PositiveDuration | None = Field(
        None,
        description="offer after as many steps as take this much simulated time, instead of H (A-EDiT)",
        examples=["10s"],
    )

    @property
    def waits(self) -> bool:
        """Waiting of workers between an offer and its answer; else they go on meanwhile."""
        return self.fragments == 1 and not self.overlap and self.seconds is None

    def offsets_of(self, local_steps: int) -> tuple[int, ...]:
        """Returns the offset of each fragment, for H local steps."""
        if self.offsets is not None:
            return self.offsets
        phases = self.phases or self.fragments
        of = range(self.fragments)
        in_turn = phases == self.fragments or self.composition == "strided"
        places = [each % phases if in_turn else each * phases // self.fragments for each in of]
        return tuple(place * local_steps // phases for place in places)

    def _conflicts(self) -> Conflicts:
        if self.offsets is not None:
            growing = list(self.offsets) == sorted(set(self.offsets)) and self.offsets[:1] == (0,)
            if len(self.offsets) != self.fragments:
                yield "offsets", f"has {len(self.offsets)} values for {self.fragments} fragments: give one for each"
            elif self.layers is None and not growing:
                yield "offsets", "must grow from 0"
            elif min(self.offsets):
                yield "offsets", "must have a 0"
        if self.layers is not None:
            yield from self._of_layers(self.layers)
        if self.phases is not None:
            if self.offsets is not None:
                yield "phases", "says what schedule.offsets does: leave out one of them"
            if self.layers is None:
                yield "phases", "has several fragments offered in one step, which needs schedule.layers: give both"
            elif self.phases > self.fragments:
                yield "phases", f"is more than schedule.fragments, {self.fragments}: choose fewer"
        if self.seconds is not None:
            for name in ("fragments", "overlap"):
                if name in self.model_fields_set and getattr(self, name) != type(self).model_fields[name].default:
                    yield name, "counts local steps, which schedule.seconds does not: leave out one of them"

    def _of_layers(self, layers: int) -> Conflicts:
        if self.fragments == 1:
            yield "layers", "has no effect on a whole model, which a step needs from its first to its last part"
        if self.fragments > layers:
            yield "fragments", f"is more than schedule.layers, which is {layers}: choose fewer"
        if self.composition == "by_size":
            yield "composition", "divides arrays, and schedule.layers needs fragments of layers: choose another"


class NamedSchedule(NamedPolicy):
    """Offers after as many local steps as a function of one's own says, by the name under which it is registered."""

    section = "schedule"
    fragments: ClassVar = 1
    composition: ClassVar[Literal["strided"]] = "strided"
    offsets: ClassVar = None
    layers: ClassVar = None
    overlap: ClassVar = 0
    seconds: ClassVar = None
    waits: ClassVar = True

    @model_validator(mode="before")
    @classmethod
    def _without_period(cls, settings: Any) -> Any:
        """Refuses settings that count from offers a period apart."""
        given = [name for name in PeriodicSchedule.model_fields if name != "kind" and name in settings]
        message = "counts from offers that are H steps apart, and those of schedule.kind are not: leave out one of them"
        if given:
            raise ConflictError(*((name, message) for name in given))
        return settings

    def offsets_of(self, local_steps: int) -> tuple[int, ...]:
        """Returns the offset of its one fragment."""
        return (0,)

    def interval(self) -> Interval:
        """Returns the local steps of rounds; the function raises SimulationError where its own answer is none.

        Raises:
          PolicyError: the name is not registered in this process, or its factory refuses its arguments.
        """
        choose = build(self)
        return lambda offer, most: whole("schedule", self.kind, f"offer {offer}", choose(offer, most), 1, most)

    def mistakes(self, local_steps: int) -> Conflicts:
        """Yields what is wrong with the rounds of a worker's first offers, for H, if it is registered here."""
        if not self.is_registered:
            return
        interval = self.interval()
        try:
            for offer in range(_TRIED):
                interval(offer, local_steps)
        except SimulationError as error:
            yield "kind", str(error)
        except Exception as error:
            yield "kind", f"cannot be asked for offer {offer} and {local_steps} local steps: {cause_of(error)}"


OfferSchedule = Annotated[
    Annotated[PeriodicSchedule, Tag("periodic")] | Annotated[NamedSchedule, Tag("named")],
    Discriminator(kind_tag("schedule")),
    in_numbers(),
]
