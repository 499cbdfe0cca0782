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
    OfferInfo,
    OuterPrograms,
    Programs,
    SerialTrainer,
    Server,
    Stretch,
    Trainer,
    Training,
    compiled_rounds,
)
from simulator.learning.lane_schedule import Segment, plan
from tests.learning.quadratic import (
    ARRAYS,
    START,
    LoggingPrograms,
    Workers,
    learned,
    momentum_recipe,
    moved,
    result_of,
    round_data,
    stretch,
)


def shifted(amount: float) -> Any:
    return {"x": START["x"] + jnp.float32(amount)}


# (round, start): three workers, worker 0 three times, mixed lengths, shards that move on.
ROUNDS = [
    (stretch(0, worker=0, shard=0, steps=6), shifted(0.0)),
    (stretch(1, worker=1, shard=1, steps=2), shifted(1.0)),
    (stretch(2, worker=0, shard=2, steps=1), shifted(2.0)),
    (stretch(3, worker=2, shard=1, first_step=2, steps=5), shifted(-1.0)),
    (stretch(4, worker=0, shard=0, first_step=6, steps=4), shifted(0.5)),
    (stretch(5, worker=1, shard=2, first_step=1, steps=3), shifted(0.0)),
]


@functools.cache
def shared_programs(keep_state: bool = True) -> Programs:
    return Programs(momentum_recipe(keep_state=keep_state))


@functools.cache
def serially(keep_state: bool) -> list[np.ndarray]:
    return train(SerialTrainer(shared_programs(keep_state), round_data()), ROUNDS, [])


def submitted(trainer: Trainer, rounds: list[tuple[Stretch, Any]]) -> list[Training]:
    workers = Workers(trainer)
    return [workers.submit(*each) for each in rounds]


def train(trainer: Trainer, rounds: list[tuple[Stretch, Any]], asked: list[int]) -> list[np.ndarray]:
    """Submits all, then asks in the given order; returns pseudo-gradients and losses in the order of the rounds."""
    trainings = submitted(trainer, rounds)
    for index in asked:
        trainings[index].get()
    return [learned(training) for training in trainings]


def one_after_another(rounds: list[tuple[Stretch, Any]], recipe: Any) -> list[np.ndarray]:
    """Every worker's rounds by themselves, with its state handed from each to the next."""
    programs = Programs(recipe)
    outcomes = []
    states: dict[int, Any] = {}
    for round, params in rounds:
        state = states.get(round.worker, recipe.initial_state(params))
        [(result, states[round.worker])] = programs.run(
            ARRAYS, round_data().key, [round_data().inputs(round, params, state)]
        )
        outcomes.append(np.append(moved(params, result), result.loss))
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
        workers = Workers(trainer)
        first = [workers.submit(*each) for each in ROUNDS[:2]]
        first[1].get()
        second = [workers.submit(*each) for each in ROUNDS[2:]]
        outcomes.append([learned(training) for training in (*first, *second)])
    np.testing.assert_allclose(outcomes[1], outcomes[0], rtol=1e-5, atol=1e-6)


# Laziness.


def test_nothing_is_computed_before_a_result_is_asked_for_and_then_what_is_pending_beside_it():
    programs = LoggingPrograms(momentum_recipe())
    trainings = submitted(BatchedTrainer(programs, round_data(), 4), ROUNDS)
    assert programs.calls == []
    assert not any(training.is_known for training in trainings)
    trainings[1].get()
    assert programs.calls == [[2, 5]]  # three workers are ready: two fit a power of two, and 5 steps are closer than 6
    for training in trainings:
        assert training.get() is training.get()
    assert programs.calls == [[2, 5], [6, 3], [1], [4]]


def test_a_round_is_asked_for_through_the_earlier_ones_of_its_worker():
    programs = LoggingPrograms(momentum_recipe())
    trainings = submitted(BatchedTrainer(programs, round_data(), 1), ROUNDS)
    trainings[4].get()
    assert programs.calls == [[6], [1], [4]]
    assert [training.is_known for training in trainings] == [True, False, True, False, True, False]


