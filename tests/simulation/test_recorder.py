import dataclasses
import math

import numpy as np
import pytest

from simulator.cluster import Link, MessageShares, build_cluster
from simulator.experiment.schema.budget import Budget
from simulator.record import DIAGNOSTICS
from simulator.simulation.recorder import Recorder
from simulator.simulation.trained import NonFiniteError, Trained
from simulator.timeline import (
    Accepted,
    Answered,
    Arrival,
    Evaluation,
    Finished,
    RegionOffer,
    Round,
    Update,
)
from tests.experiments import tiny


class Loss:
    """A number that is still being computed, and notes when somebody waits for it."""

    def __init__(self, name, value, waited_for):
        self.name, self.value, self.waited_for = name, value, waited_for

    def __float__(self):
        self.waited_for.append(self.name)
        return self.value


def trained(loss):
    return Trained([loss], [True], True)


def update(number):
    task = Round(number, 0, 0, 5 * number, 5, number)
    arrival = Arrival(task, number, number, number, number + 1.0, number + 1.0)
    return Update(number + 1.0, (arrival,), (0,), "applied", number + 1, 5 * (number + 1))


def test_what_training_reports_is_fetched_one_event_late():
    waited_for, seen = [], []

    class Watch:
        def pretrained(self, steps, of, loss):
            raise AssertionError("nothing was pretrained")

        def advanced(self, progress):
            seen.append(progress.train_loss)

    cluster = build_cluster(tiny().cluster, parameters=10, flops_per_step=1.0, seed=0)
    book = Recorder(Budget(local_steps=20), cluster, 2, Watch())
    book.evaluation(Evaluation(0.0, 0, 0), Loss("start", 3.0, waited_for))
    book.update(update(0), trained(Loss("first round", 2.0, waited_for)))
    assert waited_for == []
    book.update(update(1), trained(Loss("second round", 1.5, waited_for)))
    assert waited_for == ["first round"]
    book.evaluation(Evaluation(2.0, 2, 10), Loss("end", 1.0, waited_for))
    assert waited_for == ["first round", "start"]
    book.finish(Finished(2.0, 2, 10, (0,)))
    assert waited_for == ["first round", "start", "second round", "end"]
    assert book.rounds.frame()["train_loss"].tolist() == [2.0, 1.5]
    assert book.evaluations.frame()["loss"].tolist() == [3.0, 1.0]
    assert math.isnan(seen[0])
    assert seen[1:] == [2.0]


def test_losses_of_shards_are_fetched_as_late_and_nan_where_nothing_was_trained():
    waited_for = []
    cluster = build_cluster(tiny().cluster, parameters=10, flops_per_step=1.0, seed=0)
    book = Recorder(Budget(local_steps=20), cluster, 2, None, shards=2)
    book.evaluation(
        Evaluation(0.0, 0, 0), Loss("all", 3.0, waited_for), [Loss("0", 1.0, waited_for), Loss("1", 2.0, [])]
    )
    assert waited_for == []
    book.evaluation(Evaluation(2.0, 2, 10), None)
    assert waited_for == ["all", "0"]
    book.finish(Finished(2.0, 2, 10, (0,)))
    shards = book.evaluations.frame()[["loss_shard_0", "loss_shard_1"]].to_numpy()
    np.testing.assert_array_equal(shards, [[1.0, 2.0], [math.nan, math.nan]])


NS = 10**9
CLUSTER = build_cluster(tiny().cluster, parameters=10, flops_per_step=1.0, seed=0)  # a message of 40 bytes


def arrival(number, worker=0, fragment=0, **changes):
    """A round of 5 steps that is pulled at 1 s, computed from 2 s to 7 s, and there at 9 s."""
    round = Round(number, worker, 1, 0, 5, 3, fragment)
    times = {"pull_start_ns": 1 * NS, "compute_start_ns": 2 * NS, "push_start_ns": 7 * NS, "arrival_ns": 9 * NS}
    return Arrival(**{"round": round, "ready_ns": 0, **times} | changes)


def recorder(**settings):
    return Recorder(Budget(local_steps=20), CLUSTER, 2, None, **settings)


def rows(log, *columns):
    return log.frame()[list(columns)].to_numpy().tolist()


def test_messages_of_a_round_are_transfers():
    book = recorder()
    book.update(Update(10 * NS, (arrival(4, pulls=2, pushes=3, base=2),), (1,), "applied", 7, 5, place_version=3), None)
    book.finish(Finished(10 * NS, 7, 5))
    assert rows(book.transfers, "sender", "receiver", "fragment", "round", "version", "messages", "bytes") == [
        [-1, 0, 0, 4, 3, 2, 80],
        [0, -1, 0, 4, 2, 3, 120],
    ]
    assert rows(book.transfers, "begin_s", "end_s", "used_s") == [[1.0, 2.0, 2.0], [7.0, 9.0, 10.0]]
    [found] = rows(book.rounds, "bytes_down", "bytes_up", "fragment", "blocked_s", "goes_on")
    assert found == [80, 120, 0, 0.0, 0]


