import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from simulator.cluster import seconds
from simulator.cluster.episodes import Episode, Episodes
from simulator.cluster.faults import Absence, FaultModel, draw
from simulator.experiment.schema.faults import Faults, RandomTime
from tests.faulty import faults

TIME: TypeAdapter[Any] = TypeAdapter(RandomTime)
DRAWS = 20_000
OFTEN = {"time_between": "40s", "duration": {"kind": "weibull", "mean": "9s", "shape": 0.7}}
CRASHES = {"time_between": {"kind": "weibull", "mean": "50s", "shape": 0.7}, "repair": "20s"}
PREEMPTION = {"time_between": "60s", "absence": {"kind": "lognormal", "median": "10s", "sigma": 1}, "notice": "5s"}
OUTAGES = [Episode(10, 20, math.inf), Episode(30, 40, math.inf)]


def constant(duration_s: float) -> dict[str, Any]:
    return {"kind": "constant", "value": duration_s}


def model(seed: int = 0, **sections: Any) -> FaultModel:
    return FaultModel(Faults.model_validate(sections), seed)


def first(things: Any, count: int) -> list[Any]:
    """The first absences or episodes, with times in seconds."""
    return [_in_seconds(each) for each in itertools.islice(things, count)]


def _in_seconds(thing: Any) -> Any:
    times = {name: seconds(value) for name, value in thing._asdict().items() if name.endswith("_ns")}
    return thing._replace(**times)


def draws(time: Any, seed: int = 1) -> np.ndarray:
    parsed, random = TIME.validate_python(time), np.random.default_rng(seed)
    return np.array([draw(parsed, random) for _ in range(DRAWS)])


def weibull_spread(shape: float) -> float:
    return math.sqrt(math.gamma(1 + 2 / shape) / math.gamma(1 + 1 / shape) ** 2 - 1)


@pytest.mark.parametrize(
    ("time", "mean", "spread"),
    [
        ("4min", 240, 240),
        ({"kind": "weibull", "mean": 30, "shape": 0.7}, 30, 30 * weibull_spread(0.7)),
        ({"kind": "weibull", "mean": 30, "shape": 3}, 30, 30 * weibull_spread(3)),
        ({"kind": "lognormal", "median": 5, "sigma": 0.5}, 5 * math.exp(0.125), 5 * math.exp(0.125) * 0.533),
        ({"kind": "uniform", "low": 2, "high": 8}, 5, 6 / math.sqrt(12)),
        ({"kind": "lognormal", "median": 5, "sigma": 0}, 5, 0),
        (constant(7), 7, 0),
    ],
)
def test_random_times_have_the_mean_and_the_spread_of_their_kind(time: Any, mean: float, spread: float):
    found = draws(time)
    assert np.mean(found) == pytest.approx(mean, abs=5 * spread / math.sqrt(DRAWS))
    assert np.std(found) == pytest.approx(spread, rel=0.06)


def test_a_bare_duration_is_an_exponential_section():
    assert draws(12).tolist() == draws({"kind": "exponential", "mean": "12s"}).tolist()
    assert np.mean(draws(12) > 12) == pytest.approx(math.exp(-1), abs=0.02)


def test_half_of_lognormal_times_are_below_the_median():
    found = draws({"kind": "lognormal", "median": "2min", "sigma": 1.5})
    assert np.mean(found < 120) == pytest.approx(0.5, abs=0.02)
    assert np.std(np.log(found)) == pytest.approx(1.5, rel=0.03)


def test_uniform_times_stay_between_low_and_high():
    found = draws({"kind": "uniform", "low": 2, "high": 8})
    assert 2 <= found.min() < 2.01 < 7.99 < found.max() <= 8


def test_work_waits_while_everything_stands_still():
    outages = Episodes(OUTAGES)
    assert [outages.finished_ns(0, work) for work in (5, 10, 12, 20, 21)] == [5, 10, 22, 30, 41]
    assert [outages.finished_ns(start, 3) for start in (6, 10, 15, 20, 45)] == [9, 23, 23, 23, 48]
    assert [outages.finished_ns(start, 0) for start in (5, 10, 15, 20, 45)] == [5, 20, 20, 20, 45]


