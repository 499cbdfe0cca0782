import dataclasses
import functools
import logging
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from simulator.learning import (
    BatchedTrainer,
    OuterPrograms,
    Programs,
    SerialTrainer,
    Server,
    Trainer,
    compiled_rounds,
)
from simulator.learning.lane_schedule import Segment, plan
from tests.learning.quadratic import ARRAYS, START, LoggingPrograms, Round, momentum_recipe, round_data


def shifted(amount: float) -> Any:
    return {"x": START["x"] + jnp.float32(amount)}


# (round, start): three workers, worker 0 three times, mixed lengths, shards that move on.
ROUNDS = [
    (Round(0, worker=0, shard=0, steps=6), shifted(0.0)),
    (Round(1, worker=1, shard=1, steps=2), shifted(1.0)),
    (Round(2, worker=0, shard=2, steps=1), shifted(2.0)),
    (Round(3, worker=2, shard=1, first_step=2, steps=5), shifted(-1.0)),
    (Round(4, worker=0, shard=0, first_step=6, steps=4), shifted(0.5)),
    (Round(5, worker=1, shard=2, first_step=1, steps=3), shifted(0.0)),
]


@functools.cache
def shared_programs(keep_state: bool = True) -> Programs:
    return Programs(momentum_recipe(keep_state=keep_state))


@functools.cache
def serially(keep_state: bool) -> list[np.ndarray]:
    return train(SerialTrainer(shared_programs(keep_state), round_data()), ROUNDS, [])


def train(trainer: Trainer, rounds: list[tuple[Round, Any]], asked: list[int]) -> list[np.ndarray]:
    """Submits all, then asks in the given order; returns pseudo-gradients and losses in the order of the rounds."""
    tickets = [trainer.submit(round, params) for round, params in rounds]
    for index in asked:
        trainer.result(tickets[index])
    results = [trainer.result(ticket) for ticket in tickets]
    return [np.append(result.pseudo_gradient["x"], result.loss) for result in results]


def one_after_another(rounds: list[tuple[Round, Any]], recipe: Any) -> list[np.ndarray]:
    """Every worker's rounds by themselves, with its state handed from each to the next."""
    programs = Programs(recipe)
    outcomes = []
    states: dict[int, Any] = {}
    for round, params in rounds:
        state = states.get(round.worker, recipe.initial_state(params))
        [(result, states[round.worker])] = programs.run(
            ARRAYS, round_data().key, [round_data().inputs(round, params, state)]
        )
        outcomes.append(np.append(result.pseudo_gradient["x"], result.loss))
    return outcomes


def test_a_workers_rounds_hand_its_inner_state_on():
    recipe = momentum_recipe()
    chained = one_after_another(ROUNDS, recipe)
    np.testing.assert_allclose(serially(keep_state=True), chained, rtol=1e-5)
    apart = one_after_another(ROUNDS, momentum_recipe(keep_state=False))
    for index, first_of_worker in enumerate([True, True, False, True, False, False]):
        assert np.allclose(chained[index], apart[index], rtol=1e-3) == first_of_worker


@pytest.mark.parametrize("keep_state", [True, False])
@pytest.mark.parametrize("lanes", [1, 2, 3, 4])
@pytest.mark.parametrize("asked", [[0], [5], [3, 0]])
def test_batched_and_serial_agree(lanes: int, keep_state: bool, asked: list[int]):
    batched = train(BatchedTrainer(shared_programs(keep_state), round_data(), lanes), ROUNDS, asked)
    np.testing.assert_allclose(batched, serially(keep_state), rtol=1e-5, atol=1e-6)


