"""Adaptive window of a quorum: a share of the time that an overlap leaves, by moving averages of what has arrived."""

import dataclasses
from collections.abc import Sequence

from simulator.cluster import Nanoseconds
from simulator.timeline.events import Arrival


@dataclasses.dataclass(frozen=True)
class AdaptiveWindow:
    r"""Window of Decoupled DiLoCo (arXiv 2604.21428, Eq. 3).

    A worker goes on for :math:`\tau` local steps before it wants the answer to its offer. What is left of that time
    when the quorum is there, and the answer is sent, can be waited for others without holding anybody up:

    .. math::
      \gamma (\tau \xi_{step} - \xi_{quorum} - \xi_{sync}), \text{ from } 0 \text{ to the most that the policy has}

    Each :math:`\xi` is a moving average, :math:`\xi \leftarrow (1 - w) \xi + w x`, which begins with its first sample:
    the time of a local step, of every offer; from when the first offer of a meeting was made to when that arrived which
    the quorum needed; and of the transfer of an answer, which the worker's next offer tells, with the server's update.

    Attributes:
      overlap: :math:`\tau`.
      share: :math:`\gamma`.
      weight: w, of the newest.
      update_ns: time of a server's update.
    """

    overlap: int
    share: float = 0.5
    weight: float = 0.5
    update_ns: Nanoseconds = 0

    def new_averages(self) -> "WindowAverages":
        """Returns the averages of a new simulation."""
        return WindowAverages(self)


class WindowAverages:
    """Moving averages of one server's arrivals, in nanoseconds."""

    def __init__(self, of: AdaptiveWindow):
        self._of = of
        self._step_ns: float | None = None
        self._quorum_ns: float | None = None
        self._answer_ns: float | None = None

    def arrived(self, offer: Arrival) -> None:
        """Takes an offer into account that has arrived."""
        computed_ns = offer.push_start_ns - offer.compute_start_ns - offer.blocked_ns
        self._step_ns = self._after(self._step_ns, computed_ns / offer.round.steps)
        if offer.answer_ns is not None:
            self._answer_ns = self._after(self._answer_ns, offer.answer_ns)

    def window_ns(self, offers: Sequence[Arrival], most_ns: Nanoseconds) -> Nanoseconds:
        """Takes a quorum into account that is there, the last of its offers being the newest; returns its window.

        Args:
          offers: of the quorum, which have arrived.
          most_ns: longest window.
        """
        took_ns = offers[-1].arrival_ns - min(offer.push_start_ns for offer in offers)
        self._quorum_ns = self._after(self._quorum_ns, took_ns)
        sync_ns = self._of.update_ns + (self._answer_ns or 0.0)
        left_ns = self._of.overlap * (self._step_ns or 0.0) - self._quorum_ns - sync_ns
        return min(max(round(self._of.share * left_ns), 0), most_ns)

    def _after(self, average: float | None, newest: float) -> float:
        return newest if average is None else (1 - self._of.weight) * average + self._of.weight * newest
