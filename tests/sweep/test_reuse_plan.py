"""Training that simulations of a sweep share: every number is as if each had been trained."""

from typing import Any

import pandas as pd
import pytest

from simulator import Cache, simulate
from simulator.experiment import Experiment
from simulator.experiment.file import merge
from simulator.host.signals import Stopped
from simulator.learning import trainers
from simulator.record import RunRecord
from simulator.simulation.simulate import Simulation
from simulator.sweep.reuse_plan import sharing
from tests.experiments import tiny
from tests.killed_runs import CLASSIFIER, DELAYED, NESTEROV

pytestmark = pytest.mark.usefixtures("mixed_dtypes")
CACHE = Cache()
SYNC = {"synchronization": {"kind": "barrier"}, "outer": NESTEROV | {"weight": 1.0}}
OF_THE_HOST = ("host_seconds", "tokens_per_host_second", "reused")


def classifier(**changes: Any) -> Experiment:
    return tiny(**merge(CLASSIFIER, changes))


def swept(*experiments: Experiment) -> list[RunRecord]:
    """Simulates one after another with what they can have from each other; all are as if trained alone."""
    plan = sharing(experiments, [f"run {index}" for index in range(len(experiments))], CACHE)
    records = []
    for index, experiment in enumerate(experiments):
        share = plan.share(index)
        record = simulate(experiment, cache=CACHE, share=share)
        plan.done(index, record, share.kept)
        assert_as_alone(record, experiment)
        records.append(record)
    assert not plan._kept
    return records


def assert_as_alone(record: RunRecord, experiment: Experiment) -> None:
    alone = simulate(experiment, cache=CACHE)
    assert alone.summary["reused"] is None
    for name in ("rounds", "evaluations", "faults", "updates", "transfers"):
        pd.testing.assert_frame_equal(getattr(record, name), getattr(alone, name), check_exact=True)
    unknown = dict.fromkeys(OF_THE_HOST)
    assert record.summary | unknown == alone.summary | unknown


def reused(records: list[RunRecord]) -> list[Any]:
    return [record.summary["reused"] for record in records]


def test_bandwidths_of_a_synchronous_run_share_its_training(monkeypatch: pytest.MonkeyPatch):
    experiments = [
        classifier(**SYNC, cluster={"network": {"bandwidth": bandwidth}}, evaluate={"per_shard": True})
        for bandwidth in ("1Gbit/s", "1Mbit/s", "10kbit/s")
    ]
    records = swept(*experiments)
    assert reused(records) == [None, *[{"from": "run 0", "local_steps": 200}] * 2]
    assert len({record.summary["simulated_seconds"] for record in records}) == 3
    assert len({record.summary["parameters_hash"] for record in records}) == 1
    assert [record.summary["tokens_per_host_second"] for record in records[1:]] == [None, None]
    monkeypatch.setattr(trainers.Trainer, "submit", None)  # nothing is trained
    plan = sharing(experiments, "abc", CACHE)
    plan.done(0, records[0])
    assert simulate(experiments[2], cache=CACHE, share=plan.share(2)).summary["reused"]["from"] == "a"


def test_prices_change_nothing_that_is_learned():
    prices = ({"devices": {"price_per_hour": price}, "server_price_per_hour": 5} for price in (1.0, [1, 2, 3, 4]))
    free, *priced = (classifier(cluster=cluster) for cluster in ({}, *prices))
    records = swept(free, *priced)
    assert reused(records)[1:] == [{"from": "run 0", "local_steps": 200}] * 2
    assert len({record.summary["causal_hash"] for record in records}) == 1


def test_another_order_or_other_settings_are_trained():
    base = {"cluster": {"devices": {"seconds_per_step": [0.5, 0.7]}}}
    other_order = {"cluster": {"devices": {"seconds_per_step": [0.7, 0.5]}}}
    settings: list[dict[str, Any]] = [
        {"seed": 1},
        {"inner": {"learning_rate": 0.2}},
        {"outer": {"learning_rate": 0.6}},
        {"evaluate": {"windows": 16}},
        {"pretrain": {"steps": 2}},
        {"data": {"points": 300}},
        {"model": {"hidden": [9]}},
        {"compute": {"trainer": "serial"}},
    ]
    records = swept(*(classifier(**merge(base, change)) for change in ({}, other_order, *settings)))
    assert reused(records) == [None] * len(records)


@pytest.mark.parametrize("outer", [NESTEROV, DELAYED])
def test_simulations_that_part_at_a_fault_share_what_comes_before(outer: dict[str, Any]):
    def failing(*trace: list[Any]) -> Experiment:
        return classifier(outer=outer | {"weight": 0.25}, cluster={"faults": {"trace": list(trace)}})

    records = swept(
        failing([1, 40, "slow 1.5"]),
        failing([0, 10, "slow 1"], [2, 20, "crash"], [2, 26, "join"]),
        failing([2, 20, "crash"], [2, 26, "join"], [0, 35, "crash"], [0, 36, "join"]),
        failing([2, 20, "crash"], [2, 26, "join"]),
    )
    first, second, third, fourth = reused(records)
    assert first is None
    assert second["from"] == "run 0"
    assert 0 < second["local_steps"] < third["local_steps"] < 200
    assert third["from"] == "run 1"
    assert fourth == {"from": "run 1", "local_steps": 200}


