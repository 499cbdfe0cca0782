"""Real runs: messages between processes, runs that follow their method, their ends, and what is compared."""

import io
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from simulator import Simulation, build_experiment, check, load, simulate
from simulator.experiment.schema.cluster import Cluster
from simulator.host.errors import SettingError
from simulator.record import RunRecord
from simulator.verify import verify
from tests.experiments import TINY, outside

FOLDER = Path(__file__).parents[1] / "experiments/clocks/real"
LIMIT_S = 900.0  # also of a machine that does a lot else
CLUSTER = {"devices": {"seconds_per_step": [0.01, 0.02]}, "network": {"latency": "5ms", "bandwidth": "1MB/s"}}
METHODS = {
    "synchronous": {"method": "diloco"},
    "delayed Nesterov": {"method": {"kind": "delayed_nesterov", "grace": "20ms"}},
    "overlapped": {"method": {"kind": "streaming_diloco", "fragments": 1, "overlap": 2, "compression": "none"}},
}


@pytest.fixture(autouse=True)
def _scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delenv("JAX_NUMPY_DTYPE_PROMOTION", raising=False)  # of processes: optax's Adams mix dtypes


def experiment_of(method, **changes):
    kept = {name: TINY[name] for name in ("model", "data", "inner", "evaluate")}
    own = {"cluster": CLUSTER, "shard_choice": {"kind": "fixed"}, "compute": {"trainer": "serial"}}
    budget = {"budget.local_steps": 40, "evaluate.every_local_steps": 20}
    return build_experiment(kept, **{**own, **budget, **METHODS[method], **changes})