def test_batched_and_serial_agree_when_rounds_come_between_results():
    outcomes = []
    for trainer in (SerialTrainer(shared_programs(), round_data()), BatchedTrainer(shared_programs(), round_data(), 4)):
        first = [trainer.submit(round, params) for round, params in ROUNDS[:2]]
        trainer.result(first[1])
        second = [trainer.submit(round, params) for round, params in ROUNDS[2:]]
        results = [trainer.result(ticket) for ticket in (*first, *second)]
        outcomes.append([np.asarray(result.pseudo_gradient["x"]) for result in results])
    np.testing.assert_allclose(outcomes[1], outcomes[0], rtol=1e-5, atol=1e-6)


# Laziness.


def test_nothing_is_computed_before_a_result_is_asked_for_and_then_what_is_pending_beside_it():
    programs = LoggingPrograms(momentum_recipe())
    trainer = BatchedTrainer(programs, round_data(), 4)
    tickets = [trainer.submit(round, params) for round, params in ROUNDS]
    assert programs.calls == []
    assert all(ticket.result is None for ticket in tickets)
    trainer.result(tickets[1])
    assert programs.calls == [[2, 5]]  # three workers are ready: two fit a power of two, and 5 steps are closer than 6
    for ticket in tickets:
        assert trainer.result(ticket) is ticket.result
    assert programs.calls == [[2, 5], [6, 3], [1], [4]]


def test_a_round_is_asked_for_through_the_earlier_ones_of_its_worker():
    programs = LoggingPrograms(momentum_recipe())
    trainer = BatchedTrainer(programs, round_data(), 1)
    tickets = [trainer.submit(round, params) for round, params in ROUNDS]
    trainer.result(tickets[4])
    assert programs.calls == [[6], [1], [4]]
    assert [ticket.result is None for ticket in tickets] == [False, True, False, True, False, True]


def test_rounds_that_nobody_asks_for_are_not_computed():
    executed: list[int] = []

    def counting(params: Any, batch: Any, key: Any) -> jax.Array:
        jax.debug.callback(lambda: executed.append(1))
        return 0.5 * jnp.sum(jnp.square(params["x"]))

    trainer = BatchedTrainer(Programs(momentum_recipe(loss=counting)), round_data(), 1)
    for round, params in ROUNDS[1:]:
        trainer.submit(round, params)
    asked = trainer.submit(Round(9, worker=9, shard=0, steps=6), START)
    trainer.result(asked)
    jax.block_until_ready(trainer.result(asked))
    jax.effects_barrier()
    assert len(executed) == ROUNDS[0][0].steps


def test_the_serial_trainer_computes_at_once():
    programs = LoggingPrograms(momentum_recipe())
    trainer = SerialTrainer(programs, round_data())
    tickets = [trainer.submit(round, params) for round, params in ROUNDS]
    assert programs.calls == [[6], [2], [1], [5], [4], [3]]
    trainer.result(tickets[0])
    assert len(programs.calls) == 6


@pytest.mark.parametrize(
    ("lanes", "calls"),
    [
        (1, [[2], [6], [1], [5], [3], [6], [4]]),
        (2, [[2, 1], [6, 6], [5, 4], [3]]),
        (3, [[2, 1], [6, 6], [5, 4], [3]]),
        (4, [[2, 1, 3, 4], [6, 6], [5]]),
        (8, [[2, 1, 3, 4], [6, 6], [5]]),
    ],
)
def test_programs_hold_a_power_of_two_of_rounds_of_similar_length(lanes: int, calls: list[list[int]]):
    programs = LoggingPrograms(momentum_recipe())
    trainer = BatchedTrainer(programs, round_data(), lanes)
    steps = [2, 6, 1, 5, 3, 6, 4]
    for ticket in [trainer.submit(Round(worker, worker, steps=steps[worker]), START) for worker in range(7)]:
        trainer.result(ticket)
    assert programs.calls == calls