def test_slow_work_takes_longer():
    slow = Episodes([Episode(10, 20, 2)])
    assert [slow.finished_ns(0, work) for work in (10, 12, 15, 18)] == [10, 14, 20, 23]
    assert [slow.finished_ns(14, work) for work in (0, 3, 4)] == [14, 20, 21]


def test_work_through_slow_downs_that_follow_each_other():
    episodes = Episodes([Episode(10, 20, 2), Episode(20, 30, 5), Episode(40, 50, 0.5)])
    assert episodes.finished_ns(0, 16) == 25
    assert episodes.finished_ns(0, 37) == 45
    assert episodes.work_ns(0, 45) == 37
    assert Episodes([Episode(10, 20, 2), Episode(20, 30, math.inf)]).finished_ns(0, 15) == 20


def test_work_done_between_two_times():
    outages = Episodes(OUTAGES)
    assert [outages.work_ns(0, end) for end in (5, 10, 15, 20, 25, 35, 41)] == [5, 10, 10, 10, 15, 20, 21]
    assert list(outages.since(20)) == list(outages.since(39)) == OUTAGES[1:]
    assert [outages.work_ns(12, end) for end in (12, 18, 20, 23)] == [0, 0, 0, 3]
    assert Episodes([Episode(10, 20, 4)]).work_ns(5, 18) == 7


def test_work_never_ends_behind_an_endless_outage():
    episodes = Episodes([Episode(10, math.inf, math.inf)])
    assert [episodes.finished_ns(0, work) for work in (10, 11)] == [10, math.inf]
    assert episodes.finished_ns(11, 0) == math.inf
    assert episodes.work_ns(3, 10**9) == 7
    assert Episodes([Episode(10, math.inf, 3)]).finished_ns(0, 11) == 13


def test_nothing_goes_wrong_without_episodes():
    assert (Episodes([]).finished_ns(3, 4), Episodes([]).work_ns(3, 7)) == (7, 4)
    nothing = model()
    assert [first(found, 1) for found in (nothing.absences(0), nothing.slowdowns(0), nothing.link(0))] == [[]] * 3
    assert (first(nothing.server, 1), nothing.loss, nothing.forgets) == ([], None, True)
    assert not model(inner_state="keep").forgets


@st.composite
def episodes(draw: st.DrawFn) -> list[Episode]:
    """Episodes whose times are multiples of eight and whose factors are powers of two, so that work is whole."""
    found, now = [], 0
    for gap, length in draw(st.lists(st.tuples(st.integers(0, 80), st.integers(1, 80)), max_size=6)):
        start, now = now + 8 * gap, now + 8 * (gap + length)
        found.append(Episode(start, now, draw(st.sampled_from([0.5, 1, 2, 4, math.inf]))))
    if draw(st.integers(0, 5)) == 0:
        found.append(Episode(now + 8, math.inf, draw(st.sampled_from([2, math.inf]))))
    return found


EIGHTS = st.integers(0, 500).map(lambda eights: 8 * eights)


@given(episodes(), EIGHTS, EIGHTS)
def test_the_work_done_until_it_is_finished_is_the_work(found: list[Episode], start: int, work: int):
    end = Episodes(found).finished_ns(start, work)
    if end == math.inf:
        assert found[-1][1:] == (math.inf, math.inf)
    else:
        assert Episodes(found).work_ns(start, end) == work


@given(episodes(), EIGHTS, EIGHTS)
def test_work_is_finished_as_soon_as_it_has_been_done(found: list[Episode], start: int, span: int):
    work = Episodes(found).work_ns(start, start + span)
    standing = any(each.factor == math.inf and each.start_ns < start + span <= each.end_ns for each in found)
    if work > 0:
        end = Episodes(found).finished_ns(start, work)
        assert end < start + span if standing else end == start + span


TIMES = st.integers(0, 300 * 10**9)
SPANS = st.lists(st.tuples(TIMES, st.integers(1, 50 * 10**9), st.floats(0.1, 100) | st.just(math.inf)), max_size=5)


