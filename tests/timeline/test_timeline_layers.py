"""Local steps that offer fragments as soon as they are done with their layers, with times worked by hand."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from simulator.cluster import Collective, Layers, Link, MessageShares, offered_fragments, seconds
from simulator.experiment.schema.offer_schedule import PeriodicSchedule
from simulator.timeline import Accepted, Barrier, Event, Schedule
from tests.timeline.builders import arrivals, cluster, events, updates


def history(each_s: float, schedule: Schedule, steps: int = 1, updates: int = 8, step_s: float = 5.0) -> list[Event]:
    """Two workers whose ring takes `each_s` for each fragment."""
    count = schedule.fragments
    link = Link(600, np.zeros(2), np.full(2, each_s * count), None)
    model = cluster([step_s] * 2, up=link, down=link)
    model = dataclasses.replace(model, collective=Collective("ring", link.costs, link.costs))
    return events(
        model,
        synchronization=Barrier(),
        steps=[steps] * 2,
        schedule=schedule,
        shares=MessageShares((1 / count,) * count, (1 / count,) * count),
        budget_updates=updates,
    )


def offered_s(history: list[Event]) -> list[tuple[int, float]]:
    return [(each.round.fragment, seconds(each.push_start_ns)) for each in arrivals(history) if each.round.worker == 0]


def accepted_s(history: list[Event]) -> list[tuple[int, float]]:
    found = [each for each in history if isinstance(each, Accepted) and each.node == 0]
    return [(each.fragment, seconds(each.time_ns)) for each in found]


TWO = Layers(2, (1, 0))  # five parts: forward 0, 1, backward activations 1, weights 1, weights 0


def test_data_parallel_overlaps_all_but_the_last_reduction():
    """Layer 1 is done after 4 parts of 1 s, layer 0 after 5; the second reduction waits for the first.

    They end at 5.5 s and at 7 s, when the next step can begin, since it needs layer 0 first.
    """
    made = history(1.5, Schedule((0, 0), layers=TWO), updates=4)
    assert offered_s(made) == [(0, 4), (1, 5), (0, 11), (1, 12)]
    assert [(seconds(each.since_ns), seconds(each.time_ns)) for each in updates(made)] == [  # type: ignore[arg-type]
        (4, 5.5),
        (5.5, 7),
        (11, 12.5),
        (12.5, 14),
    ]
    assert accepted_s(made) == [(1, 7), (0, 8)]  # the fragment of layer 1 before its forward pass, a part later
    assert [each.round.steps for each in arrivals(made) if each.round.worker == 0] == [1, 0, 1, 0]
    assert [seconds(each.blocked_ns) for each in arrivals(made) if each.round.worker == 0] == [0, 0, 0, 0]


def test_a_reduction_that_is_there_in_time_costs_nothing():
    made = history(0.25, Schedule((0, 0), layers=TWO), updates=4)
    assert offered_s(made) == [(0, 4), (1, 5), (0, 4 + 5.25), (1, 5 + 5.25)]  # of that of layer 0 alone


def test_an_answer_a_step_later_leaves_a_step_for_the_network():
    made = history(1.5, Schedule((0, 0), overlap=1, layers=TWO), updates=8)
    assert offered_s(made) == [(0, 4), (1, 5), (0, 9), (1, 10), (0, 14), (1, 15), (0, 19), (1, 20)]
    assert accepted_s(made)[:4] == [(1, 10), (0, 11), (1, 15), (0, 16)]


def test_a_worker_waits_within_a_step():
    """Layer 1's fragment alone is slow: offered after step 2, at 9 s of 10; it is awaited after a part of step 3."""
    made = history(4.0, Schedule((0, 1), layers=TWO), steps=2, updates=3)
    # Fragment 0 is offered in step 2 at 9 s, and there at 13 s: a part of step 3 is from 10 s to 11 s, the rest from
    # 13 s to 17 s, when fragment 1 is offered; it is there at 21 s, when step 4 begins.
    assert accepted_s(made)[:2] == [(0, 13), (1, 21)]
    assert offered_s(made) == [(0, 9), (1, 17), (0, 25)]
    assert [seconds(each.blocked_ns) for each in arrivals(made) if each.round.worker == 0] == [0, 2, 0]


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("overlap", [0, 1])
@pytest.mark.parametrize("phases", [1, 2, 3])
def test_workers_do_what_a_direct_loop_does(steps: int, overlap: int, phases: int):
    """A step at a time, a part at a time, with one serial network."""
    count, each_s, part_s = 6, 1.3, 5.0 / 17
    section = PeriodicSchedule(fragments=count, layers=count, phases=phases, overlap=overlap)
    _, offsets, layers = offered_fragments(section, steps)
    made = history(each_s, Schedule(offsets, overlap, layers=layers), steps, updates=30)
    offset_of_layer = [layer % phases * steps // phases for layer in range(count)]
    there: dict[tuple[int, int], float] = {}  # layer and step to when its reduction is done
    now, free, met = 0.0, 0.0, []
    for step in range(1, 60):
        for layer in range(count):
            now = max(now, there.get((layer, step - 1 - overlap), 0.0)) + part_s
        for layer in reversed(range(count)):
            now += part_s * (2 if layer else 1)
            if step > offset_of_layer[layer] and (step - offset_of_layer[layer]) % steps == 0:
                free = max(free, now) + each_s
                there[layer, step] = free
                met.append(free)
    assert [seconds(each.time_ns) for each in updates(made)] == pytest.approx(met[:30], abs=1e-7)


@pytest.mark.parametrize(
    ("section", "offsets", "layers"),
    [
        ({"fragments": 3, "layers": 6}, (0, 3, 6), (0, 1, 2)),
        ({"fragments": 3, "layers": 6, "composition": "sequential"}, (0, 3, 6), (0, 2, 4)),
        ({"fragments": 4, "layers": 4, "phases": 1}, (0, 0, 0, 0), (3, 2, 1, 0)),
        ({"fragments": 4, "layers": 4, "phases": 2}, (0, 0, 5, 5), (2, 0, 3, 1)),
        ({"fragments": 4, "layers": 4, "phases": 2, "composition": "sequential"}, (0, 0, 5, 5), (1, 0, 3, 2)),
        ({"fragments": 2, "layers": 4, "offsets": [3, 0]}, (0, 3), (1, 0)),
    ],
)
def test_fragments_are_numbered_in_the_order_of_their_offers(section: Any, offsets: Any, layers: Any):
    found = offered_fragments(PeriodicSchedule(**section), 10)
    assert (found.offsets, found.layers) == (offsets, Layers(section["layers"], layers))
    assert [sorted(layers).index(each) for each in layers] == list(found.order)


def test_the_parts_of_a_step():
    """Forward 0 1 2, then activations and weights of 2, of 1, and weights of 0."""
    layers = Layers(3, (0, 1, 2))
    assert layers.parts == 8
    assert [layers.needed(each) for each in range(3)] == [0, 1, 2]
    assert [layers.done(each) for each in range(3)] == [8, 7, 5]
