import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

from simulator import Cache, ExperimentError, Setup, Simulation, check, simulate
from simulator.learning import RoundData
from simulator.report import money
from simulator.verify import verify
from tests.experiments import TINY, tiny

pytestmark = pytest.mark.usefixtures("mixed_dtypes")

CACHE = Cache()  # compiled programs are shared by the tests of this file

BARRIER = {"kind": "barrier"}
FOREVER = {"kind": "asynchronous", "grace": "infinite"}
NESTEROV = {"optimizer": "nesterov", "learning_rate": 0.5, "momentum": 0.9}
DELAYED = {"optimizer": "delayed_nesterov", "learning_rate": 0.5, "momentum": 0.9, "buffer": 4}
EQUAL_DEVICES = {"devices": {"seconds_per_step": 0.5, "workers": 4}}


def run(experiment, **kwargs):
    simulation = Simulation(experiment, cache=CACHE, **kwargs)
    record = simulation.run()
    return record, jax.device_get(simulation.learner.params())


def outer(settings):
    """An `outer` section that replaces the tiny experiment's."""
    return {"weight": 1.0} | settings


def assert_close(first, second, **tolerance):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, **({"rtol": 2e-4, "atol": 2e-6} | tolerance)), first, second
    )


def distance(first, second):
    return max(float(np.abs(a - b).max()) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True))


class TestKnownEqualities:
    def test_asynchronous_with_infinite_grace_and_a_buffer_of_all_equals_synchronous(self):
        _, synchronous = run(tiny(synchronization=BARRIER, outer=outer(NESTEROV)))
        _, buffered = run(tiny(synchronization=FOREVER, outer=outer(NESTEROV) | {"arrivals_per_update": 4}))
        _, unbuffered = run(tiny(synchronization=FOREVER, outer=outer(NESTEROV)))
        assert_close(synchronous, buffered)
        assert distance(synchronous, unbuffered) > 1e-2

    def test_delayed_nesterov_with_dylu_and_grace_on_equal_devices_equals_synchronous(self):
        changes = {"cluster": EQUAL_DEVICES}
        _, synchronous = run(tiny(synchronization=BARRIER, outer=outer(NESTEROV), **changes))
        grace = {"kind": "asynchronous", "grace": "1s"}
        record, delayed = run(
            tiny(synchronization=grace, outer=outer(DELAYED), local_steps={"kind": "dynamic"}, **changes)
        )
        assert len(record.rounds) == 40
        assert_close(synchronous, delayed)
        _, unequal = run(tiny(synchronization=grace, outer=outer(DELAYED), local_steps={"kind": "dynamic"}))
        assert distance(synchronous, unequal) > 1e-2

    def test_one_worker_with_outer_sgd_of_rate_one_equals_plain_training(self):
        experiment = tiny(
            cluster={"devices": {"seconds_per_step": [1.0]}},
            outer={"optimizer": "sgd", "learning_rate": 1.0, "weight": 1.0},
            budget={"local_steps": 50},
        )
        _, simulated = run(experiment)
        dataset, loss = Setup(experiment, CACHE).dataset, Setup(experiment, CACHE).model.loss
        optimizer = optax.adamw(experiment.inner.learning_rate)
        params = Setup(experiment, CACHE).start()
        state = optimizer.init(params)
        gradient = jax.jit(jax.grad(loss))
        for rows in Setup(experiment, CACHE).round_data().order(0, 0, 50):
            updates, state = optimizer.update(
                gradient(params, dataset.fetch(dataset.arrays, rows), None), state, params
            )
            params = optax.apply_updates(params, updates)
        assert_close(jax.device_get(params), simulated, rtol=1e-3, atol=1e-4)
        assert distance(jax.device_get(Setup(experiment, CACHE).start()), simulated) > 0.1

    def test_delayed_nesterov_with_a_buffer_of_one_equals_nesterov(self):
        _, nesterov = run(tiny(outer=outer(NESTEROV) | {"weight": 0.25}))
        _, delayed = run(tiny(outer=outer(DELAYED) | {"buffer": 1, "weight": 0.25}))
        _, buffer_of_four = run(tiny(outer=outer(DELAYED) | {"weight": 0.25}))
        assert_close(nesterov, delayed)
        assert distance(nesterov, buffer_of_four) > 1e-2


def test_waiting_for_the_group_counts_behind_a_barrier_as_with_infinite_grace():
    budget = {"server_updates": 4, "local_steps": None}
    barrier = simulate(tiny(synchronization=BARRIER, budget=budget | {"server_updates": 1}), trainer="null")
    forever = simulate(tiny(synchronization=FOREVER, budget=budget), trainer="null")
    assert barrier.summary["utilization"] == forever.summary["utilization"] == pytest.approx(6.17 / (4 * 3.33))