@given(SPANS, TIMES, TIMES)
def test_the_same_for_any_times_but_for_rounding(spans: list[tuple[Any, ...]], start: int, work: int):
    now, found = 0, []
    for gap, length, factor in spans:
        found.append(Episode(now + gap, now + gap + length, factor))
        now += gap + length
    together = Episodes(found)
    end = together.finished_ns(start, work)
    assert isinstance(end, int)
    assert (
        abs(together.work_ns(start, end) - work) <= 6
    )  # half a nanosecond of work that goes ten times as fast, and one


@settings(max_examples=100)
@given(faults(3), st.integers(0, 5))
def test_absences_are_in_order_and_never_touch(section: dict[str, Any], seed: int):
    faulty = model(seed, **section)
    for worker in range(3):
        found = first(faulty.absences(worker), 30)
        assert all(before.end_ns < after.start_ns for before, after in itertools.pairwise(found))
        assert all(before.end_ns <= after.notice_ns for before, after in itertools.pairwise(found))
        assert all(each.notice_ns <= each.start_ns <= each.end_ns for each in found)
        outages = first(faulty.link(worker), 30)
        assert all(before.end_ns < after.start_ns for before, after in itertools.pairwise(outages))


def test_absences_that_overlap_are_one():
    trace = [[0, 13, "leave"], [0, 25, "join"], [0, 41, "crash"], [0, 42, "join"]]
    crashes = {"time_between": constant(10), "repair": constant(5), "in_flight": "delivered"}
    found = first(model(crashes=crashes, trace=trace).absences(0), 3)
    assert [each[:2] for each in found] == [(10, 30), (40, 45), (55, 60)]
    assert [each.delivers for each in found] == [False, False, True]
    endless = model(crashes=crashes, trace=[[0, 12, "crash"]])
    assert first(endless.absences(0), 9) == [Absence(10, math.inf, "crash", 10)]


def test_crashes_and_preemption_together_are_the_union_of_each_alone():
    def spans(**sections: Any) -> list[tuple[float, float]]:
        absences = itertools.takewhile(lambda each: each.start_ns < 20_000 * 10**9, model(**sections).absences(0))
        return [(each.start_ns, each.end_ns) for each in absences]

    alone = sorted(spans(crashes=CRASHES) + spans(preemption=PREEMPTION))
    union = alone[:1]
    for start, end in alone[1:]:
        since, until = union[-1]
        union[-1:] = [(since, until), (start, end)] if start > until else [(since, max(until, end))]
    assert spans(crashes=CRASHES, preemption=PREEMPTION) == union
    assert len(union) < len(alone)


def test_of_a_preemption_all_are_told_in_advance_and_of_a_crash_nobody():
    preemption = {"time_between": constant(100), "absence": constant(50), "notice": "30s"}
    found = first(model(preemption=preemption).absences(0), 2)
    assert found == [Absence(100, 150, "preemption", 70), Absence(250, 300, "preemption", 220)]
    assert all(each.announced for each in found)
    at_once = next(model(preemption=preemption | {"notice": 0}).absences(0))
    crash = next(model(crashes={"time_between": 9, "repair": 9}).absences(0))
    assert (at_once.notice_ns, at_once.announced) == (at_once.start_ns, False)
    assert (crash.notice_ns, crash.announced) == (crash.start_ns, False)


def test_a_notice_during_an_absence_comes_after_it():
    preemption = {"time_between": constant(100), "absence": constant(50), "notice": "30s"}
    found = first(model(preemption=preemption, trace=[[0, 60, "crash"], [0, 80, "join"]]).absences(0), 2)
    assert found == [Absence(60, 80, "crash", 60), Absence(100, 150, "preemption", 80)]


def test_what_becomes_of_the_round_of_a_crash():
    for in_flight, delivers in (("lost", False), ("delivered", True)):
        found = first(model(crashes={"time_between": 9, "repair": 9, "in_flight": in_flight}).absences(0), 5)
        assert [(each.kind, each.delivers) for each in found] == [("crash", delivers)] * 5


