"""Methods against direct loops: what the clock orders and the learner computes is what the papers' rules say."""

import heapq
from collections import Counter
from typing import Any

import numpy as np
import pytest

from simulator.cluster import seconds
from simulator.timeline import Accepted, Dispatched, Offered, Update
from tests.simulation.quadratic_cluster import (
    BARRIER,
    NESTEROV,
    PARTS,
    SGD,
    START,
    Followed,
    H,
    diloco,
    experiment,
    flat,
    heavy_ball,
    nesterov,
    sgd,
    trained,
)

SLOW, EQUAL = [1.0, 1.7, 3.1], [1.0, 1.0, 1.0]
ASYNCHRONOUS = {"kind": "asynchronous"}
BASE = diloco(3, 4, nesterov(0.4, 0.9))


def close(one: np.ndarray, other: np.ndarray) -> None:
    np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5)


def differ(one: np.ndarray, other: np.ndarray) -> None:
    assert np.abs(one - other).max() > 1e-3


# Meetings.


@pytest.mark.parametrize(
    ("step_s", "synchronization"),
    [
        (SLOW, BARRIER),
        (SLOW, {"kind": "quorum", "offers": "workers"}),
        (EQUAL, {"kind": "quorum", "offers": 1}),
    ],
)
def test_a_barrier_and_a_quorum_of_all_are_the_plain_loop(step_s: list[float], synchronization: Any):
    close(Followed(experiment(step_s, {"outer": NESTEROV, "synchronization": synchronization})).params, BASE)


def test_a_quorum_of_some_meets_without_the_slow():
    made = Followed(experiment(SLOW, {"synchronization": {"kind": "quorum", "offers": 2}}))
    met = [
        (seconds(each.time_ns), sorted(arrival.round.worker for arrival in each.arrivals)) for each in made.updates()
    ]
    # Worker 0 takes 6 s a round, worker 1 10.2 s, worker 2 18.6 s; whoever comes first waits for the next.
    assert met[:4] == [(10.2, [0, 1]), (18.6, [0, 2]), (24.6, [0, 1]), (34.8, [0, 1])]


@pytest.mark.parametrize("overlap", [0, 2])
def test_the_outer_step_at_the_worker_is_that_at_the_server(overlap: int):
    """The last meeting ends the simulation, before its answer is accepted."""
    method = {"outer": NESTEROV, "schedule": {"overlap": overlap}}
    at_worker = Followed(experiment(SLOW, method, {"merge": {"kind": "outer"}}, rounds=5))
    at_server = Followed(experiment(SLOW, method, rounds=4))
    close(at_worker.agreed(0), at_server.params)
    close(at_worker.params, at_server.params)  # of the workers the mean is evaluated


@pytest.mark.parametrize("trace", [[[2, 20, "join"]], [[2, 2, "crash"], [2, 20, "join"]]])
def test_who_begins_later_begins_with_the_replica_of_another(trace: Any):
    """With the outer optimizer at the workers no server has parameters: a copy is of another worker's, momentum too."""
    method = {"outer": NESTEROV, "merge": {"kind": "outer"}, "cluster": {"faults": {"trace": trace}}}
    made = Followed(experiment([1.0, 1.0, 1.3], method, rounds=12))
    for other in (1, 2):
        np.testing.assert_array_equal(made.agreed(other), made.agreed(0))
    differ(made.agreed(0), START)
    sources = {each.source for each in made.events if isinstance(each, Dispatched) and each.time_ns >= 20 * 10**9}
    assert 0 in sources


def test_a_worker_that_has_lost_what_it_waits_with_begins_with_a_copy():
    """Worker 0 crashes at 8 s behind its offer of 6 s, and is back before the meeting at 18 s."""
    trace = [[0, 8, "crash"], [0, 10, "join"]]
    method = {"merge": {"kind": "lerp", "mix": 0.5}, "cluster": {"faults": {"trace": trace}}}
    made = Followed(experiment([1.0, 3.0], method, rounds=2))
    starts = [(each.round.worker, each.start) for each in made.events if isinstance(each, Dispatched)]
    assert starts == [(0, "copy"), (1, "copy"), (0, "copy"), (1, "answer")]