class TestMessages:
    def test_parameters_are_the_same_bits_behind_a_stream(self):
        from wire import Layout, packed, read

        tree = {"a": jnp.arange(6.0).reshape(2, 3), "b": [jnp.float32(-0.0), jnp.array([3, 4], jnp.int32)]}
        layout = Layout(jax.eval_shape(lambda: tree))
        assert layout.size == 4 * (6 + 1 + 2)
        content = packed({"kind": "offer", "loss": 0.5}, layout.pack(tree)) + packed({"kind": "bye"})
        stream = io.BytesIO(content)
        first, second, end = (read(stream, layout.size) for _ in range(3))
        assert first.header == {"kind": "offer", "loss": 0.5}
        got = layout.unpack(first.payload)
        assert jax.tree.structure(got) == jax.tree.structure(tree)
        for there, here in zip(jax.tree.leaves(tree), jax.tree.leaves(got), strict=True):
            assert there.dtype == here.dtype
            assert np.asarray(there).tobytes() == np.asarray(here).tobytes()
        assert (second.header, second.payload, end) == ({"kind": "bye"}, b"", None)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"\x01\x00", "ends within the lengths"),
            (b"\x02\x00\x00\x00\x04\x00\x00\x00{}ab", "ends within a message"),
            (b"\x02\x00\x00\x00\x09\x00\x00\x00{}", "8 at most"),
            (b"\x02\x00\x00\x00\x00\x00\x00\x00{]", "not JSON"),
            (b"\x02\x00\x00\x00\x00\x00\x00\x00[]", "list instead of a mapping"),
        ],
    )
    def test_what_is_no_message_is_refused(self, content, message):
        from wire import WireError, read

        with pytest.raises(WireError, match=message):
            read(io.BytesIO(content), 8)

    def test_parameters_of_another_size_are_refused(self):
        from wire import Layout, WireError

        with pytest.raises(WireError, match="8 bytes of parameters where there should be 12"):
            Layout([jnp.zeros(3)]).unpack(bytes(8))

    def test_a_link_keeps_the_order_and_tells_of_the_end(self):
        from wire import Link

        inbox = queue.Queue()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            near = socket.create_connection(listener.getsockname())
            far, _ = listener.accept()
        sender = Link(near, 0.001, 1e6, 0, lambda message: None)
        Link(far, 0.0, float("inf"), 5000, inbox.put)
        for number, size in enumerate([5000, 0, 300]):
            sender.send({"number": number}, bytes(size))
        sender.finish()
        got = [inbox.get(timeout=LIMIT_S) for _ in range(4)]
        assert [(each.header["number"], len(each.payload)) for each in got[:3]] == [(0, 5000), (1, 0), (2, 300)]
        assert got[3] is None


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A real run of each method, by name; each is made when it is first asked for."""
    made = {}

    def run(method):
        import processes
        from real_task import Task

        if method not in made:
            folder, experiment = tmp_path_factory.mktemp("real"), experiment_of(method)
            Task(experiment, experiment.cluster, folder).write(folder / "task.json")
            seen = []
            processes.run(folder / "task.json", 2, folder, limit_s=LIMIT_S, watch=seen.append)
            assert {process.poll() for process in seen[-1].values()} == {0}
            parameters = np.load(folder / "parameters.npz")
            made[method] = experiment, RunRecord.read(folder), [parameters[name] for name in parameters]
        return made[method]

    return run


class TestRuns:
    @pytest.mark.parametrize("method", METHODS)
    def test_a_run_follows_its_method(self, runs, method):
        experiment, record, _ = runs(method)
        durations = {"durations"} if experiment.schedule.waits else {"durations", "overlap"}  # those of the machine
        assert [str(each) for each in verify(record) if each.rule not in durations] == []
        assert record.summary["local_steps"] >= 40
        # the same events, followed by the simulation's own training
        assert record.summary["replayed_loss"] == pytest.approx(record.summary["final_loss"], rel=1e-5)
        assert (record.rounds["worker"].value_counts() >= 2).all()

    @pytest.mark.usefixtures("mixed_dtypes")
    @pytest.mark.parametrize("method", ["synchronous", "overlapped"])
    def test_behind_a_barrier_the_parameters_are_the_simulations(self, runs, method):
        experiment, record, parameters = runs(method)
        simulation = Simulation(experiment)
        simulated = simulation.run()
        assert record.updates.groupby("meeting")["sender"].apply(set).tolist() == [{0, 1}] * 4
        assert record.updates["staleness"].tolist() == [0] * 8
        expected = map(np.asarray, jax.tree.leaves(simulation.learner.params()))
        for there, here in zip(parameters, expected, strict=True):
            np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(record.evaluations["loss"], simulated.evaluations["loss"], rtol=1e-5)

    def test_each_arrival_is_an_update_and_staleness_counts_those_since_its_round_began(self, runs):
        _, record, _ = runs("delayed Nesterov")
        updates, rounds = record.updates, record.rounds
        assert updates["version"].tolist() == list(range(1, len(updates) + 1))
        for _, offer in updates.iterrows():
            [begun] = rounds.loc[rounds["round"] == offer["round"], "pulled_version"]
            assert offer["staleness"] == offer["version"] - 1 - begun
        assert set(rounds.loc[rounds["worker"] == 1, "local_steps"]) == {2}  # floor(5 * 0.01 / 0.02)
        assert set(rounds.loc[rounds["worker"] == 0, "local_steps"]) == {5}

    def test_an_answer_is_accepted_so_many_steps_behind_its_offer(self, runs):
        _, record, _ = runs("overlapped")
        rounds = record.rounds.set_index("round")
        accepted = 0
        for number, offer in rounds.iterrows():
            own = rounds[(rounds["worker"] == offer["worker"]) & (rounds.index > number)]
            sent = record.transfers[(record.transfers["round"] == number) & (record.transfers["sender"] == -1)]
            answers = sent[sent["begin_s"] > offer["arrival_s"]]  # the others are copies, with which rounds begin
            if len(own) and len(answers):
                assert own.iloc[0]["compute_start_s"] < answers.iloc[0]["used_s"] < own.iloc[0]["push_start_s"]
                accepted += 1
        assert accepted == 6  # the answers to all offers but the last ones


def without_processes(folder):
    """Waits until no process has a folder among its arguments."""
    until_s = time.monotonic() + LIMIT_S
    while time.monotonic() < until_s:
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                found.append(str(folder).encode() in entry.read_bytes() and int(entry.parent.name) != os.getpid())
            except OSError:
                continue
        if not any(found):
            return
        time.sleep(0.1)
    pytest.fail("a process is left behind")


class TestEnds:
    @pytest.fixture
    def task(self, tmp_path):
        from real_task import Task

        experiment = experiment_of("synchronous", **{"budget.local_steps": 10**6})  # longer than anybody waits
        Task(experiment, experiment.cluster, tmp_path).write(tmp_path / "task.json")
        return tmp_path / "task.json"

    @pytest.mark.parametrize("begun", [False, True])
    def test_a_worker_that_dies_ends_everything_with_a_message(self, task, tmp_path, begun):
        import processes

        def kill(started):
            kept.update(started)
            if not begun or (tmp_path / "server.log").read_text(encoding="utf-8"):
                started["worker 1"].kill()

        kept = {}
        with pytest.raises(processes.RunFailedError, match="worker 1 ended with -9"):
            processes.run(task, 2, tmp_path, limit_s=LIMIT_S, watch=kill)
        assert all(process.poll() is not None for process in kept.values())

    def test_an_interruption_ends_everything(self, task, tmp_path):
        import processes

        def interrupt(started):
            kept.update(started)
            raise KeyboardInterrupt

        kept = {}
        with pytest.raises(KeyboardInterrupt):
            processes.run(task, 2, tmp_path, limit_s=LIMIT_S, watch=interrupt)
        assert len(kept) == 3
        assert all(process.poll() is not None for process in kept.values())

    def test_a_run_is_bounded(self, task, tmp_path):
        import processes

        kept = {}
        with pytest.raises(processes.RunFailedError, match=r"given up after 0\.1 s"):
            processes.run(task, 2, tmp_path, limit_s=0.1, watch=kept.update)
        assert all(process.poll() is not None for process in kept.values())

    @pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="processes are found in /proc")
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
    def test_nothing_is_left_when_the_one_that_has_started_it_ends(self, task, tmp_path, number):
        code = "import signal, sys, processes; from pathlib import Path; folder = Path(sys.argv[1])\n"
        code += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # which a shell may have it ignore
        code += "say = lambda _: print('started', flush=True)\n"
        code += f"processes.run(folder / 'task.json', 2, folder, limit_s={LIMIT_S}, watch=say)"
        command = [sys.executable, "-c", code, str(tmp_path)]
        quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        environment = {**outside(), "PYTHONPATH": str(FOLDER)}
        with subprocess.Popen(command, env=environment, **quiet) as started:
            assert started.stdout.readline() == b"started\n"
            started.send_signal(number)
            threading.Thread(target=started.stdout.read, daemon=True).start()
            assert started.wait(LIMIT_S) != 0
        without_processes(tmp_path)

    def test_what_is_not_built_is_refused_with_what_is(self, tmp_path):
        from real_task import Task

        changed = Cluster.model_validate(CLUSTER | {"devices": {"seconds_per_step": [1, 2], "jitter": 0.1}})
        experiment = experiment_of("synchronous").model_copy(update={"cluster": changed})
        with pytest.raises(SettingError, match=r"cluster\.devices\.jitter = 0\.1: is not built for real runs"):
            Task(experiment, changed, tmp_path)
        shared = experiment_of("synchronous", **{"data.shards": 1})
        with pytest.raises(SettingError, match=r"shard_choice\.kind = 'fixed'.*a shard for each worker"):
            Task(shared, shared.cluster, tmp_path)


class TestComparison:
    def test_the_experiment_can_be_run_and_asks_three_methods_on_two_kinds_of_devices(self, tmp_path):
        from real_task import Task

        points = load(FOLDER / "real.yaml")
        assert Counter(point.overrides["profile"] for point in points) == {"slight": 3, "very": 3}
        for point in points:
            assert check(point, data=False) == []
            Task(point.experiment, point.experiment.cluster, tmp_path)  # refuses nothing

    def test_aims_are_reached_up_to_their_limits(self):
        from real_tables import reached

        row = {"predicted_seconds": 100.0, "predicted_staleness": 2.0, "predicted_loss": 3.0, "other_seed_loss": 2.9}
        near = {"real_seconds": 104.9, "real_staleness": 2.19, "in_order": 0.9, "real_loss": 3.09}
        far = {"real_seconds": 94.9, "real_staleness": 1.79, "in_order": 0.89, "real_loss": 2.89}
        assert set(reached(row | near).values()) == {True}
        assert set(reached(row | far).values()) == {False}

    def test_arrivals_in_the_predicted_order_are_the_longest_common_run_of_both(self):
        from real_tables import in_order

        assert in_order([0, 1, 0, 1], [0, 1, 0, 1]) == 1.0
        assert in_order([0, 1, 0, 1], [0, 0, 1, 1]) == 0.75  # the second of worker 0 is too early, all else is in order
        assert in_order([0, 1, 2], [2, 1, 0]) == pytest.approx(1 / 3)
        assert in_order([0, 0, 0, 1], [0, 0]) == 0.5

    def test_curves_are_compared_at_equal_times(self):
        from real_tables import curve_difference

        predicted = pd.DataFrame({"simulated_s": [0.0, 2.0, 4.0], "loss": [4.0, 2.0, 2.0]})
        real = pd.DataFrame({"simulated_s": [0.0, 4.0, 8.0], "loss": [4.0, 2.0, 0.0]})
        assert curve_difference(predicted, real) == pytest.approx(1.0)  # at 2 s: 2 and 3

    def test_a_cluster_is_found_again_in_the_record_of_its_run(self):
        from compare import calibrated

        network = {"bandwidth": "1MB/s", "down": {"latency": [0.1, 0.3]}, "up": {"latency": [0.2, 0.05]}}
        section = {"devices": {"seconds_per_step": [0.5, 0.8]}, "network": network, "server_update_time": 0.25}
        experiment = experiment_of("synchronous").model_copy(update={"cluster": Cluster.model_validate(section)})
        imposed = Cluster.model_validate(section | {"network": {"bandwidth": "1MB/s"}, "server_update_time": 0})
        found = calibrated(simulate(experiment, trainer="null"), imposed)
        assert found.devices.seconds_per_step == pytest.approx((0.5, 0.8))
        assert found.network.down.latency == pytest.approx((0.1, 0.3))
        assert found.network.up.latency == pytest.approx((0.2, 0.05))
        assert found.server_update_time == pytest.approx(0.25)
        assert found.network.bandwidth == 1e6
