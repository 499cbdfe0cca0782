"""Schedule: after which local steps a worker offers, and accepts what it is answered."""

import dataclasses
import functools
from collections.abc import Sequence

from simulator.cluster import Layers


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Schedule of a worker's offers, as arithmetic on its count of local steps.

    With P fragments and H local steps, fragment p is offered after steps H + o_p, 2 H + o_p and so on, for its offset
    o_p from 0 up to below H. So a worker's offers come in turn, 0, 1 ... P - 1, 0, 1 ..., each at the end of a round.
    The answer is accepted `overlap` steps after the offer; only if it is not there by then does the worker wait.

    With layers a fragment is offered as soon as the last of these steps is done with it, and what is answered is
    accepted when the step behind it first needs it: so a round may have no step, or end and begin within one. A round
    has the steps in which offers were made that those before it have not.

    Attributes:
      offsets: of each fragment, in local steps, growing from 0; with layers several may be the same.
      overlap: local steps between an offer and its acceptance, from 0 to H.
      seconds: of simulated time that a round takes at least, instead of a number of steps; None to count steps.
      layers: of the fragments, in the order of their offers; None where whole steps are between offers.
    """

    offsets: tuple[int, ...] = (0,)
    overlap: int = 0
    seconds: float | None = None
    layers: Layers | None = None

    @property
    def fragments(self) -> int:
        """Number of fragments."""
        return len(self.offsets)

    @property
    def waits(self) -> bool:
        """Returns whether a worker does nothing between an offer and its answer, with which it is given a round."""
        return self.fragments == 1 and not self.overlap and self.seconds is None

    @property
    def parts(self) -> int:
        """Returns the parts of a local step between which something can be offered or accepted."""
        return 1 if self.layers is None else self.layers.parts

    def fragment(self, offer: int) -> int:
        """Returns the fragment of a worker's n-th offer."""
        return offer % self.fragments

    def offered_after(self, offer: int, local_steps: int) -> int:
        """Returns the number of local steps after which the n-th offer is made; 0 for the one before the first."""
        if offer < 0:
            return 0
        return local_steps * (1 + offer // self.fragments) + self.offsets[offer % self.fragments]

    def steps(self, offer: int, local_steps: int) -> int:
        """Returns the local steps between an offer and the one before it."""
        return self.offered_after(offer, local_steps) - self.offered_after(offer - 1, local_steps)

    def offered_at(self, offer: int, local_steps: int) -> int:
        """Returns the number of parts of steps after which the n-th offer is made; 0 for the one before the first."""
        steps = self.offered_after(offer, local_steps)
        if self.layers is None or offer < 0:
            return steps * self.parts
        return (steps - 1) * self.parts + self.layers.done(self.fragment(offer))

    def accepted_at(self, offer: int, local_steps: int) -> int:
        """Returns the number of parts of steps after which the answer to the n-th offer is accepted."""
        steps = self.offered_after(offer, local_steps) + self.overlap
        return steps * self.parts + (0 if self.layers is None else self.layers.needed(self.fragment(offer)))

    def steps_before(self, offer: int, after: int, local_steps: int) -> int:
        """Returns the local steps that are done by some parts of the round that ends with the n-th offer."""
        at = self.offered_at(offer - 1, local_steps) + after
        return at // self.parts - self.offered_after(offer - 1, local_steps)

    def accepts(self, offer: int, first: int, local_steps: int) -> list[tuple[int, int]]:
        """Returns what is accepted in the round that ends with an offer: parts of its steps before it, and fragment.

        Args:
          offer: n, at the end of the round.
          first: offers before this one need no answer, since the worker has had a copy of everything.
          local_steps: H.
        """
        like = min(offer, 3 * self.fragments + offer % self.fragments)  # later periods are as the fourth
        due = _due(self, like, local_steps)
        return [(after, self.fragment(offer - back)) for after, back in due if offer >= first + back]


@functools.lru_cache(maxsize=4096)
def _due(schedule: Schedule, offer: int, local_steps: int) -> list[tuple[int, int]]:
    """Returns what is due in the round that ends with an offer: parts of its steps, and how many offers ago it was."""
    begin, end = schedule.offered_at(offer - 1, local_steps), schedule.offered_at(offer, local_steps)
    recent = range(max(offer - 2 * schedule.fragments, -1), offer)  # an answer is accepted within H steps
    due = sorted((schedule.accepted_at(each, local_steps), offer - each) for each in recent)
    return [(at - begin, back) for at, back in due if begin <= at < end]


def next_offer(turns: Sequence[int]) -> int:
    """Returns the offer with which a worker begins again, so that all workers take the meetings in one order.

    Args:
      turns: of each fragment, the first meeting in which the worker is expected.
    """
    return min(turn * len(turns) + fragment for fragment, turn in enumerate(turns))