@pytest.mark.parametrize("kind", ["lerp", "keep_progress"])
def test_a_worker_whose_parameters_are_not_finite_recovers_with_its_answer(kind: str):
    made = Followed(experiment([1.0, 1.0], {"merge": {"kind": kind}, "schedule": {"overlap": 2}}))
    poisoned = made.setup.exchanges.exchange.merge(
        *[{"a": np.array(each, np.float32)} for each in ([np.nan, 1.0], [0.0, 0.0])],
        made.setup.exchanges.exchange.offer(*[{"a": np.zeros(2, np.float32)} for _ in range(2)], (), None),
        {"a": np.array([3.0, 3.0], np.float32)},
        (),
    )
    merged = poisoned[0]["a"]
    assert merged[0] == 3.0
    assert merged[1] == (2.0 if kind == "lerp" else 4.0)


def asynchronous(outer: Any, step_s: list[float], rounds: int) -> np.ndarray:
    """Every arrival is an update, by a heap of arrivals."""
    x, state = START.astype(float), None
    arrivals = [(H * own_s, worker, 0) for worker, own_s in enumerate(step_s)]
    heapq.heapify(arrivals)
    pulled, done = [x for _ in step_s], 0
    while done < H * rounds * len(step_s):
        time_s, worker, first = heapq.heappop(arrivals)
        x, state = outer(state, pulled[worker] - trained(worker, first, H, pulled[worker]), x)
        pulled[worker], done = x, done + H
        heapq.heappush(arrivals, (time_s + H * step_s[worker], worker, first + H))
    return x


def test_each_arrival_as_an_update_is_a_heap_of_arrivals():
    made = Followed(experiment(SLOW, {"synchronization": ASYNCHRONOUS, "outer": NESTEROV | {"learning_rate": 0.1}}))
    close(made.params, asynchronous(nesterov(0.1, 0.9), SLOW, 4))


def test_a_fold_behind_a_barrier_is_a_step_for_each_offer():
    x = START.astype(float)
    for each in range(4):
        offers = [x - trained(worker, each * H, H, x) for worker in range(3)]
        for offer in offers:
            x = x - 0.3 * offer
    made = Followed(experiment(SLOW, {"outer": SGD | {"learning_rate": 0.3}, "aggregation": {"kind": "fold"}}))
    close(made.params, x)


def test_offers_can_be_weighted_by_their_steps():
    changes = {"aggregation": {"kind": "weighted"}, "local_steps": {"kind": "dynamic"}, "budget": {"server_updates": 1}}
    made = Followed(experiment([1.0, 2.0, 3.0], changes))
    steps = [6, 3, 2]
    offers = [START - trained(worker, 0, own, START) for worker, own in enumerate(steps)]
    close(made.params, START - np.average(offers, axis=0, weights=steps))
    differ(made.params, START - np.mean(offers, axis=0))


# Streaming DiLoCo.


def streaming(total: int, overlap: int, mix: float, offsets: tuple[int, ...], outer: Any, workers: int = 3) -> Any:
    """Algorithm 2 of Douillard et al. (arXiv 2501.18512), with the shared outer copy; returns replicas and copy."""
    split = lambda x: np.split(x, PARTS)  # noqa: E731
    replicas = [split(START.astype(float)) for _ in range(workers)]
    copy, states = split(START.astype(float)), [None] * PARTS
    sent: dict[int, list[np.ndarray]] = {p: [] for p in range(PARTS)}
    for t in range(1, total + 1):
        for worker in range(workers):
            replicas[worker] = split(trained(worker, t - 1, 1, np.concatenate(replicas[worker])))
        for p, offset in enumerate(offsets):
            if t > offset and (t - offset) % H == 0:
                sent[p].append(np.mean([copy[p] - replicas[worker][p] for worker in range(workers)], axis=0))
        for p, offset in enumerate(offsets):
            if t - overlap > offset and (t - offset - overlap) % H == 0:
                copy[p], states[p] = outer(states[p], sent[p].pop(0), copy[p])
                for worker in range(workers):
                    replicas[worker][p] = mix * replicas[worker][p] + (1 - mix) * copy[p]
    return [np.concatenate(replica) for replica in replicas], np.concatenate(copy)


