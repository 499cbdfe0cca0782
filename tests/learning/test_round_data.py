import dataclasses
import threading
from typing import Any

import jax
import numpy as np
import pytest

from simulator.learning import BatchedTrainer, Programs, RoundData, SerialTrainer, Stretch
from simulator.learning import round_data as module
from tests.learning.quadratic import (
    ARRAYS,
    START,
    Workers,
    fetch,
    learned,
    momentum_recipe,
    order,
    rates,
    round_data,
    stretch,
)

TARGETS = np.asarray(ARRAYS["targets"])


class Host:
    """Gathers targets on the host and notes where: "ahead" in another thread, "now" in that of the caller."""

    def __init__(self) -> None:
        self.caller = threading.get_ident()
        self.gathered: list[tuple[str, int]] = []

    def __call__(self, addresses: np.ndarray) -> np.ndarray:
        where = "now" if threading.get_ident() == self.caller else "ahead"
        self.gathered.append((where, int(addresses[0, 0])))
        return TARGETS[addresses]


def host_data(gather: Any, longest_round: int = 6) -> RoundData:
    return RoundData({}, order, rates, longest_round, jax.random.key(0), gather)


def own_round(id: int, worker: int = 0, **changes: int) -> Stretch:
    """A round of a shard of its own, whose first address is 17 times its id."""
    return stretch(id, worker=worker, shard=id, **changes)


def examples_of(fed: RoundData, round: Stretch) -> np.ndarray:
    return fed.inputs(round, START, ()).examples


def test_a_round_is_filled_up_to_the_longest():
    rows = order(1, 0, 2)
    on_host = examples_of(host_data(Host(), 3), own_round(1, steps=2))
    np.testing.assert_array_equal(on_host, np.concatenate([TARGETS[rows], np.zeros((1, 2, 3), np.float32)]))
    assert on_host.dtype == np.float32
    on_device = examples_of(round_data(3), own_round(1, steps=2))
    np.testing.assert_array_equal(on_device, np.concatenate([rows, np.zeros((1, 2), np.int32)]))
    assert on_device.dtype == np.int32


def test_an_announced_round_is_gathered_ahead_and_used_once():
    host = Host()
    fed = host_data(host)
    fed.announce(own_round(2))
    expected = examples_of(host_data(Host()), own_round(2))
    np.testing.assert_array_equal(examples_of(fed, own_round(2)), expected)
    assert host.gathered == [("ahead", 34)]
    np.testing.assert_array_equal(examples_of(fed, own_round(2)), expected)
    assert host.gathered == [("ahead", 34), ("now", 34)]


def test_rounds_are_used_in_any_order():
    host = Host()
    fed = host_data(host)
    for number in range(3):
        fed.announce(own_round(number, worker=number))
    for number in (2, 3, 0, 1):
        np.testing.assert_array_equal(examples_of(fed, own_round(number, number))[:3], TARGETS[order(number, 0, 3)])
    assert sorted(host.gathered) == [("ahead", 0), ("ahead", 17), ("ahead", 34), ("now", 51)]


def test_a_workers_next_round_replaces_one_that_was_lost():
    host = Host()
    fed = host_data(host)
    fed.announce(own_round(0, worker=5))
    fed.announce(own_round(1, worker=5))
    np.testing.assert_array_equal(examples_of(fed, own_round(1, worker=5))[:3], TARGETS[order(1, 0, 3)])
    assert host.gathered == [("ahead", 0), ("ahead", 17)]
    np.testing.assert_array_equal(examples_of(fed, own_round(0, worker=5))[:3], TARGETS[order(0, 0, 3)])
    assert host.gathered[2:] == [("now", 0)]


def test_a_round_that_was_not_announced_leaves_its_workers_announced_one():
    host = Host()
    fed = host_data(host)
    fed.announce(own_round(1, worker=5))
    examples_of(fed, own_round(0, worker=5))
    examples_of(fed, own_round(1, worker=5))
    assert sorted(host.gathered) == [("ahead", 17), ("now", 0)]