def test_who_joins_later_is_absent_from_the_start():
    late = model(joins=[0, "3s", 20], crashes={"time_between": constant(10), "repair": constant(2), "workers": [2]})
    (until_3,) = first([*late.absences(0), *late.absences(1)], 9)
    assert (until_3, until_3.announced) == (Absence(0, 3, "late", 0), True)
    assert first(late.absences(2), 2) == [Absence(0, 20, "late", 0), Absence(22, 24, "crash", 22)]


def test_who_departs_never_returns():
    for worker in range(3):
        (gone,) = model(departures={"after": "1min"}).absences(worker)
        assert gone == Absence(gone.start_ns, math.inf, "departure", gone.start_ns)
        assert gone.announced
    some = model(departures={"after": "1min", "workers": [1]}, crashes={"time_between": 9, "repair": 9})
    assert len(first(some.absences(0), 100)) == 100
    assert list(some.absences(1))[-1].end_ns == math.inf


def test_a_trace_becomes_absences():
    trace = [
        *([0, 0, "slow 2"], [0, 5, "crash"], [0, 9, "join"], [0, 10, "notice"], [0, 12, "preempt"], [0, 20, "join"]),
        *([0, 30, "preempt"], [0, 31, "join"], [0, 40, "leave"]),
        *([1, 7, "join"], [1, 8, "leave"], [1, 9, "join"]),
    ]
    found = [first(model(trace=trace).absences(worker), 9) for worker in (0, 1)]
    assert found[0] == [
        Absence(5, 9, "crash", 5),
        Absence(12, 20, "preemption", 10),
        Absence(30, 31, "preemption", 30),
        Absence(40, math.inf, "departure", 40),
    ]
    assert found[1] == [Absence(0, 7, "late", 0), Absence(8, 9, "departure", 8)]
    assert [each.announced for each in found[0] + found[1]] == [False, True, False, True, True, True]


def test_a_trace_becomes_slow_downs_and_outages():
    trace = [
        *([0, 1, "slow 2"], [0, 3, "slow 4"], [0, 7, "normal"], [0, 9, "slow 0.5"]),
        *([0, 9, "disconnect"], [0, 9, "reconnect"], [1, 2, "disconnect"], [1, 3, "reconnect"]),
        *([1, 3, "disconnect"], [1, 4, "reconnect"], [1, 6, "disconnect"], ["server", 3, "down"], ["server", 5, "up"]),
    ]
    traced = model(trace=trace)
    assert first(traced.slowdowns(0), 99) == [Episode(1, 3, 2), Episode(3, 7, 4), Episode(9, math.inf, 0.5)]
    assert first(traced.own_link(1), 99) == [Episode(2, 4, math.inf), Episode(6, math.inf, math.inf)]
    assert first(traced.server, 99) == first(traced.link(0), 99) == [Episode(3, 5, math.inf)]
    assert first(traced.link(1), 99) == [Episode(2, 5, math.inf), Episode(6, math.inf, math.inf)]
    assert (first(traced.slowdowns(1), 99), first(traced.own_link(0), 99), first(traced.absences(0), 99)) == (
        [],
        [],
        [],
    )


def test_slow_downs_at_the_same_time_multiply():
    slowdowns = {"time_between": constant(10), "duration": constant(10), "factor": 2}
    trace = [[0, 0, "slow 9"], [0, 0, "normal"], [0, 5, "slow 3"], [0, 15, "slow 4"], [0, 35, "normal"]]
    together = model(slowdowns=slowdowns, trace=trace).slowdowns(0)
    expected = [(5, 10, 3), (10, 15, 6), (15, 20, 8), (20, 30, 4), (30, 35, 8), (35, 40, 2), (50, 60, 2)]
    assert first(together, 7) == expected