def streams(step_s: list[float], *changes: Any, overlap: int = 2, mix: float = 0.5, rounds: int = 4) -> Followed:
    schedule = {"fragments": PARTS, "overlap": overlap, "composition": "by_size"}
    method = {"schedule": schedule, "merge": {"kind": "lerp", "mix": mix}, "outer": NESTEROV}
    return Followed(experiment(step_s, method, *changes, rounds=rounds))


@pytest.mark.parametrize(("overlap", "mix"), [(2, 0.5), (0, 0.5), (1, 0.0), (6, 0.25)])
@pytest.mark.parametrize("step_s", [SLOW, EQUAL])
def test_streaming_diloco_is_its_algorithm(overlap: int, mix: float, step_s: list[float]):
    """Up to the last meeting of the last fragment that the budget lets happen."""
    made = streams(step_s, overlap=overlap, mix=mix)
    last = made.updates()[-1]
    meetings = len(made.updates())
    total = H + ((meetings - 1) // PARTS) * H + ((meetings - 1) % PARTS) * H // PARTS  # local step of the last offer
    close(made.params, streaming(total + overlap, overlap, mix, (0, 2, 4), nesterov(0.4, 0.9))[1])
    assert last.fragment == (meetings - 1) % PARTS


def test_streaming_in_one_piece_without_overlap_and_mixing_is_diloco():
    made = Followed(experiment(SLOW, {"outer": NESTEROV, "merge": {"kind": "lerp", "mix": 0.0}}))
    close(made.params, BASE)


# Eager updates.


def eager(rounds: int, outer: Any, workers: int = 3) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Kale et al. (arXiv 2502.12996); returns the replicas and their last offers."""
    x = [START.astype(float) for _ in range(workers)]
    states: list[Any] = [None] * workers
    before = [np.zeros_like(START, float)] * workers
    for each in range(rounds):
        offers = [x[worker] - trained(worker, each * H, H, x[worker]) for worker in range(workers)]
        for worker in range(workers):
            mean = sum(before) / workers + (offers[worker] - before[worker]) / workers
            x[worker], states[worker] = outer(states[worker], mean, x[worker])
        before = offers
    return x, before


def eagerly(step_s: list[float], outer: Any, rounds: int = 4, **changes: Any) -> Followed:
    share = 1 / len(step_s)
    method = {"schedule": {"overlap": H}, "merge": {"kind": "eager", "share": share}, "outer": outer}
    return Followed(experiment(step_s, method, changes, rounds=rounds))


def test_eager_updates_are_their_rule():
    made = eagerly(SLOW, NESTEROV)
    # The budget ends with the fourth meeting; by then everybody has accepted what was known after the fourth round.
    replicas, _ = eager(4, nesterov(0.4, 0.9))
    accepted = [sum(isinstance(each, Accepted) and each.node == worker for each in made.events) for worker in range(3)]
    assert min(accepted) >= 3
    slowest = accepted.index(min(accepted))
    close(made.agreed(slowest), eager(accepted[slowest], nesterov(0.4, 0.9))[0][slowest])
    differ(replicas[0], replicas[1])


def test_eager_replicas_agree_but_for_their_own_share():
    """With outer SGD, x_m + rate / M * offer_m is the same for all m."""
    replicas, offers = eager(5, sgd(0.4))
    same = [x + 0.4 / 3 * offer for x, offer in zip(replicas, offers, strict=True)]
    np.testing.assert_allclose(same[0], same[2], atol=1e-12)
    made = eagerly(EQUAL, SGD | {"learning_rate": 0.4}, rounds=5)
    accepted = [sum(isinstance(each, Accepted) and each.node == worker for each in made.events) for worker in range(3)]
    for worker in range(3):
        close(made.agreed(worker), eager(accepted[worker], sgd(0.4))[0][worker])


def test_an_eager_worker_alone_is_diloco():
    made = eagerly([1.3], NESTEROV, rounds=4)
    accepted = sum(isinstance(each, Accepted) for each in made.events)
    close(made.params, diloco(1, accepted, nesterov(0.4, 0.9)))


def test_eager_sends_cost_no_time_while_they_are_shorter_than_a_round():
    network = {"cluster": {"network": {"latency": "2s"}}}
    made, waiting = eagerly(SLOW, SGD, **network), Followed(experiment(SLOW, network))
    begins = [seconds(each.time_ns) for each in made.events if isinstance(each, Dispatched) and each.round.worker == 2]
    np.testing.assert_allclose(np.diff(begins), [2.0 + 18.6, 18.6, 18.6, 18.6][: len(begins) - 1], atol=1e-6)
    assert seconds(waiting.updates()[0].time_ns) == pytest.approx(18.6 + 4.0)


# Regions.


def halos(step_s: list[float], every: int, mix: float, upper: Any = SGD, regions: Any = 2, **changes: Any) -> Followed:
    topology = {"kind": "regions", "regions": regions, "every_versions": every, "mix": mix, "outer": upper}
    method = {"synchronization": ASYNCHRONOUS, "topology": topology, "outer": NESTEROV | {"learning_rate": 0.1}}
    return Followed(experiment(step_s, method, changes))


FOUR = [1.0, 2.03, 1.37, 4.1]


def test_one_region_that_takes_all_at_every_update_is_asynchronous():
    made = halos(FOUR, 1, 1.0, regions=1)
    plain = Followed(experiment(FOUR, {"synchronization": ASYNCHRONOUS, "outer": NESTEROV | {"learning_rate": 0.1}}))
    close(flat_region(made, 0), plain.params)


def flat_region(made: Followed, region: int) -> np.ndarray:
    return np.concatenate([np.asarray(made.learner.servers[-2 - region, 0].params[name]) for name in "abc"])


def test_regions_that_never_offer_are_independent():
    made = halos(FOUR, 10_000, 0.5)
    assert made.updates() == []
    close(made.params, START)
    of_region = [[event.node for event in made.events if isinstance(event, Update)].count(node) for node in (-2, -3)]
    assert min(of_region) > 0
    region = Followed(
        experiment(
            FOUR[:2],
            {"synchronization": ASYNCHRONOUS, "outer": NESTEROV | {"learning_rate": 0.1}},
            {"budget": {"local_steps": None, "server_updates": of_region[0]}},
        )
    )
    close(flat_region(made, 0), region.params)


@pytest.mark.parametrize(
    ("changes", "outcomes"),
    [
        ({"arrivals_per_update": 2}, ["buffered", "applied"] * 4),
        ({"staleness": {"kind": "threshold", "drop_above": 0}}, None),
    ],
)
def test_the_upper_server_buffers_and_drops_as_its_outer_optimizer_does(changes: Any, outcomes: Any):
    made = halos([1.0, 1.7], 1, 1.0, upper=SGD | changes, budget={"local_steps": 100})
    found = [update.outcome for update in made.updates()]
    assert found[:8] == outcomes if outcomes else {"applied", "dropped"} == set(found)
    versions = np.cumsum([outcome == "applied" for outcome in found])
    assert [update.place_version for update in made.updates()] == versions.tolist()


def test_the_upper_server_learns_when_its_buffer_is_full():
    waiting = halos([1.0, 1.7], 1, 1.0, upper=SGD | {"arrivals_per_update": 100})
    assert {update.outcome for update in waiting.updates()} == {"buffered"}
    np.testing.assert_array_equal(waiting.params, START)


def test_a_region_has_one_offer_under_way_and_mixes_what_it_is_answered():
    made = halos(FOUR, 2, 0.25, **{"cluster": {}})
    far = {"topology": {"latency": "5s"}}
    late = halos(FOUR, 2, 0.25, **far)
    assert len(late.updates()) < len(made.updates())
    offered, accepted = 0, 0
    for event in late.events:
        if type(event).__name__ == "Offered" and event.node == -2:
            assert offered == accepted, "one at a time"
            offered += 1
        elif isinstance(event, Accepted) and event.node == -2:
            accepted += 1
            assert seconds(event.arrival_ns - event.sent_ns) == 5.0


def test_without_mixing_the_upper_server_has_no_influence():
    of_region = [flat_region(halos(FOUR, every, 0.0), 0) for every in (1, 10_000)]
    close(of_region[0], of_region[1])


# Peers.


def noloco_loop(order: list[np.ndarray], step_s: list[float], size: int = 2) -> tuple[list[np.ndarray], list[float]]:
    """Kolehmainen et al. (arXiv 2506.10911) over groups that were drawn; returns slow weights and ends of rounds."""
    count = len(step_s)
    phi = [START.astype(float) for _ in range(count)]
    momenta, clock = [np.zeros_like(START, float) for _ in range(count)], [0.0] * count
    for each, permutation in enumerate(order):
        moves = [trained(worker, each * H, H, phi[worker]) - phi[worker] for worker in range(count)]
        clock = [time_s + H * own_s for time_s, own_s in zip(clock, step_s, strict=True)]
        new = list(phi)
        for first in range(0, count, size):
            group = [int(worker) for worker in permutation[first : first + size]]
            move, mean = (np.mean([values[worker] for worker in group], axis=0) for values in (moves, phi))
            last_s = max(clock[worker] for worker in group)
            for worker in group:
                momenta[worker] = 0.5 * momenta[worker] + 0.7 * move + 0.7 * (mean - phi[worker])
                new[worker], clock[worker] = phi[worker] + momenta[worker], last_s
        phi = new
    return phi, clock


NOLOCO = {"optimizer": "noloco", "learning_rate": 0.7, "momentum": 0.5, "weight": 1.0}


def noloco(step_s: list[float], size: int, rounds: int = 4) -> Followed:
    method = {"topology": {"kind": "groups", "size": size}, "offer": {"weights": True}, "outer": NOLOCO}
    return Followed(experiment(step_s, method, rounds=rounds))


def test_pairs_are_their_loop_and_their_clocks_a_max_plus_recursion():
    from simulator.host.random_streams import numpy_stream

    step_s = [1.0, 2.0, 1.0, 4.0]
    made = noloco(step_s, 2, rounds=6)
    order = [numpy_stream(0, "groups of workers", meeting).permutation(4) for meeting in range(4)]
    for rounds in (1, 2, 3):
        _, clock = noloco_loop(order[:rounds], step_s)
        for worker in range(4):
            ends = [seconds(each.time_ns) for each in made.updates(worker)]
            assert ends[rounds - 1] == pytest.approx(clock[worker])
    done = min(len(made.updates(worker)) for worker in range(4))
    exact = noloco_loop([numpy_stream(0, "groups of workers", each).permutation(4) for each in range(done)], step_s)[0]
    behind = [worker for worker in range(4) if len(made.updates(worker)) == done]
    for worker in behind:
        close(made.agreed(worker), exact[worker])


def test_a_group_of_everybody_is_the_heavy_ball_of_the_mean():
    made = noloco(EQUAL, 3)
    close(made.agreed(0), diloco(3, 4, heavy_ball(0.7, 0.5)))
    close(made.params, diloco(3, 4, heavy_ball(0.7, 0.5)))


@pytest.mark.parametrize("seed", range(4))
def test_an_offer_is_there_for_the_slowest_of_its_meetings(seed: int):
    """What is sent to worker 0 takes so long that the others go on to many other partners meanwhile."""
    method = {
        "seed": seed,
        "topology": {"kind": "groups", "size": 2},
        "offer": {"weights": True},
        "outer": NOLOCO,
        "cluster": {"network": {"down": {"latency": [300.0, 0, 0, 0, 0, 0]}}},
    }
    made = Followed(experiment([1.0] * 6, method, rounds=20))
    offered = {each.round: len(each.to) for each in made.events if isinstance(each, Offered)}
    met = [each for node in range(6) for update in made.updates(node) for each in update.arrivals]
    assert sum(each.arrival_ns - each.push_start_ns > 200 * 10**9 for each in met) > 2
    counts = Counter(each.round.id for each in met)
    assert all(counts[number] <= 1 + others for number, others in offered.items())
    assert made.learner.training._made.keys() == {
        number for number, others in offered.items() if 0 < counts[number] < 1 + others
    }


def test_workers_that_never_meet_train_by_themselves():
    made = Followed(experiment(EQUAL, {"topology": {"kind": "nobody"}}))
    for worker in range(3):
        close(made.agreed(worker), trained(worker, 0, 4 * H, START.astype(float)))
    close(made.params, np.mean([trained(worker, 0, 4 * H, START.astype(float)) for worker in range(3)], axis=0))


def test_a_complete_graph_with_equal_weights_is_federated_averaging():
    gossip = {"optimizer": "noloco", "learning_rate": 1.0, "momentum": 0.0, "weight": 1.0}
    method = {"topology": {"kind": "graph", "edges": "complete"}, "offer": {"weights": True}, "outer": gossip}
    close(Followed(experiment(SLOW, method)).agreed(1), diloco(3, 4, sgd(1.0)))


# Compression.


@pytest.mark.parametrize("compression", [{"kind": "bf16"}, {"kind": "top_k", "density": 0.5}, {"kind": "int"}])
def test_what_is_lost_on_the_wire_changes_what_is_learned(compression: Any):
    made = Followed(experiment(SLOW, {"compression": compression}))
    plain = diloco(3, 4, sgd(1.0))
    assert 1e-7 < np.abs(made.params - plain).max() < 0.5


def test_error_feedback_of_a_codec_that_loses_nothing_keeps_no_error():
    made = Followed(experiment(SLOW, {"outer": SGD, "compression": {"kind": "random", "share": 1.0, "feedback": 0.95}}))
    close(made.params, diloco(3, 4, sgd(1.0)))
    errors = [flat(worker.feedback[0].get()) for worker in made.learner.training.workers.values()]
    assert not np.concatenate(errors).any()


def test_error_feedback_telescopes():
    """All that was sent, and the last error, are all that was to be sent: with decay 1 nothing is lost for good."""
    method = {"compression": {"kind": "top_k", "density": 0.25, "feedback": 1.0}, "outer": SGD | {"learning_rate": 1.0}}
    made = Followed(experiment([1.0], method, rounds=5))
    error = flat(made.learner.training.workers[0].feedback[0].get())
    x, lost = START.astype(float), np.zeros_like(START, float)
    for each in range(5):
        lost = lost + (x - trained(0, each * H, H, x))
        kept = np.concatenate([np.where(np.abs(part) == np.abs(part).max(), part, 0) for part in np.split(lost, PARTS)])
        x, lost = x - kept, lost - kept
    close(made.params, x)
    close(error, lost)


# By the clock.


def test_rounds_by_the_clock_of_equal_devices_are_rounds_by_steps():
    made = Followed(experiment([1.5] * 3, {"outer": NESTEROV, "schedule": {"seconds": H * 1.5}}))
    close(made.params, BASE)


def test_rounds_by_the_clock_have_as_many_steps_as_take_the_time():
    made = Followed(experiment([1.0, 1.7, 2.5], {"schedule": {"seconds": 6.0}, "budget": {"local_steps": 100}}))
    steps = {each.arrivals[0].round.id: None for each in made.updates()}
    assert steps
    given = [each.round for each in made.events if isinstance(each, Dispatched)]
    assert {(round.worker, round.steps) for round in given} == {(0, 6), (1, 4), (2, 3)}  # the first, with a copy, too
    ends = [seconds(each.time_ns) for each in made.updates()]
    np.testing.assert_allclose(ends, 7.5 * np.arange(1, len(ends) + 1))