class TestSameness:
    def test_the_same_experiment_twice_gives_the_same_bits(self):
        first, second = (simulate(tiny(seed=3)) for _ in range(2))
        pd.testing.assert_frame_equal(first.rounds, second.rounds, check_exact=True)
        pd.testing.assert_frame_equal(first.evaluations, second.evaluations, check_exact=True)
        assert first.summary["parameters_hash"] == second.summary["parameters_hash"]
        assert first.summary["parameters_hash"] != simulate(tiny(seed=4)).summary["parameters_hash"]

    @pytest.mark.parametrize("changes", [{}, {"local_steps": {"kind": "dynamic"}}, {"synchronization": BARRIER}])
    def test_serial_batched_and_null_trainers_agree(self, changes):
        serial, serial_params = run(tiny(**changes), trainer="serial")
        batched, batched_params = run(tiny(compute={"lanes": 4}, **changes))
        null = simulate(tiny(**changes), trainer="null", cache=CACHE)
        assert_close(serial_params, batched_params, rtol=2e-3, atol=2e-4)
        np.testing.assert_allclose(serial.evaluations["loss"], batched.evaluations["loss"], rtol=1e-4)
        clock = [column for column in serial.rounds.columns if column != "train_loss"]
        pd.testing.assert_frame_equal(serial.rounds[clock], batched.rounds[clock], check_exact=True)
        pd.testing.assert_frame_equal(serial.rounds[clock], null.rounds[clock], check_exact=True)
        assert serial.summary["causal_hash"] == batched.summary["causal_hash"] == null.summary["causal_hash"]

    def test_how_often_is_evaluated_changes_no_parameter(self):
        often, _ = run(tiny())
        seldom, _ = run(tiny(evaluate={"every_local_steps": 1000}))
        assert len(often.evaluations) > len(seldom.evaluations)
        assert often.summary["parameters_hash"] == seldom.summary["parameters_hash"]
        assert often.summary["simulated_seconds"] == seldom.summary["simulated_seconds"]

    def test_nothing_is_recompiled_once_every_lane_count_was_seen(self):
        cache = Cache()
        experiment = tiny(local_steps={"kind": "dynamic"}, compute={"lanes": 4})
        simulate(experiment, cache=cache)
        compiled = Setup(experiment, cache).programs().compilations
        assert 1 <= compiled <= 3  # one, two and four lanes
        simulate(tiny(seed=1, outer=outer(DELAYED), compute={"lanes": 4}), cache=cache)
        simulate(tiny(seed=2, synchronization=BARRIER, compute={"lanes": 4}), cache=cache)
        assert Setup(experiment, cache).programs().compilations <= 3


