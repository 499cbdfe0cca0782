"""Layers of a model: the order in which a local step goes through them, and when it needs and is done with each."""

import dataclasses
from typing import NamedTuple

from simulator.experiment.schema.offer_schedule import OfferSchedule


@dataclasses.dataclass(frozen=True)
class Layers:
    """Layers of a model, and the fragments that they are in.

    A local step goes through L layers forwards, and then backwards in reverse, at each with respect to the activations
    and then to the weights; at the first layer it needs no gradient of the activations. So it has 3 L - 1 parts, and
    all take the same time (Douillard et al., arXiv 2501.18512, in whose model each pass is a third).

    Attributes:
      count: L.
      first: layer of each fragment that is first in a forward pass, from 0. A step needs it first, and is done with it
        last.
    """

    count: int
    first: tuple[int, ...]

    @property
    def parts(self) -> int:
        """Number of parts of a local step."""
        return 3 * self.count - 1

    def needed(self, fragment: int) -> int:
        """Returns the parts of a local step before the first one that needs a fragment."""
        return self.first[fragment]

    def done(self, fragment: int) -> int:
        """Returns the parts of a local step after which a fragment's gradient is complete."""
        return min(self.count + 2 * (self.count - self.first[fragment]), self.parts)


class OfferedFragments(NamedTuple):
    """Fragments in the order in which a worker offers them.

    Attributes:
      order: their numbers in the composition.
      offsets: of each in this order, in local steps.
      layers: likewise; None where whole steps are between offers.
    """

    order: tuple[int, ...]
    offsets: tuple[int, ...]
    layers: Layers | None


def offered_fragments(schedule: OfferSchedule, local_steps: int) -> OfferedFragments:
    """Returns the fragments of a schedule; with layers, those of one offset are in the order in which a step is done.

    Args:
      schedule: the section.
      local_steps: H.
    """
    offsets, every = schedule.offsets_of(local_steps), range(schedule.fragments)
    if schedule.layers is None:
        return OfferedFragments(tuple(every), offsets, None)
    layers = Layers(schedule.layers, _first_layers(schedule.fragments, schedule.layers, schedule.composition))
    order = tuple(sorted(every, key=lambda each: (offsets[each], layers.done(each))))
    first = tuple(layers.first[each] for each in order)
    return OfferedFragments(order, tuple(offsets[each] for each in order), Layers(layers.count, first))


def _first_layers(fragments: int, layers: int, composition: str) -> tuple[int, ...]:
    """Returns the first layer of each fragment: layer l is in fragment l mod P, or in l P // L."""
    if composition == "strided":
        return tuple(range(fragments))
    return tuple(-(-fragment * layers // fragments) for fragment in range(fragments))