def test_a_state_that_saves_next_to_nothing_is_not_kept():
    def second_source(first_s: float, second_s: float, local_steps: int) -> Any:
        """Returns where a simulation goes on from that parts from another when the first worker fails in it."""
        faults = [{"trace": [[0, time, "crash"], [0, time + 1, "join"]]} for time in (first_s, second_s)]
        budget = {"local_steps": local_steps}
        experiments = [classifier(cluster={"faults": each}, budget=budget) for each in faults]
        return sharing(experiments, "ab", CACHE).source(1)

    assert second_source(3.1, 5, 200) is None  # after one round of 5 local steps
    assert second_source(6, 7, 200) == (0, False)
    assert second_source(6, 7, 2000) is None  # after less than a twentieth of all
    assert second_source(60, 61, 2000) == (0, False)


def test_without_room_for_a_state_everything_is_trained():
    experiments = [classifier(budget={"local_steps": steps}) for steps in (100, 200, 150)]
    plan = sharing(experiments, "abc", CACHE)
    share = plan.share(0)
    record = simulate(experiments[0], cache=CACHE, share=share)
    [state] = share.kept.values()
    size = sum(array.nbytes for array in state.arrays.values())
    for room, kept in ((size // 2, 0), (size, 1)):
        plan._room = room
        share = plan.share(0)
        simulate(experiments[0], cache=CACHE, share=share)
        assert len(share.kept) == kept
        assert share.room == room - kept * size
    plan._room = 0
    plan.done(0, record, {})
    for index in (1, 2):
        share = plan.share(index)
        record = simulate(experiments[index], cache=CACHE, share=share)
        plan.done(index, record, share.kept)
        assert_as_alone(record, experiments[index])
        assert record.summary["reused"] is None


def test_the_state_that_a_simulation_goes_on_from_takes_room_too():
    experiments = [classifier(budget={"local_steps": steps}) for steps in (100, 150, 200)]
    plan = sharing(experiments, "abc", CACHE)
    share = plan.share(0)
    plan.done(0, simulate(experiments[0], cache=CACHE, share=share), share.kept)
    taken = sum(array.nbytes for state in share.kept.values() for array in state.arrays.values())
    plan._room = 2 * taken
    assert plan.share(1).room == 2 * taken - taken


def test_a_longer_budget_goes_on_where_a_shorter_one_ended():
    short, long = (classifier(budget={"local_steps": steps}) for steps in (100, 200))
    assert reused(swept(short, long)) == [None, {"from": "run 0", "local_steps": 100}]
    assert reused(swept(long, short))[1] == {"from": "run 0", "local_steps": 100}


def test_cosines_over_budgets_of_their_own_are_trained():
    schedule = {"inner": {"schedule": {"kind": "cosine", "warmup_steps": 2}}}
    records = swept(*(classifier(**schedule, budget={"local_steps": steps}) for steps in (100, 200)))
    assert reused(records) == [None, None]


def test_a_transformer_and_lanes_are_shared_too():
    network = [{"network": {"latency": latency}} for latency in ("0s", "40ms")]
    records = swept(*(tiny(**SYNC, cluster=each, compute={"lanes": 4}, budget={"local_steps": 40}) for each in network))
    assert reused(records)[1] == {"from": "run 0", "local_steps": 40}


def test_a_record_of_other_versions_stands_for_nothing():
    experiments = [classifier(**SYNC, seed=seed) for seed in (0, 0)]
    plan = sharing(experiments, "ab", CACHE)
    record = simulate(experiments[0], cache=CACHE)
    record.summary["versions"] = record.summary["versions"] | {"jax": "0.0"}
    plan.done(0, record)
    assert simulate(experiments[1], cache=CACHE, share=plan.share(1)).summary["reused"] is None


def test_a_source_that_failed_is_not_waited_for():
    experiments = [classifier(budget={"local_steps": steps}) for steps in (100, 200)]
    plan = sharing(experiments, "ab", CACHE)
    assert plan.share(0).wanted
    record = simulate(experiments[1], cache=CACHE, share=plan.share(1))
    assert record.summary["reused"] is None


def test_what_was_reused_is_still_known_after_a_stop(tmp_path: Any):
    experiments = [classifier(budget={"local_steps": steps}) for steps in (100, 200)]
    plan = sharing(experiments, "ab", CACHE)
    share = plan.share(0)
    plan.done(0, simulate(experiments[0], cache=CACHE, share=share), share.kept)
    share = plan.share(1)
    stops = iter([False, False, False, True])
    with pytest.raises(Stopped):
        simulate(experiments[1], cache=CACHE, share=share, checkpoints=tmp_path, stop=lambda: next(stops))
    record = simulate(experiments[1], cache=CACHE, checkpoints=tmp_path)
    assert record.summary["reused"] == {"from": "a", "local_steps": 100}
    assert_as_alone(record, experiments[1])


def test_nothing_is_compared_where_nobody_has_the_same_settings(monkeypatch: pytest.MonkeyPatch):
    experiments = [classifier(seed=seed) for seed in range(2)]
    monkeypatch.setattr(Simulation, "__init__", None)  # no timeline is made
    plan = sharing(experiments, "ab", CACHE)
    assert plan.share(1).trajectory is None
    assert plan.share(0).wanted == frozenset()
