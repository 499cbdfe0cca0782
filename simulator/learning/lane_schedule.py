"""Schedule of lanes: the rounds that run side by side and their steps, so that no round waits for a longer one."""

import dataclasses
from collections.abc import Mapping, Sequence

LAUNCH_FLOPS = 1e11
"""What an accelerator could compute while a local step is started: 0.5 ms at 200 TFLOP/s.

Neither number has to be exact: most models are far from it on either side."""

_ENOUGH = 16  # lanes whose work is this many times the cost of launching them gain little from more


@dataclasses.dataclass(frozen=True)
class Segment:
    """A call of one program.

    Attributes:
      places: for each device the rounds in its lanes, equally many lanes everywhere; None in one that idles.
      steps: for each device the number of local steps of all of its lanes.
    """

    places: tuple[tuple[int | None, ...], ...]
    steps: tuple[int, ...]


def launch_overhead(backend: str, flops_per_step: float) -> float:
    """Returns the cost of starting a local step, in lanes: as many as could be computed meanwhile.

    None on a CPU, where a program of m lanes takes at least m times as long as one of a single lane.
    """
    return 0.0 if backend == "cpu" else LAUNCH_FLOPS / flops_per_step


def default_lanes(workers: int, devices: int, overhead: float) -> int:
    """Returns the number of rounds to run side by side: one for each device, or more if starting them costs much."""
    return lanes_of_use(devices * _power_of_two_from(_ENOUGH * overhead), workers, devices, overhead)


def lanes_of_use(most: int, workers: int, devices: int, overhead: float) -> int:
    """Returns the lanes of the largest program that the workers' rounds need, `most` at most."""
    needed = workers if workers < devices else devices * lanes_on_each(workers, devices, overhead)
    return min(whole_lanes(most, devices), needed)


def whole_lanes(most: int, devices: int) -> int:
    """Returns the largest possible number of lanes up to `most`: a power of two on each device, or one on some."""
    return most if most < devices else devices << ((most // devices).bit_length() - 1)


def lanes_on_each(rounds: int, devices: int, overhead: float = 0.0) -> int:
    """Returns the number of lanes of each device, a power of two: no more than there are rounds for, or a few more.

    A step of m lanes costs overhead + m, whether they are all of use or not. Of the powers of two below and above the
    number of rounds for each device the one is taken that costs less for each step that is of use.
    """
    fewer = 1 << (max(rounds // devices, 1).bit_length() - 1)
    more = _power_of_two_from(rounds / devices)

    def cost(lanes: int) -> float:
        return (overhead + lanes) / min(lanes * devices, rounds)

    return more if cost(more) < cost(fewer) else fewer


def plan(lengths: Sequence[int], devices: int = 1, overhead: float = 0.0) -> list[Segment]:
    """Divides rounds of different lengths into segments in which no lane is ahead of its round's end.

    Rounds that are under way keep their lanes; free ones go to the longest of the others. A segment ends with the first
    round that does, so there are no more segments than rounds.

    Args:
      lengths: local steps of each round.
      devices: number of devices that run the program at once, each with as many lanes as any other.
      overhead: cost of starting a step, in lanes.
    """
    left = dict(enumerate(lengths))
    at: dict[int, int] = {}  # the device of each round that is in a lane
    segments = []
    while left:
        lanes = lanes_on_each(len(left), devices, overhead)
        chosen = sorted(left, key=lambda each: (each not in at, -left[each], each))[: lanes * devices]
        places = _placed(chosen, left, at, devices, lanes)
        if len(chosen) < len(left):
            shortest = min(left[each] for each in chosen)
            steps = [shortest if on_device else 0 for on_device in places]
        else:
            steps = [min((left[each] for each in on_device), default=0) for on_device in places]
        for on_device, done in zip(places, steps, strict=True):
            for each in on_device:
                left[each] -= done
        over = {each for each in chosen if not left[each]}
        left = {each: remaining for each, remaining in left.items() if each not in over}
        at = {each: device for device, on_device in enumerate(places) for each in on_device if each not in over}
        segments.append(Segment(tuple((*row, *[None] * (lanes - len(row))) for row in places), tuple(steps)))
    return segments


def _placed(
    chosen: Sequence[int], left: Mapping[int, int], at: Mapping[int, int], devices: int, lanes: int
) -> list[list[int]]:
    """Returns the rounds on each device: those under way stay, others, longest first, go where least is to be done."""
    places: list[list[int]] = [[] for _ in range(devices)]
    others = []
    for each in chosen:
        if each in at and len(places[at[each]]) < lanes:
            places[at[each]].append(each)
        else:
            others.append(each)
    for each in sorted(others, key=lambda other: (-left[other], other)):
        free = [device for device in range(devices) if len(places[device]) < lanes]
        places[min(free, key=lambda device: (sum(left[other] for other in places[device]), device))].append(each)
    return places


def _power_of_two_from(number: float) -> int:
    """Returns the least power of two that is not below a number, at least 1."""
    power = 1
    while power < number:
        power *= 2
    return power