def test_rounds_that_nobody_asks_for_are_not_computed():
    executed: list[int] = []

    def counting(params: Any, batch: Any, key: Any) -> jax.Array:
        jax.debug.callback(lambda: executed.append(1))
        return 0.5 * jnp.sum(jnp.square(params["x"]))

    workers = Workers(BatchedTrainer(Programs(momentum_recipe(loss=counting)), round_data(), 1))
    for each in ROUNDS[1:]:
        workers.submit(*each)
    asked = workers.submit(stretch(9, worker=9, shard=0, steps=6), START)
    asked.get()
    jax.block_until_ready(asked.get())
    jax.effects_barrier()
    assert len(executed) == ROUNDS[0][0].steps


def test_the_serial_trainer_computes_at_once():
    programs = LoggingPrograms(momentum_recipe())
    trainings = submitted(SerialTrainer(programs, round_data()), ROUNDS)
    assert programs.calls == [[6], [2], [1], [5], [4], [3]]
    trainings[0].get()
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
    steps = [2, 6, 1, 5, 3, 6, 4]
    rounds = [(stretch(worker, worker, steps=steps[worker]), START) for worker in range(7)]
    for training in submitted(BatchedTrainer(programs, round_data(), lanes), rounds):
        training.get()
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
        for training in submitted(trainer, [(stretch(worker, worker), START) for worker in range(6)]):
            training.get()
        assert max(widths) == widest
        widths.clear()


def test_rounds_of_the_same_worker_are_never_side_by_side():
    programs = LoggingPrograms(momentum_recipe())
    rounds = [(stretch(index, worker=0, steps=index + 1), START) for index in range(3)]
    submitted(BatchedTrainer(programs, round_data(), 8), rounds)[2].get()
    assert programs.calls == [[1], [2], [3]]


# Compilation.


def groups(trainer: Trainer, seed: int) -> None:
    """Seven groups of one to seven workers, with rounds of random lengths."""
    random = np.random.default_rng(seed)
    for size in range(1, 8):
        steps = random.integers(1, 7, size)
        rounds = [(stretch(100 * size + w, w, steps=int(steps[w])), START) for w in range(size)]
        for training in submitted(trainer, rounds):
            training.get()


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


# Values that trainings hold.


def test_what_a_pending_round_pulled_outlives_later_updates_of_the_server():
    server = Server(START, OuterPrograms(optax.with_extra_args_support(optax.sgd(0.7, momentum=0.9, nesterov=True))))
    trainer = BatchedTrainer(shared_programs(), round_data(), 2)
    pending = Workers(trainer).submit(ROUNDS[0][0], server.params)
    expected = one_after_another([(ROUNDS[0][0], START)], momentum_recipe())[0]
    for amount in (1.0, 2.0, 3.0):
        server.apply(shifted(amount), OfferInfo(1, 0), server.params)
    assert not np.allclose(server.params["x"], START["x"], atol=0.5)
    np.testing.assert_allclose(learned(pending), expected, rtol=1e-5)
    np.testing.assert_array_equal(pending.start.get()["x"], START["x"])


def test_no_lanes_are_refused():
    with pytest.raises(ValueError, match=r"^lanes must be at least 1, not 0$"):
        BatchedTrainer(shared_programs(), round_data(), 0)


def test_lanes_that_cannot_fill_the_devices_are_refused():
    programs = Programs(momentum_recipe(), jax.local_devices()[:1] * 2)
    with pytest.raises(ValueError, match=r"^1 lanes cannot fill 2 devices$"):
        BatchedTrainer(programs, round_data(), 1)


# Trainings that nobody needs.


@pytest.mark.parametrize("kind", ["serial", "batched"])
def test_a_training_that_is_dropped_leaves_no_mark(kind: str):
    trainer = make_trainer(kind)
    workers = Workers(trainer)
    lost, other = (workers.submit(*each) for each in ROUNDS[:2])
    other.get()  # beside which the batched trainer computes what is lost
    trainer.drop(lost)
    del workers.inner[0]  # as before what is lost
    [alone] = train(make_trainer("serial"), ROUNDS[2:3], [])
    np.testing.assert_allclose(learned(workers.submit(*ROUNDS[2])), alone, rtol=1e-5)


