"""Rounds that are cut off, lost or forgotten, as the learner follows them: events made by hand."""

import functools
from typing import Any

import jax
import numpy as np
import pytest

from simulator.learning import BatchedTrainer, SerialTrainer, Trainer
from simulator.record import Checkpoint
from simulator.simulation.training_learner import TrainingLearner
from simulator.timeline import Arrival, Dispatched, Event, Fault, Lost, Round, Shortened, Update
from tests.learning.quadratic import LoggingPrograms
from tests.simulation.quadratic_cluster import QuadraticSetup, apply, experiment

MOMENTUM = {"inner": {"arguments": {"momentum": 0.9}}}
EXPERIMENT = experiment([1.0] * 4, MOMENTUM, {"synchronization": {"kind": "asynchronous"}})


class LoggingSetup(QuadraticSetup):
    """Setup whose programs note their calls, and whose batched trainer has two lanes."""

    @functools.cached_property
    def quadratic(self) -> Any:
        programs, data = super().quadratic
        return LoggingPrograms(programs.recipe), data

    def trainer(self, kind: str) -> Trainer:
        programs, data = self.quadratic
        return SerialTrainer(programs, data) if kind == "serial" else BatchedTrainer(programs, data, 2)


class Followed:
    """A learner, and the events that it has followed."""

    def __init__(self, kind: str):
        self.kind, self.setup = kind, LoggingSetup(EXPERIMENT)
        self.learner = TrainingLearner(self.setup, kind, None)
        self.events: list[Event] = []

    def follow(self, *events: Event) -> None:
        for event in events:
            self.events.append(event)
            apply(self.learner, event)

    def resume(self) -> None:
        """Goes on with another learner from the state of this one."""
        saved = Checkpoint(len(self.events), *self.learner.state())
        self.learner = TrainingLearner(self.setup, self.kind, None, saved)
        for event in self.events:
            self.learner.follow(event)
        self.learner.resume(saved)

    @property
    def calls(self) -> list[list[int]]:
        """Steps of the rounds in every call of a program."""
        calls: list[list[int]] = self.setup.quadratic[0].calls
        return calls

    @property
    def params(self) -> np.ndarray:
        return np.concatenate([np.asarray(leaf) for leaf in jax.tree.leaves(self.learner.params())])


def round_of(id: int, worker: int, steps: int = 6, first_step: int = 0) -> Round:
    return Round(id, worker, worker, first_step, steps, 0)


def begun(round: Round) -> Dispatched:
    return Dispatched(0, round)


def arrived(round: Round) -> Update:
    return Update(0, (Arrival(round, 0, 0, 0, 0, 0),), (0,), "applied", 1, round.steps)


def close(one: Followed, other: Followed) -> None:
    np.testing.assert_allclose(one.params, other.params, rtol=1e-5, atol=1e-6)


ONE, OTHER = round_of(0, 0), round_of(1, 1)
SHORT = ONE._replace(steps=4)
NEXT = round_of(2, 0, first_step=6)
KINDS = pytest.mark.parametrize("kind", ["serial", "batched"])


@KINDS
def test_a_round_that_is_cut_off_is_as_if_it_had_been_so_from_the_start(kind: str):
    cut, short, whole = Followed(kind), Followed("serial"), Followed("serial")
    cut.follow(begun(ONE), begun(OTHER), arrived(OTHER), Shortened(0, SHORT, 6))  # OTHER beside ONE, where batched
    short.follow(begun(SHORT), begun(OTHER), arrived(OTHER))
    whole.follow(begun(ONE), begun(OTHER), arrived(OTHER), arrived(ONE), begun(NEXT), arrived(NEXT))
    for followed in (cut, short):
        followed.follow(arrived(SHORT), begun(NEXT), arrived(NEXT))  # which has its momentum
    close(cut, short)
    assert not np.allclose(cut.params, whole.params, rtol=1e-3)


@KINDS
def test_a_round_that_is_lost_leaves_no_mark(kind: str):
    lost, never = Followed(kind), Followed("serial")
    lost.follow(begun(ONE), begun(OTHER), arrived(OTHER), Lost(0, ONE, "crash", 6, 1, 0))
    never.follow(begun(OTHER), arrived(OTHER))
    for followed in (lost, never):
        followed.follow(begun(NEXT), arrived(NEXT))
    close(lost, never)


def test_a_round_that_is_lost_before_its_result_is_needed_is_never_computed():
    lost = Followed("batched")
    lost.follow(begun(ONE), begun(OTHER), Lost(0, ONE, "crash", 6, 1, 0), arrived(OTHER))
    assert lost.calls == [[6]]


@KINDS
def test_a_worker_that_forgets_begins_anew_and_what_it_had_done_counts(kind: str):
    forgetful, other, keeping = Followed(kind), Followed("serial"), Followed("serial")
    forgetful.follow(begun(ONE), Fault(0, 0, "crash", forgets=True), arrived(ONE), begun(NEXT), arrived(NEXT))
    # A worker that has never trained does the same, on the shard of the first.
    anew = NEXT._replace(worker=2)
    other.follow(begun(ONE), arrived(ONE), begun(anew), arrived(anew))
    keeping.follow(begun(ONE), Fault(0, 0, "crash"), arrived(ONE), begun(NEXT), arrived(NEXT))
    close(forgetful, other)
    assert not np.allclose(forgetful.params, keeping.params, rtol=1e-3)


def test_a_round_that_is_cut_off_keeps_its_place_as_after_a_resumption():
    calls = []
    for resumes in (False, True):
        followed = Followed("batched")
        rounds = [round_of(number, number, steps=5) for number in range(4)]
        followed.follow(*map(begun, rounds), Shortened(0, rounds[1]._replace(steps=4), 5))
        if resumes:
            followed.resume()
        followed.follow(Shortened(0, rounds[0]._replace(steps=4), 5), arrived(rounds[2]))
        followed.follow(arrived(rounds[1]._replace(steps=4)))
        calls.append(followed.calls)
    assert calls == [[[5, 5], [4, 4]]] * 2


@KINDS
def test_a_resumed_learner_has_the_same_parameters_and_momenta(kind: str):
    found = []
    for resumes in (False, True):
        followed = Followed(kind)
        followed.follow(begun(ONE), begun(OTHER), arrived(OTHER), begun(round_of(2, 1, first_step=6)))
        if resumes:
            followed.resume()
        followed.follow(arrived(ONE), arrived(round_of(2, 1, first_step=6)), begun(round_of(3, 0, first_step=6)))
        followed.follow(arrived(round_of(3, 0, first_step=6)))
        found.append(followed.params)
    np.testing.assert_array_equal(*found)