def test_messages_have_their_shares_of_the_models_size():
    book = recorder(shares=MessageShares(offers=(0.125, 0.5), answers=(0.25, 0.75)), waits=False)
    first = arrival(0, blocked_ns=3 * NS)  # with a copy of everything
    later = arrival(1, fragment=1, pulls=0, pull_start_ns=2 * NS)
    book.update(Update(10 * NS, (first,), (0,), "applied", 1, 5), None)
    book.update(Update(11 * NS, (later,), (0,), "applied", 2, 10, fragment=1), None)
    book.exchange(Accepted(12 * NS, 0, 1, 1, 2, 11 * NS, 12 * NS, 2, 1))
    book.exchange(Accepted(13 * NS, 0, -1, 0, 0, 13 * NS, 13 * NS, 0, 0))  # of which no message was sent
    book.exchange(Answered(11 * NS, -1, 0, 1, 1, 1))
    book.evaluation(Evaluation(14 * NS, 2, 10), None)
    book.finish(Finished(14 * NS, 2, 10))
    assert rows(book.transfers, "sender", "receiver", "fragment", "round", "bytes") == [
        [-1, 0, -1, 0, 40],
        [0, -1, 0, 0, 5],
        [0, -1, 1, 1, 20],
        [-1, 0, 1, 1, 2 * 30],
    ]
    assert rows(book.rounds, "bytes_down", "bytes_up", "fragment", "blocked_s", "goes_on") == [
        [40, 5, 0, 3.0, 1],
        [0, 20, 1, 0.0, 1],
    ]
    assert rows(book.evaluations, "bytes_sent") == [[40 + 5 + 20 + 60]]


def test_an_update_has_a_row_for_every_offer():
    book = recorder()
    book.update(Update(10 * NS, (arrival(4), arrival(5, 2)), (0, 3), "applied", 7, 10, place_version=6), None)
    book.update(Update(11 * NS, (arrival(6),), (8,), "dropped", 7, 15, fragment=1, place_version=2), None)
    book.finish(Finished(11 * NS, 7, 15))
    columns = "node", "fragment", "version", "sender", "round", "staleness", "outcome", "meeting"
    assert rows(book.updates, *columns) == [
        [-1, 0, 6, 0, 4, 0, "applied", 0],
        [-1, 0, 6, 2, 5, 3, "applied", 0],
        [-1, 1, 2, 0, 6, 8, "dropped", 1],
    ]


def test_a_peers_offer_is_a_round_at_home_and_a_message_elsewhere():
    book = recorder()
    waited_for = []
    own, others = arrival(0, 0, pulls=0), arrival(1, 1, pulls=0, pushes=3)
    losses = [Loss("own", 2.0, waited_for), Loss("other's", 1.0, waited_for)]
    book.update(Update(10 * NS, (own, others), (0, 0), "applied", 1, 5, node=0), Trained(losses, [True, False], True))
    book.finish(Finished(10 * NS, 1, 5))
    assert rows(book.rounds, "round", "train_loss", "non_finite") == [[0, 2.0, 0]]
    assert waited_for == ["own"]
    assert rows(book.transfers, "sender", "receiver", "round", "messages", "bytes") == [[1, 0, 1, 1, 40]]
    assert rows(book.updates, "node", "sender", "round") == [[0, 0, 0], [0, 1, 1]]
    assert [len(reports) for reports in book.reported()] == [1, 1, 0, 2]


def test_what_regions_send_each_other_is_recorded_without_rounds():
    regional = Link(40, np.zeros(2), np.zeros(2), None)
    book = Recorder(Budget(local_steps=20), dataclasses.replace(CLUSTER, regional=regional), 2, None)
    offer = RegionOffer(region=1, base=2, version=5, sent_ns=3 * NS, arrival_ns=4 * NS)
    book.update(Update(4 * NS, (offer,), (1,), "applied", 9, 0, place_version=4), Trained([], [], True))
    book.exchange(Accepted(6 * NS, -3, -1, 0, 0, 4 * NS, 5 * NS, 1, 4))
    book.finish(Finished(6 * NS, 9, 0))
    columns = "sender", "receiver", "round", "begin_s", "end_s", "used_s", "version", "bytes"
    assert rows(book.transfers, *columns) == [[-3, -1, -1, 3, 4, 4, 2, 40], [-1, -3, -1, 4, 5, 6, 4, 40]]
    assert rows(book.updates, "sender", "round", "staleness", "version") == [[-3, -1, 1, 4]]
    assert len(book.rounds.frame()) == 0


def test_diagnostics_are_of_each_offer_and_reported_before_they_are_recorded():
    book = recorder()
    both = Update(10 * NS, (arrival(0, 0), arrival(1, 1)), (0, 0), "applied", 1, 10)
    known = [np.array([1.0, 0.5, -0.5, 2.0]), np.array([3.0, 0.0, 1.0, 4.0])]
    book.update(both, Trained([1.0, 1.0], [True, True], True, known))
    *_, reported = book.reported()
    assert reported == [[1.0, 0.5, -0.5, 2.0], [3.0, 0.0, 1.0, 4.0]]
    book.finish(Finished(10 * NS, 1, 10))
    assert rows(book.updates, "sender", *DIAGNOSTICS) == [[0, 1.0, 0.5, -0.5, 2.0], [1, 3.0, 0.0, 1.0, 4.0]]
    assert book.reported()[-1] == reported


def test_offers_that_meet_are_all_left_out_if_what_they_are_combined_to_is_not_finite():
    both = Update(10 * NS, (arrival(0, 0), arrival(1, 1)), (0, 0), "applied", 1, 10)
    for together, flags in ((True, [0, 1]), (False, [1, 1])):
        book = recorder()
        book.update(both, Trained([1.0, 1.0], [True, False], together))
        book.finish(Finished(10 * NS, 1, 10))
        assert book.rounds.frame()["non_finite"].tolist() == flags


def test_what_is_not_finite_is_fatal_one_event_late_and_names_its_round():
    book = recorder(fatal=True)
    both = Update(10 * NS, (arrival(0, 0), arrival(1, 1)), (0, 0), "applied", 1, 10)
    book.update(both, Trained([1.0, 1.0], [True, False], True))
    with pytest.raises(NonFiniteError, match=r"^round 1 of worker 1 \(shard 1, 5 local steps from version 3\) brought"):
        book.finish(Finished(10 * NS, 1, 10))
