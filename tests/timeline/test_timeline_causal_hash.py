"""Parts of each event that the causal hash sees."""

import pytest

from simulator.timeline import Arrival, Dispatched, Evaluation, Event, Finished, Round, Update
from simulator.timeline.causal_hash import CausalHash

ROUND = Round(id=5, worker=1, shard=2, first_step=40, steps=20, version=3)
ARRIVAL = Arrival(ROUND, 1.0, 2.0, 3.0, 4.0, 5.0)
DISPATCHED = Dispatched(2.0, ROUND)
UPDATE = Update(6.0, (ARRIVAL,), (1,), "applied", 4, 60)
EVALUATION = Evaluation(7.0, 4, 60)
FINISHED = Finished(8.0, 4, 60)


def causal_hash(*events: Event) -> str:
    causal = CausalHash()
    causal.add(events)
    return causal.hexdigest()


@pytest.mark.parametrize("field", ["worker", "shard", "first_step", "steps", "version"])
def test_a_dispatch_counts_with_everything_that_training_depends_on(field: str):
    changed = ROUND._replace(**{field: getattr(ROUND, field) + 1})
    assert causal_hash(DISPATCHED._replace(round=changed)) != causal_hash(DISPATCHED)


@pytest.mark.parametrize(
    "changed",
    [
        UPDATE._replace(outcome="buffered"),
        UPDATE._replace(outcome="dropped"),
        UPDATE._replace(version=5),
        UPDATE._replace(arrivals=(ARRIVAL._replace(round=ROUND._replace(id=6)),)),
        UPDATE._replace(arrivals=(ARRIVAL, ARRIVAL._replace(round=ROUND._replace(id=6)))),
    ],
)
def test_an_update_counts_with_its_arrivals_and_outcome(changed: Update):
    assert causal_hash(changed) != causal_hash(UPDATE)


@pytest.mark.parametrize("event", [EVALUATION, FINISHED])
@pytest.mark.parametrize("field", ["version", "local_steps"])
def test_evaluation_and_end_count_with_where_they_stand(event: Event, field: str):
    assert causal_hash(event._replace(**{field: 99})) != causal_hash(event)


@pytest.mark.parametrize("event", [DISPATCHED, EVALUATION, FINISHED])
def test_an_event_counts_and_its_time_does_not(event: Event):
    assert causal_hash(event._replace(time_ns=100)) == causal_hash(event) != causal_hash()


def test_the_times_of_an_update_and_its_arrivals_do_not_count():
    late = UPDATE._replace(time_ns=100, arrivals=(Arrival(ROUND, 10, 20, 30, 40, 50),))
    assert causal_hash(late) == causal_hash(UPDATE) != causal_hash()


def test_the_order_of_events_counts():
    assert causal_hash(UPDATE, EVALUATION) != causal_hash(EVALUATION, UPDATE)


def test_it_does_not_matter_how_many_events_are_added_at_once_nor_when_the_hash_is_read():
    events = [DISPATCHED, UPDATE, EVALUATION] * 500
    at_once, one_by_one = CausalHash(), CausalHash()
    at_once.add(events)
    for number, event in enumerate(events):
        one_by_one.add([event])
        if number % 333 == 0:
            assert one_by_one.hexdigest() == causal_hash(*events[: number + 1])
    assert at_once.hexdigest() == one_by_one.hexdigest()
