"""Plans: what a cluster takes by its clock alone, the bandwidth it needs, and who waits for whom."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from simulator import Cache, Setup, load, simulate
from simulator.experiment import Experiment, Point
from simulator.simulation.checks import device_fits
from simulator.sweep import planning
from simulator.sweep.bandwidth import needed_factor, span_of, with_bandwidth, with_limits
from simulator.sweep.planning import PlannedVariant, plan_of, terms_of
from tests.simulation.test_described_models import T4, described

CACHE = Cache()
STEP_S, MESSAGE_S = 6e9 * 2000 / (65e12 * 0.5), 4.0  # of a T4, and of a message at 8 Gbit/s
FAST = {"name": "fast", "peak": "65TFLOP/s", "utilization": 1.0}


def plan(experiment: Experiment, name: str = "one") -> PlannedVariant:
    [found] = plan_of([Point(name, {}, experiment)], CACHE)
    return found


# The search.


@pytest.mark.parametrize(
    ("share_at", "share", "expected"),
    [
        (lambda factor: 1 / (1.1 + 0.5 / factor), 0.8, 0.5 / 0.15),
        (lambda factor: 1 / (1.1 + 5e-5 / factor), 0.5, 5e-5 / 0.9),
        (lambda factor: 1 / (1.1 + 5e4 / factor), 0.9, 5e4 / (1 / 0.9 - 1.1)),
        (lambda factor: min(1.0, factor / 3), 0.99, 2.97),  # as where messages overlap
        (lambda factor: 0.3 if factor < 7 else 0.9, 0.9, 7.0),
    ],
    ids=["plain", "little", "much", "overlapping", "a step"],
)
def test_the_least_bandwidth_is_found_within_two_percent(share_at: Any, share: float, expected: float):
    known: dict[float, float] = {}
    found = needed_factor(share_at, share, known)
    assert found is not None
    assert share_at(found) >= share
    assert expected <= found <= 1.021 * expected
    assert len(known) < 30
    if expected == 0.5 / 0.15:
        assert len(known) <= 5  # with the unlimited one and the present one


def test_a_bandwidth_that_does_not_matter_or_does_not_suffice():
    assert needed_factor(lambda factor: 1.0, 0.99, {}) == 0.0
    assert needed_factor(lambda factor: 1 / (1.1 + 1 / factor), 0.95, {}) is None


def test_a_factor_is_on_every_link_between_nodes():
    experiment = described(
        cluster__network={"bandwidth": ["1Gbit/s", "unlimited"], "server_link": {"bandwidth": "4Gbit/s"}},
        topology={
            "kind": "regions",
            "regions": 2,
            "bandwidth": "2Gbit/s",
            "outer": {"optimizer": "sgd", "learning_rate": 1},
        },
        model__width=8,
        inner__stages={"kind": "gpipe", "count": 2, "micro_batches": 2},
        cluster__pipeline={"bandwidth": "7Gbit/s"},
    )
    twice = with_bandwidth(experiment, 2.0)
    assert twice.cluster.network.bandwidth == (250e6, math.inf)
    assert twice.cluster.network.server_link is not None
    assert twice.cluster.network.server_link.bandwidth == 1e9
    assert getattr(twice.topology, "bandwidth", None) == 500e6
    assert twice.cluster.pipeline == experiment.cluster.pipeline  # within a worker
    assert span_of(experiment) == (125e6, 500e6)
    assert with_limits(experiment) == (experiment, True)


def test_links_without_limits_are_looked_at_from_one_gigabit():
    unlimited = described(cluster__network={"bandwidth": "unlimited", "down": {"bandwidth": "unlimited"}})
    limited, is_limited = with_limits(unlimited)
    assert not is_limited
    assert span_of(limited) == (125e6, 125e6)
    assert {limited.cluster.network.direction(way).bandwidth for way in ("down", "up")} == {125e6}


# A plan.


def test_its_numbers_are_those_of_the_timeline():
    prices = {"accelerators": [T4 | {"price_per_hour": 0.5, "count": 2}]}
    network = {"bandwidth": "8Gbit/s", "price_per_gigabyte": 0.01}
    asynchronous = {"synchronization": {"kind": "asynchronous"}, "local_steps": {"kind": "dynamic"}}
    experiment = described(cluster={"devices": prices, "network": network}, **asynchronous)
    record = simulate(experiment, trainer="null", cache=CACHE)
    found, summary = plan(experiment), record.summary
    totals = found.totals
    assert (totals.simulated_time, totals.tokens) == (summary["simulated_seconds"], summary["tokens"])
    assert (totals.local_steps, totals.server_updates) == (summary["local_steps"], summary["server_updates"])
    assert totals.bytes_up + totals.bytes_down == summary["bytes_sent"]
    assert totals.rounds == len(record.rounds) / 2 == 3
    assert totals.money == pytest.approx(summary["money"], rel=1e-12)
    assert found.staleness == (summary["mean_staleness"], summary["max_staleness"])
    assert found.utilization == summary["utilization"]
    assert not found.extrapolated


@pytest.mark.parametrize("budget", [{"rounds": 1000}, {"tokens": 2 * 1000 * 10_000}, {"local_steps": 10_000}], ids=str)
def test_a_long_budget_goes_on_as_it_was(budget: dict[str, int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(planning, "MOST_ROUNDS", 40)
    experiment = described(budget={"rounds": None} | budget)
    found = plan(experiment)
    assert (found.extrapolated, found.simulated_rounds) == (True, 40)
    assert found.totals.simulated_time == pytest.approx(1000 * (2 * MESSAGE_S + 5 * STEP_S), rel=1e-9)
    assert found.totals.rounds == pytest.approx(1000, rel=1e-12)
    assert found.totals.tokens == pytest.approx(2e7, rel=1e-12)
    assert found.totals.bytes_up == found.totals.bytes_down == pytest.approx(1000 * 2 * 4e9, rel=1e-12)


def test_a_long_time_goes_on_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(planning, "MOST_ROUNDS", 40)
    found = plan(described(budget={"rounds": None, "simulated_time": "100h"}))
    assert found.extrapolated
    assert found.totals.simulated_time == pytest.approx(360_000, rel=1e-12)
    assert found.totals.rounds == pytest.approx(360_000 / (2 * MESSAGE_S + 5 * STEP_S), rel=1e-6)


def test_the_bandwidth_that_a_share_needs_by_hand():
    found = plan(described())
    for share, factor in found.bandwidth.items():
        expected = 2 * MESSAGE_S / (5 * STEP_S) * share / (1 - share)
        assert factor is not None
        assert expected <= factor <= 1.021 * expected
    assert found.base == (1e9, 1e9)
    assert found.unlimited == pytest.approx((1, 0, 0), abs=1e-9)


def test_the_time_before_a_worker_is_under_way_does_not_count_for_bandwidth():
    streaming = {"schedule": {"fragments": 2, "overlap": 1}, "inner": {"local_steps": 6}}
    record = simulate(described(**streaming, budget={"rounds": 2}), trainer="null", cache=CACHE)
    # every 3 steps an offer and its answer, of half a message each, of which a step is overlapped
    later = 3 * STEP_S / (3 * STEP_S + MESSAGE_S - STEP_S)
    assert planning.later_utilization(record, 2) == pytest.approx(later, rel=1e-6)
    assert record.summary["utilization"] != pytest.approx(later, rel=0.05)


def test_who_waits_for_whom():
    devices = {"accelerators": [FAST | {"count": 3}, T4]}
    experiment = described(cluster={"devices": devices, "network": {"bandwidth": "unlimited"}})
    found = plan(experiment)
    fast, slow = found.groups
    assert (fast.label, fast.workers, fast.last) == ("fast", 3, 0.0)
    assert (slow.label, slow.workers, slow.last) == ("T4", 1, 1.0)
    assert (fast.compute, fast.wait) == pytest.approx((0.5, 0.5), abs=1e-6)  # twice as fast
    assert (slow.compute, slow.wait) == pytest.approx((1.0, 0.0), abs=1e-6)
    assert found.bandwidth[0.8] is None  # 5/8 with the best of links
    assert found.unlimited[0] == pytest.approx(5 / 8, abs=1e-6)
    assert (fast.bytes_up, fast.bytes_down) == (3 * 4e9, 3 * 4e9)


def test_equal_workers_wait_for_nobody_in_particular():
    assert [group.last for group in plan(described()).groups] == [0.0]


def test_memory_that_suffices_is_shown():
    [fit] = plan(described(model__width=1000)).fits
    assert (fit.name, fit.memory) == ("T4", 16e9)
    assert fit.needs.total == pytest.approx(3 * 4e9 + 2 * 1000 * 10 * 32 * 1000)
    assert device_fits(Setup(described(cluster__devices={"relative_speed": [1, 2]}), CACHE)) == []


def test_what_variants_are_compared_at():
    one, other = described(), described(budget={"rounds": 4})
    assert terms_of([one, one]) == "on equal terms: the same rounds per worker"
    assert terms_of([one, other]) == "not on equal terms: budgets differ"
    both = described(budget={"tokens": 10**9})
    assert terms_of([both]) == "whichever comes first of the same tokens, the same rounds per worker"


def test_a_plan_as_it_is_written():
    row = plan(described()).as_json()
    assert json.loads(json.dumps(row)) == row | {
        "base": list(row["base"]),
        "unlimited": list(row["unlimited"]),
        "staleness": list(row["staleness"]),
    }


def test_a_thousand_workers_take_few_rounds_to_plan(monkeypatch: pytest.MonkeyPatch):
    rounds: list[int] = []

    def counted(experiment: Experiment, **how: Any) -> Any:
        record = simulate(experiment, **how)
        rounds.append(len(record.rounds))
        return record

    monkeypatch.setattr(planning, "simulate", counted)
    found = plan(
        described(
            model={"parameters": 100e9, "layers": 80, "width": 8192, "vocabulary": 32_000},
            cluster__devices={"accelerators": [{"name": "H100", "each": 64, "count": 1000}]},
            inner={"batch_size": 64, "optimizer": "adamw"},
            budget={"rounds": None, "tokens": 10**13},
        )
    )
    assert found.extrapolated
    assert found.totals.tokens == pytest.approx(10**13)
    assert max(rounds) == 4_000
    assert sum(rounds) < 50_000  # at about 0.1 ms each


# Sites, matrices and traces.


def test_links_inside_of_sites_matrices_and_measured_rates_are_scaled_too():
    devices = {"seconds_per_step": [1, 2], "sites": ["east", "west"]}
    sites = {"east": {"bandwidth": "10Gbit/s"}, "west": {"uplink": {"bandwidth": "1Gbit/s"}}}
    at_sites = described(cluster={"devices": devices, "network": {"sites": sites, "between": {"bandwidth": "2Gbit/s"}}})
    assert span_of(at_sites) == (125e6, 1.25e9)
    network = with_bandwidth(at_sites, 4.0).cluster.network
    assert (network.sites["east"].bandwidth, network.sites["west"].uplink.bandwidth) == (5e9, 5e8)
    assert network.between.bandwidth == 1e9
    table = [["8Gbit/s", "1Gbit/s"], ["2Gbit/s", "8Gbit/s"]]
    own = described(
        cluster={"devices": devices, "network": {"sites": {"east": {}, "west": {}}, "between": {"bandwidth": table}}}
    )
    assert span_of(own) == (125e6, 1e9)
    assert with_bandwidth(own, 2.0).cluster.network.between.bandwidth == ((2e9, 2.5e8), (5e8, 2e9))
    rows = [[0, 0, "1Gbit/s"], [0, 1, "2Gbit/s"]]
    measured = described(
        cluster={"devices": {"seconds_per_step": [1, 2]}, "network": {"bandwidth": "unlimited", "trace": rows}}
    )
    assert span_of(measured) == (125e6, 250e6)
    assert [row.rate for row in with_bandwidth(measured, 3.0).cluster.network.trace] == [375e6, 750e6]
    assert with_bandwidth(measured, math.inf).cluster.network.trace is None


def test_an_uplink_is_a_limit_and_no_latency():
    devices = {"seconds_per_step": [1, 1], "sites": ["east", "west"]}
    network = {"sites": {"east": {}, "west": {"uplink": {"bandwidth": "1Gbit/s"}}}}
    found = plan(described(cluster={"devices": devices, "network": network}))
    assert found.unlimited[1] == 0  # of the time with unlimited links: there is no latency
    assert all(found.bandwidth.values())  # each is reached, and none without a limit


@pytest.mark.parametrize("file", ["clusters/halos.yaml", "clusters/sites.yaml", "measured/measured.yaml"])
def test_committed_clusters_can_be_planned(file: str):
    points = load(Path(__file__).parents[2] / "experiments" / file)
    for found in plan_of(points[:1], CACHE):
        assert 0 < found.utilization < 1