def test_lanes_bound_what_is_compiled_where_starting_a_step_costs_much(monkeypatch: pytest.MonkeyPatch):
    widths: list[int] = []

    def noted(*given: Any) -> list[Segment]:
        segments = plan(*given)
        widths.extend(sum(len(row) for row in segment.places) for segment in segments)
        return segments

    monkeypatch.setattr(compiled_rounds, "plan", noted)
    for lanes, widest in ((6, 4), (8, 8)):
        trainer = BatchedTrainer(Programs(momentum_recipe()), round_data(), lanes, overhead=20.0)
        for ticket in [trainer.submit(Round(worker, worker), START) for worker in range(6)]:
            trainer.result(ticket)
        assert max(widths) == widest
        widths.clear()


def test_rounds_of_the_same_worker_are_never_side_by_side():
    programs = LoggingPrograms(momentum_recipe())
    trainer = BatchedTrainer(programs, round_data(), 8)
    tickets = [trainer.submit(Round(index, worker=0, steps=index + 1), START) for index in range(3)]
    trainer.result(tickets[2])
    assert programs.calls == [[1], [2], [3]]


# Compilation.


def groups(trainer: Trainer, seed: int) -> None:
    """Seven groups of one to seven workers, with rounds of random lengths."""
    random = np.random.default_rng(seed)
    for size in range(1, 8):
        steps = random.integers(1, 7, size)
        tickets = [trainer.submit(Round(100 * size + w, w, steps=int(steps[w])), START) for w in range(size)]
        for ticket in tickets:
            trainer.result(ticket)


@pytest.mark.parametrize(("lanes", "programs_needed"), [(1, 1), (4, 3), (6, 3)])
def test_programs_are_compiled_for_one_lane_and_each_power_of_two_and_never_again(
    lanes: int, programs_needed: int, caplog: pytest.LogCaptureFixture
):
    programs = Programs(momentum_recipe())
    trainer = BatchedTrainer(programs, round_data(), lanes)
    groups(trainer, seed=0)
    assert programs.compilations == programs_needed
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        groups(trainer, seed=1)
        groups(BatchedTrainer(programs, round_data(), lanes), seed=2)  # programs are shared, states are not
    assert programs.compilations == programs_needed
    assert [record.message for record in caplog.records if "Compiling" in record.message] == []


def test_a_compilation_would_be_logged(caplog: pytest.LogCaptureFixture):
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        groups(BatchedTrainer(Programs(momentum_recipe()), round_data(), 1), seed=0)
    assert any("Compiling" in record.message for record in caplog.records)


# What a ticket holds.


def test_what_a_pending_round_pulled_outlives_later_updates_of_the_server():
    server = Server(START, OuterPrograms(optax.with_extra_args_support(optax.sgd(0.7, momentum=0.9, nesterov=True))))
    trainer = BatchedTrainer(shared_programs(), round_data(), 2)
    pending = trainer.submit(ROUNDS[0][0], server.params)
    expected = one_after_another([(ROUNDS[0][0], START)], momentum_recipe())[0]
    for amount in (1.0, 2.0, 3.0):
        server.apply(shifted(amount), staleness=0, worker=1, pulled_params=server.params)
    assert not np.allclose(server.params["x"], START["x"], atol=0.5)
    result = trainer.result(pending)
    np.testing.assert_allclose(np.append(result.pseudo_gradient["x"], result.loss), expected, rtol=1e-5)
    np.testing.assert_array_equal(pending.params["x"], START["x"])


def test_no_lanes_are_refused():
    with pytest.raises(ValueError, match=r"^lanes must be at least 1, not 0$"):
        BatchedTrainer(shared_programs(), round_data(), 0)


def test_lanes_that_cannot_fill_the_devices_are_refused():
    programs = Programs(momentum_recipe(), jax.local_devices()[:1] * 2)
    with pytest.raises(ValueError, match=r"^1 lanes cannot fill 2 devices$"):
        BatchedTrainer(programs, round_data(), 1)