def test_no_more_than_the_limit_are_gathered_ahead(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_AHEAD", 2)
    host = Host()
    fed = host_data(host)
    for number in range(4):
        fed.announce(own_round(number, worker=number))
    for number in range(4):
        examples_of(fed, own_round(number, worker=number))
    assert sorted(host.gathered) == [("ahead", 0), ("ahead", 17), ("now", 34), ("now", 51)]
    fed.announce(own_round(3, worker=9))
    examples_of(fed, own_round(3, worker=9))
    assert host.gathered[4:] == [("ahead", 51)]


def test_at_the_limit_a_lost_round_is_still_replaced(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_AHEAD", 2)
    host = Host()
    fed = host_data(host)
    for number, worker in ((0, 0), (1, 1), (2, 1)):
        fed.announce(own_round(number, worker=worker))
    examples_of(fed, own_round(2, worker=1))
    assert host.gathered == [("ahead", 0), ("ahead", 17), ("ahead", 34)]


def test_what_the_device_looks_up_itself_is_not_gathered():
    host = Host()
    fed = dataclasses.replace(round_data(), gather=host)
    fed.announce(own_round(0))
    assert host.gathered == []


def test_an_error_of_gathering_ahead_is_raised_where_the_round_is_needed():
    def fail(addresses: np.ndarray) -> np.ndarray:
        raise OSError("the disk is gone")

    fed = host_data(fail)
    fed.announce(own_round(0))
    with pytest.raises(OSError, match="the disk is gone"):
        examples_of(fed, own_round(0))


@pytest.mark.parametrize("lanes", [1, 4])
def test_trainers_that_gather_learn_the_same_as_those_that_look_up(lanes: int):
    rounds = [
        stretch(0, 0, 0),
        stretch(1, 1, 1, steps=6),
        stretch(2, 0, 2, steps=1),
        stretch(3, 2, 1, 2),
        stretch(4, 1, 0, 3),
    ]
    on_host = Programs(momentum_recipe(fetch=lambda arrays, examples: examples))
    on_device = Programs(momentum_recipe(fetch=fetch))
    host = Host()
    results = []
    for trainer in (
        BatchedTrainer(on_host, host_data(host), lanes),
        SerialTrainer(on_host, host_data(Host())),
        BatchedTrainer(on_device, round_data(), lanes),
    ):
        workers = Workers(trainer)
        trainings = [workers.submit(each, START) for each in rounds]
        results.append([learned(trainings[index]) for index in (3, 0, 1, 2, 4)])
    # The first announcements of two workers with two rounds have been replaced.
    assert sorted(where for where, _ in host.gathered) == ["ahead"] * 5 + ["now"] * 2
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5)
    np.testing.assert_allclose(results[0], results[2], rtol=1e-5)


def test_stretches_of_a_round_are_told_apart():
    host = Host()
    fed = host_data(host)
    later = own_round(1)._replace(first_step=3, before=3)
    fed.announce(own_round(1))
    fed.forget(later)
    np.testing.assert_array_equal(examples_of(fed, later)[:3], TARGETS[order(1, 3, 3)])
    np.testing.assert_array_equal(examples_of(fed, own_round(1))[:3], TARGETS[order(1, 0, 3)])
    assert sorted(host.gathered) == [("ahead", 17), ("now", 23)]


def test_a_round_that_will_not_be_run_makes_room_for_another(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_AHEAD", 1)
    host = Host()
    fed = host_data(host)
    fed.announce(own_round(0, worker=0))
    fed.forget(own_round(7, worker=0))  # another one of its worker
    fed.announce(own_round(1, worker=1))  # no room
    fed.forget(own_round(0, worker=0))
    fed.announce(own_round(2, worker=2))
    for number in range(3):
        np.testing.assert_array_equal(examples_of(fed, own_round(number, number))[:3], TARGETS[order(number, 0, 3)])
    assert sorted(host.gathered) == [("ahead", 0), ("ahead", 34), ("now", 0), ("now", 17)]


def test_a_training_that_is_dropped_makes_room_for_another(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_AHEAD", 1)
    host = Host()
    trainer = BatchedTrainer(Programs(momentum_recipe(fetch=lambda arrays, examples: examples)), host_data(host), 1)
    workers = Workers(trainer)
    trainer.drop(workers.submit(own_round(0, worker=0), START))
    workers.submit(own_round(1, worker=1), START).get()
    assert sorted(host.gathered) == [("ahead", 0), ("ahead", 17)]