class TestRecord:
    def test_bytes_of_each_direction(self):
        network = {"bandwidth": "1MB/s", "down": {"bytes_per_parameter": 4}, "up": {"bytes_per_parameter": 2}}
        record = simulate(tiny(cluster={"network": network}), trainer="null", cache=CACHE)
        parameters = record.summary["parameters"]
        assert set(record.rounds["bytes_down"]) == {4 * parameters}
        assert set(record.rounds["bytes_up"]) == {2 * parameters}
        assert record.summary["bytes_sent"] == 6 * parameters * len(record.rounds)

    def test_the_summary_follows_from_the_tables(self):
        record, _ = run(tiny(cluster={"network": {"latency": "50ms", "bandwidth": "1MB/s"}}))
        summary, rounds, last = record.summary, record.rounds, record.evaluations.iloc[-1]
        assert summary["local_steps"] == rounds["local_steps"].sum() == last["local_steps"] == 200
        assert summary["tokens"] == 200 * 4 * 8 == last["tokens"]
        assert summary["bytes_sent"] == len(rounds) * 2 * 4 * summary["parameters"] == last["bytes_sent"]
        assert summary["server_updates"] == len(rounds) == last["server_updates"]
        assert summary["final_loss"] == last["loss"]
        assert summary["final_perplexity"] == pytest.approx(np.exp(last["loss"]))
        assert summary["simulated_seconds"] == rounds["update_s"].max()
        transfer_s = 0.05 + 4 * summary["parameters"] / 1e6
        np.testing.assert_allclose(rounds["compute_start_s"] - rounds["pull_start_s"], transfer_s)
        np.testing.assert_allclose(rounds["arrival_s"] - rounds["push_start_s"], transfer_s)

    def test_training_learns_the_source_and_stays_above_its_entropy_rate(self):
        record, _ = run(tiny(budget={"local_steps": 1000}, synchronization=BARRIER, outer=outer(NESTEROV)))
        losses = record.evaluations["loss"]
        assert losses.iloc[0] == pytest.approx(np.log(16), abs=0.1)
        assert record.summary["best_loss"] - 0.1 < losses.iloc[-1] < losses.iloc[0] - 0.3
        assert record.rounds["train_loss"].iloc[-1] < record.rounds["train_loss"].iloc[0]

    def test_the_toy_classifier_learns(self):
        experiment = tiny(
            model={"kind": "mlp", "hidden": [32]},
            data={"source": "gaussian-clusters", "dimension": 32, "points": 2_000, "evaluation_points": 500},
            evaluate={"windows": 500},
        )
        record = simulate(experiment)
        assert record.summary["tokens"] == 200 * 4
        assert record.summary["final_loss"] < record.evaluations["loss"].iloc[0] - 0.05

    def test_a_timeline_alone_reads_no_data_and_has_no_losses(self, tmp_path):
        experiment = tiny(data={"source": "text", "files": [str(tmp_path / "absent.txt")]})
        record = simulate(experiment, trainer="null")
        assert record.summary["final_loss"] is None
        assert record.summary["data_hash"] is None
        assert record.evaluations["loss"].isna().all()
        assert len(record.rounds) == 40

    def test_the_authors_toy_clock_through_the_engine(self):
        experiment = tiny(
            model={"kind": "mlp", "hidden": [65_000]},
            data={"source": "gaussian-clusters"},
            inner={"batch_size": 32, "local_steps": 20},
            shard_choice={"kind": "least_visited"},
            budget={"local_steps": 8_000},
            evaluate={"every_local_steps": 800},
        )
        record = simulate(experiment, trainer="null")
        assert record.summary["parameters"] == 33_605_004
        clock = record.evaluations[["local_steps", "simulated_s"]].iloc[1:].round(1)
        golden = [209.0, 406.4, 603.8, 801.4, 999.0, 1207.8, 1404.2, 1600.6, 1800.2, 1998.6]
        assert clock["local_steps"].tolist() == list(range(800, 8001, 800))
        assert clock["simulated_s"].tolist() == golden
        staleness = record.rounds.groupby("worker")["staleness"].agg(["size", "mean", "max"]).round(2)
        assert staleness["size"].tolist() == [172, 132, 66, 30]
        assert staleness["mean"].tolist() == [
            1.24,
            1.42,
            5.02,
            12.27,
        ]  # with ties; see tests/timeline/test_timeline_golden.py
        assert staleness["max"].tolist() == [3, 3, 6, 14]


class TestStaleArrivals:
    def test_what_the_timeline_counts_as_dropped_leaves_the_parameters_alone(self):
        threshold = {"staleness": {"kind": "threshold", "drop_above": 3}}
        experiment = tiny(outer=outer(NESTEROV) | {"weight": 0.25} | threshold)
        simulation = Simulation(experiment, cache=CACHE)
        record = simulation.run()
        dropped = record.rounds[record.rounds["outcome"] == "dropped"]
        assert set(dropped["worker"]) == {2, 3}
        assert (record.rounds["staleness"] > 3).equals(record.rounds["outcome"] == "dropped")
        assert record.summary["server_updates"] == len(record.rounds) - len(dropped)

    @pytest.mark.parametrize(
        "extra",
        [
            {"staleness": {"kind": "polynomial", "power": 0.5}},
            {"staleness": {"kind": "polynomial", "power": 0.5, "drop_above": 5}},
            {"delay_compensation": 0.5},
            {"arrivals_per_update": 2},
        ],
    )
    def test_each_correction_changes_the_trajectory(self, extra):
        plain = simulate(tiny(), cache=CACHE).summary["parameters_hash"]
        assert simulate(tiny(outer=extra), cache=CACHE).summary["parameters_hash"] != plain

    def test_the_server_moves_only_when_its_version_does(self):
        from simulator.simulation.training_learner import TrainingLearner
        from simulator.timeline import Dispatched, Update

        experiment = tiny(
            outer=outer(NESTEROV) | {"arrivals_per_update": 3, "staleness": {"kind": "threshold", "drop_above": 2}}
        )
        simulation = Simulation(experiment, cache=CACHE)
        learner = TrainingLearner(Setup(experiment, CACHE), "batched", None)
        outcomes, version = set(), 0
        for event in simulation.timeline:
            before = jax.device_get(learner.params())
            if isinstance(event, Dispatched):
                learner.dispatch(event)
            elif isinstance(event, Update):
                learner.update(event)
                moved = distance(before, jax.device_get(learner.params())) > 0
                assert moved == (event.version > version) == (event.outcome == "applied")
                outcomes.add(event.outcome)
                version = event.version
        assert outcomes == {"applied", "buffered", "dropped"}