def test_a_training_that_is_dropped_before_anyone_asks_is_never_computed():
    programs = LoggingPrograms(momentum_recipe())
    trainer = BatchedTrainer(programs, round_data(), 4)
    lost, other = submitted(trainer, ROUNDS[:2])
    trainer.drop(lost)
    other.get()
    assert not lost.is_known
    assert programs.calls == [[2]]


@pytest.mark.parametrize("kind", ["serial", "batched"])
def test_a_training_that_is_replaced_by_a_shorter_one_is_as_if_it_had_been_so_from_the_start(kind: str):
    trainer = make_trainer(kind)
    workers, short = Workers(trainer), (ROUNDS[0][0]._replace(steps=4), ROUNDS[0][1])
    long, other = (workers.submit(*each) for each in ROUNDS[:2])
    other.get()
    trainer.drop(long)
    del workers.inner[0]
    found = [learned(workers.submit(*each)) for each in (short, ROUNDS[2])]
    np.testing.assert_allclose(found, train(make_trainer("serial"), [short, ROUNDS[2]], []), rtol=1e-5)
    assert not np.allclose(found[0], learned(long), rtol=1e-3)


@pytest.mark.parametrize("kind", ["serial", "batched"])
def test_a_worker_without_its_inner_state_begins_anew_and_what_it_had_done_counts(kind: str):
    workers = Workers(make_trainer(kind))
    done = workers.submit(*ROUNDS[0])
    del workers.inner[0]
    after = workers.submit(*ROUNDS[2])
    found = [learned(training) for training in (after, done)]
    expected = [train(make_trainer("serial"), [each], [])[0] for each in (ROUNDS[2], ROUNDS[0])]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert not np.allclose(found[0], serially(keep_state=True)[2], rtol=1e-3)


def make_trainer(kind: str) -> Trainer:
    programs = shared_programs()
    return SerialTrainer(programs, round_data()) if kind == "serial" else BatchedTrainer(programs, round_data(), 4)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 3, 1, 0)])
def test_trainings_wait_in_the_order_of_their_rounds_however_they_were_submitted(order: tuple[int, ...]):
    trainer = BatchedTrainer(shared_programs(), round_data(), 2)
    rounds = [(stretch(number, worker=number), START) for number in order]
    trainings = dict(zip(order, submitted(trainer, rounds), strict=True))
    trainings[2].get()
    assert [number for number in range(4) if trainings[number].is_known] == [0, 2]


def test_a_workers_stretches_of_one_round_are_computed_in_their_order():
    programs = LoggingPrograms(momentum_recipe())
    trainer = BatchedTrainer(programs, round_data(), 2)
    workers = Workers(trainer)
    whole = stretch(0, steps=6)
    first, second = whole._replace(steps=2), whole._replace(first_step=2, steps=4, before=2)
    one = workers.submit(first, START)
    end = workers.values.lazy("params", lambda trained: trained[0].params, one)
    two = trainer.training(workers.values, second, end, workers.inner[0])
    trainer.submit(two)
    np.testing.assert_allclose(result_of(two).params["x"], START["x"] - serially_alone(whole), rtol=1e-5)
    assert programs.calls == [[2], [4]]


def serially_alone(round: Stretch) -> np.ndarray:
    return train(make_trainer("serial"), [(round, START)], [])[0][:-1]


@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_what_a_training_begins_with_may_come_of_another_workers_pending_one(lanes: int):
    programs = LoggingPrograms(momentum_recipe())
    workers = Workers(BatchedTrainer(programs, round_data(), lanes))
    one, other = stretch(0, worker=0), stretch(1, worker=1)
    first = workers.submit(one, START)
    copied = workers.values.lazy("params", lambda trained: trained[0].params, first)
    second = workers.trainer.training(workers.values, other, copied, None)
    workers.trainer.submit(second)
    third = workers.submit(stretch(2, worker=2), START)
    end = START["x"] - serially_alone(one)
    np.testing.assert_allclose(learned(second), train(make_trainer("serial"), [(other, {"x": end})], [])[0], rtol=1e-5)
    assert programs.calls == {1: [[3], [3]]}.get(lanes, [[3, 3], [3]])
    assert third.is_known == (lanes > 1)
