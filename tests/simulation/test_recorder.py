import math

import numpy as np

from simulator.cluster import build_cluster
from simulator.experiment.schema.experiment import Budget
from simulator.simulation.recorder import Recorder, Trained
from simulator.timeline import Arrival, Evaluation, Finished, Round, Update
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
