"""Sampling of the workers that take part in a meeting (federated averaging, Photon)."""

from collections.abc import Sequence

from simulator.host.random_streams import numpy_stream

PURPOSE = "sampled workers"
"""Of the stream from which they are drawn, one for each meeting."""


def sampled(ready: Sequence[int], sample: int, workers: int, seed: int, meeting: int) -> frozenset[int]:
    """Returns the workers that a meeting draws: the first, of those that are ready, in an order of all that is drawn.

    So a worker that is away is replaced by one other, and nobody else's place changes; workers of different servers
    are drawn independently.

    Args:
      ready: workers that can take part.
      sample: number of them that do.
      workers: number of all workers.
      seed: the experiment's.
      meeting: its number.
    """
    order = numpy_stream(seed, PURPOSE, meeting).permutation(workers)
    wanted = set(ready)
    return frozenset([worker for worker in order.tolist() if worker in wanted][:sample])
