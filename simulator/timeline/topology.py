"""Topologies without a server: which workers meet, by a worker and the number of a meeting."""

import functools
from collections.abc import Sequence

from simulator.experiment import SimulationError
from simulator.host.random_streams import numpy_stream
from simulator.timeline.config import Peers


def groups_of(workers: int, size: int, seed: int) -> Peers:
    """Returns groups that are drawn anew for each meeting, such as pairs; workers that are left over form one too.

    Everybody knows the groups without a message, since they follow from the seed and the number of the meeting.

    Args:
      workers: number of workers.
      size: of a group; 1 where nobody meets.
      seed: the experiment's.
    """

    @functools.lru_cache(maxsize=1024)
    def drawn(meeting: int) -> tuple[tuple[int, ...], ...]:
        order = numpy_stream(seed, "groups of workers", meeting).permutation(workers)
        found: list[tuple[int, ...]] = [()] * workers
        for first in range(0, workers, size):
            group = tuple(sorted(int(worker) for worker in order[first : first + size]))
            for worker in group:
                found[worker] = group
        return tuple(found)

    return lambda worker, meeting: drawn(meeting)[worker]


def graph(workers: int, edges: Sequence[tuple[int, int]]) -> Peers:
    """Returns the neighbors of each worker in a graph, itself among them, at every meeting.

    Args:
      workers: number of workers.
      edges: pairs of workers, in any order; each is for both directions.
    """
    neighbors = [{worker} for worker in range(workers)]
    for one, other in edges:
        neighbors[one].add(other)
        neighbors[other].add(one)
    found = [tuple(sorted(each)) for each in neighbors]
    return lambda worker, meeting: found[worker]


def registered(name: str, function: Peers, workers: int) -> Peers:
    """Returns what a user-defined topology says, checked.

    Args:
      name: under which it is registered.
      function: from a worker and the number of a meeting to who meets there.
      workers: number of workers.

    Raises:
      SimulationError: when asked, it names nobody there, not the worker itself, or somebody who does not name it.
    """

    @functools.lru_cache(maxsize=4096)
    def met(worker: int, meeting: int) -> tuple[int, ...]:
        found = function(worker, meeting)
        if not set(found) <= set(range(workers)) or worker not in found:
            message = f"worker {worker} meets {found!r} at meeting {meeting}: return numbers from 0 to {workers - 1}, "
            raise SimulationError(f"topology.kind = {name!r}: {message}its own among them")
        return tuple(sorted(int(each) for each in set(found)))

    def peers(worker: int, meeting: int) -> tuple[int, ...]:
        found = met(worker, meeting)
        for peer in found:
            if worker not in met(peer, meeting):
                message = f"worker {worker} meets {peer} at meeting {meeting}, and {peer} does not meet {worker}"
                raise SimulationError(f"topology.kind = {name!r}: {message}: each has to name the other")
        return found

    return peers