@pytest.mark.parametrize("kind", ["serial", "batched"])
def test_a_round_that_is_dropped_leaves_no_mark(kind: str):
    trainer, alone = make_trainer(kind), make_trainer("serial")
    lost, other = (trainer.submit(*each) for each in ROUNDS[:2])
    trainer.result(other)  # beside which the batched trainer computes what is lost
    trainer.drop(lost)
    found = trainer.result(trainer.submit(*ROUNDS[2]))
    np.testing.assert_allclose(
        found.pseudo_gradient["x"], alone.result(alone.submit(*ROUNDS[2])).pseudo_gradient["x"], rtol=1e-5
    )


def test_a_round_that_is_dropped_before_anyone_asks_is_never_computed():
    trainer = make_trainer("batched")
    lost, other = (trainer.submit(*each) for each in ROUNDS[:2])
    trainer.drop(lost)
    trainer.result(other)
    assert lost.result is None


@pytest.mark.parametrize("kind", ["serial", "batched"])
def test_a_round_that_is_shortened_is_as_if_it_had_been_so_from_the_start(kind: str):
    trainer, short = make_trainer(kind), make_trainer("serial")
    first = trainer.submit(*ROUNDS[0])
    second = trainer.submit(*ROUNDS[1])
    trainer.result(second)
    trainer.shorten(first, dataclasses.replace(ROUNDS[0][0], steps=4))
    expected = short.submit(dataclasses.replace(ROUNDS[0][0], steps=4), ROUNDS[0][1])
    one, other = (each.submit(*ROUNDS[2]) for each in (trainer, short))
    for mine, its in ((first, expected), (one, other)):
        found, right = trainer.result(mine), short.result(its)
        np.testing.assert_allclose(found.pseudo_gradient["x"], right.pseudo_gradient["x"], rtol=1e-5)


@pytest.mark.parametrize("kind", ["serial", "batched"])
def test_a_worker_that_forgets_begins_anew_and_what_it_had_done_counts(kind: str):
    trainer, fresh = make_trainer(kind), make_trainer("serial")
    done = trainer.submit(*ROUNDS[0])
    trainer.forget(0)  # its round has arrived and is not yet processed
    after = trainer.submit(*ROUNDS[2])
    expected = [fresh.result(fresh.submit(*ROUNDS[0]))]
    fresh.forget(0)
    expected.append(fresh.result(fresh.submit(*ROUNDS[2])))
    other = make_trainer("serial")
    np.testing.assert_array_equal(expected[1].loss, other.result(other.submit(*ROUNDS[2])).loss)
    for ticket, right in zip((after, done), expected[::-1], strict=True):
        np.testing.assert_allclose(trainer.result(ticket).pseudo_gradient["x"], right.pseudo_gradient["x"], rtol=1e-5)
    state = jax.tree.leaves(trainer.inner_states[0])
    for leaf, its in zip(state, jax.tree.leaves(fresh.inner_states[0]), strict=True):
        np.testing.assert_allclose(leaf, its, rtol=1e-5)


def make_trainer(kind: str) -> Trainer:
    programs = shared_programs()
    return SerialTrainer(programs, round_data()) if kind == "serial" else BatchedTrainer(programs, round_data(), 4)


def test_a_shortened_round_keeps_its_place_as_after_a_resumption():
    calls = []
    for resumed in (False, True):
        programs = LoggingPrograms(momentum_recipe())
        trainer: Trainer = BatchedTrainer(programs, round_data(), 2)
        tickets = [trainer.submit(Round(number, worker=number, steps=5), START) for number in range(4)]
        trainer.shorten(tickets[1], Round(1, worker=1, steps=4))
        if resumed:
            trainer = BatchedTrainer(programs, round_data(), 2)
            trainer.resume({}, tickets)
        trainer.shorten(tickets[0], Round(0, worker=0, steps=4))
        for number in (2, 1):
            trainer.result(tickets[number])
        calls.append(programs.calls)
    assert calls == [[[5, 5], [4, 4]]] * 2