def test_the_programs_of_one_simulation_serve_the_next():
    from jax import monitoring

    cache = Cache()
    simulate(tiny(), cache=cache)
    compiled = []

    def listen(event, duration_s, **_):
        if event.endswith("backend_compile_duration"):
            compiled.append(duration_s)

    monitoring.register_event_duration_secs_listener(listen)
    try:
        simulate(tiny(seed=1), cache=cache)
        assert compiled == []
        simulate(tiny(seed=1), cache=Cache())
        assert compiled != []  # so the listener does hear of compilations
    finally:
        monitoring.unregister_event_duration_listener(listen)


class TestMistakes:
    @pytest.mark.parametrize(
        ("changes", "key", "words"),
        [
            ({"model": {"vocabulary": 8}}, "model.vocabulary", "the tokenizer has 16 ids"),
            ({"outer": {"optimizer": "nope", "learning_rate": 1.0}}, "outer.optimizer", "no such optimizer"),
            ({"inner": {"optimizer": "adamx"}}, "inner.optimizer", "did you mean 'adam"),
            ({"inner": {"arguments": {"b3": 1}}}, "inner.arguments", "b3"),
            ({"pretrain": {"steps": 1, "optimizer": "adamx"}}, "pretrain.optimizer", "did you mean 'adam"),
            ({"pretrain": {"optimizer": "sgd", "weight_decay": 0.1}}, "pretrain.weight_decay", "sgd takes none"),
            ({"inner": {"optimizer": "sgd", "weight_decay": 0.1}}, "inner.weight_decay", "sgd takes none"),
            ({"data": {"tokens": 20}}, "model.context", "more data.tokens"),
            ({"cluster": {"devices": {"accelerators": [{"name": "A10O"}]}}}, "cluster.devices", "did you mean 'A100'"),
        ],
    )
    def test_mistakes_beyond_the_schema_are_named_before_anything_runs(self, changes, key, words):
        if "devices" in changes.get("cluster", {}):
            experiment = tiny().model_copy(update={"cluster": type(tiny().cluster).model_validate(changes["cluster"])})
        else:
            experiment = tiny(**changes)
        problems = check(experiment)
        assert len(problems) == 1
        assert problems[0].key.startswith(key)
        assert words in str(problems[0])

    def test_running_out_of_memory_is_said_in_one_sentence(self):
        clusters = {"source": "gaussian-clusters", "points": 100, "dimension": 8, "evaluation_points": 10}
        too_wide = tiny(model={"kind": "mlp", "hidden": [2**31 - 1]}, data=clusters)
        with pytest.raises(ExperimentError, match=r"compute\.memory = .* are needed even with one round at a time"):
            simulate(too_wide)

    def test_a_lack_of_host_memory_is_found_by_the_check(self):
        clusters = {"source": "gaussian-clusters", "points": 1000, "dimension": 2**31 - 1, "evaluation_points": 10}
        too_large = tiny(model={"kind": "mlp", "hidden": [2]}, data=clusters)
        assert [str(problem)[:15] for problem in check(too_large)] == ["out of memory: "]

    def test_simulating_a_mistake_raises_the_same(self):
        with pytest.raises(ExperimentError, match=r"model\.vocabulary = 8: the tokenizer has 16 ids"):
            simulate(tiny(model={"vocabulary": 8}))


def test_randomness_of_rounds_is_folded_from_the_round_id(monkeypatch):
    made, inputs = [], RoundData.inputs

    def noted(self, stretch, *rest):
        made.append((self, inputs(self, stretch, *rest)))
        return made[-1][1]

    monkeypatch.setattr(RoundData, "inputs", noted)
    simulate(tiny(seed=7, budget={"local_steps": 40}), trainer="serial", cache=CACHE)  # computes rounds as they begin
    assert [int(each.id) for _, each in made][:8] == list(range(8))
    assert {int(each.before) for _, each in made} == {0}
    assert jnp.issubdtype(made[0][0].key.dtype, jax.dtypes.prng_key)


def test_a_summary_has_the_money_where_there_are_prices():
    devices = {**TINY["cluster"]["devices"], "price_per_hour": 36.0}
    priced = simulate(tiny(cluster={"devices": devices, "currency": "EUR"}), trainer="null", cache=CACHE)
    assert (priced.summary["money"], priced.summary["currency"]) == (money(priced).total, "EUR")
    assert priced.summary["money"] == pytest.approx(4 * priced.summary["simulated_seconds"] / 100)
    free = simulate(tiny(), trainer="null", cache=CACHE)
    assert not {"money", "currency"} & set(free.summary)
    assert verify(priced) == []
    wrong = dataclasses.replace(priced, summary=priced.summary | {"money": 1.0})
    assert [violation.rule for violation in verify(wrong)] == ["money"]