def test_a_link_is_down_while_its_own_or_the_server_is():
    own, servers = ({"time_between": constant(gap), "duration": constant(gap / 2)} for gap in (10, 100))
    trace = [[0, 14, "disconnect"], [0, 20, "reconnect"], ["server", 18, "down"], ["server", 26, "up"]]
    down = model(link_outages=own | {"workers": [0]}, server_outages=servers, trace=trace)
    assert first(down.own_link(0), 3) == [Episode(*each, math.inf) for each in ((10, 20), (25, 30), (40, 45))]
    assert first(down.server, 2) == [Episode(*each, math.inf) for each in ((18, 26), (100, 150))]
    expected = [(10, 30), (40, 45), (55, 60), (70, 75), (85, 90), (100, 150), (160, 165)]
    assert first(down.link(0), 7) == [Episode(*each, math.inf) for each in expected]
    assert (list(down.own_link(1)), first(down.link(1), 9)) == ([], first(down.server, 9))
    assert down.link(0).finished_ns(5 * 10**9, 6 * 10**9) == 31 * 10**9


def times(found: FaultModel, worker: int) -> dict[str, list[Any]]:
    """The first times of everything that befalls a worker but its absences."""
    kinds = {"slowdowns": found.slowdowns(worker), "own link": found.own_link(worker), "server": found.server}
    losses = found.loss_stream(worker)
    return {kind: first(each, 20) for kind, each in kinds.items()} | {"loss": losses.random(20).tolist()}


SEVERAL: dict[str, Any] = {"link_outages": OFTEN, "server_outages": OFTEN, "slowdowns": OFTEN | {"factor": 2}}
SEVERAL["message_loss"] = {"probability": 0.1, "timeout": 1}


def test_a_workers_times_do_not_depend_on_other_workers():
    alone = model(crashes=CRASHES, **SEVERAL)
    expected, absences = times(alone, 3), first(alone.absences(3), 20)
    many = model(crashes=CRASHES, **SEVERAL, joins=[5] * 3 + [0] * 2, departures={"after": 9, "workers": [0, 4]})
    assert all(times(many, worker) and first(many.absences(worker), 50) for worker in (4, 0, 2))
    assert times(many, 3) == expected
    assert first(many.absences(3), 20) == absences
    assert all(times(alone, 2)[kind] != expected[kind] for kind in ("slowdowns", "own link", "loss"))
    assert first(alone.absences(2), 20) != absences


def test_a_kind_of_fault_does_not_move_the_times_of_another():
    everything = model(**SEVERAL, crashes=CRASHES, preemption=PREEMPTION, departures={"after": "10min"})
    for kind, section in (("slowdowns", "slowdowns"), ("own link", "link_outages"), ("server", "server_outages")):
        assert times(model(**{section: SEVERAL[section]}), 1)[kind] == times(everything, 1)[kind]
    assert first(model(crashes=CRASHES, **SEVERAL).absences(1), 20) == first(model(crashes=CRASHES).absences(1), 20)
    assert times(everything, 1)["slowdowns"] != times(everything, 1)["own link"]


def test_another_seed_gives_other_times():
    one, same, other = (model(seed, crashes=CRASHES, **SEVERAL) for seed in (1, 1, 2))
    assert times(one, 0) == times(same, 0)
    assert all(times(one, 0)[kind] != found for kind, found in times(other, 0).items())
    assert first(one.absences(0), 5) == first(same.absences(0), 5) != first(other.absences(0), 5)


@pytest.mark.parametrize("probability", [0.05, 0.3, 0.9])
def test_losses_in_a_row_are_geometric_up_to_the_attempts(probability: float):
    lossy = model(message_loss={"probability": probability, "timeout": 1, "attempts": 3})
    random = lossy.loss_stream(0)
    found = np.bincount([lossy.losses(random) for _ in range(DRAWS)], minlength=4) / DRAWS
    expected = [probability**lost * (1 - probability) for lost in range(3)] + [probability**3]
    for frequency, chance in zip(found, expected, strict=True):
        assert frequency == pytest.approx(chance, abs=5 * math.sqrt(chance * (1 - chance) / DRAWS))


def test_nothing_is_lost_without_message_loss():
    assert model().losses(model().loss_stream(0)) == 0
    assert model(message_loss={"probability": 0.999, "timeout": 1}).losses(None) == 0
