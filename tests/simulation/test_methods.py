"""Laws of every method, its names and settings in files, and methods of one's own."""

import functools
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from simulator import simulate
from simulator.experiment import ExperimentError, SimulationError, load, methods, registry
from simulator.experiment.file import merge
from simulator.experiment.methods import register_method
from simulator.host.random_streams import numpy_stream
from simulator.learning.optimizers.mla import heloco
from simulator.record import worker_table
from simulator.timeline import Dispatched
from tests.experiments import tiny
from tests.killed_runs import CLASSIFIER
from tests.simulation.quadratic_cluster import (
    RATE,
    SGD,
    START,
    Followed,
    H,
    diloco,
    experiment,
    flat,
    gradient,
    sgd,
    trained,
)
from tests.simulation.quadratic_cluster import tree as tree_of

# Of each method, the settings with which a worker alone trains plainly: the outer step takes all of its progress.
# Distributed Lion sends signs, and has laws of its own below; experts need a text, and have theirs in test_experts.py.
PLAIN: dict[str, dict[str, Any]] = {
    "a_edit": {"seconds": 1.3 * H, "clip_norm": 1e9},
    "adaptive_batch": {"threshold": None, "start": 1},
    "asynchronous": {},
    "cgad": {},
    "decoupled_diloco": {"overlap": 0},
    "delayed_nesterov": {},
    "diloco": {},
    "dude_asgd": {"learning_rate": 1.0},
    "eager_updates": {},
    "edit": {"clip_norm": 1e9},
    "fed_avg": {},
    "fed_buff": {"arrivals": 1, "learning_rate": 1.0},
    "gossip": {"edges": "complete"},
    "halos": {"regions": 1, "every_versions": 1, "mix": 1.0},
    "heloco": {"learning_rate": 1.0, "momentum": 0.0},
    "lookahead": {"share": 1.0},
    "loscar_sgd": {"overlap": 2},
    "mla": {"learning_rate": 1.0, "momentum": 0.0},
    "mu_loco": {},
    "nesterov_pipeline": {"stages": 1, "optimizer": "sgd", "momentum": 0.0},
    "noloco": {"size": 1, "learning_rate": 1.0, "momentum": 0.0},
    "palsgd": {"probability": 0.0},
    "photon": {},
    "random_subset": {"share": 1.0, "overlap": 0},
    "rennala_sgd": {"learning_rate": 1.0},
    "ringleader_asgd": {"learning_rate": 1.0},
    "ringmaster_asgd": {"learning_rate": 1.0},
    "snoo": {"learning_rate": 1.0, "momentum": 0.0},
    "sparse_loco": {"density": 1.0, "width": None},
    "streaming_diloco": {"overlap": 0, "mix": 0.0, "compression": "none", "composition": "by_size"},
}
# Of each, the settings with which equal devices do what DiLoCo does. Eager Updates always come late, but to one worker;
# DuDe and Ringleader step in between, by what is in their tables.
AS_DILOCO: dict[str, dict[str, Any]] = {
    "a_edit": {"seconds": 1.0 * H, "temperature": 1e9, "clip_norm": 1e9},
    "adaptive_batch": {"threshold": None, "start": 1},
    "asynchronous": {"grace": 100.0},
    "cgad": {},
    "decoupled_diloco": {"fragments": 1, "overlap": 0, "quorum": 3},
    "delayed_nesterov": {"local_updates": "fixed", "grace": 100.0},
    "diloco": {},
    "edit": {"temperature": 1e9, "clip_norm": 1e9},
    "fed_avg": {},
    "fed_buff": {"arrivals": 3, "learning_rate": 1.0},
    "gossip": {"edges": "complete"},
    "halos": {"regions": 1, "every_versions": 3, "mix": 1.0},
    "heloco": {"learning_rate": 1.0, "momentum": 0.0, "grace": 100.0},
    "lookahead": {"share": 1.0},
    "loscar_sgd": {"overlap": 0},
    "mla": {"learning_rate": 1.0, "momentum": 0.0, "grace": 100.0},
    "mu_loco": {},
    "nesterov_pipeline": {"stages": 1, "optimizer": "sgd", "momentum": 0.0},
    "noloco": {"size": 3, "learning_rate": 1.0, "momentum": 0.0},
    "palsgd": {"probability": 0.0},
    "photon": {"sample": 3},
    "random_subset": {"share": 1.0, "overlap": 0},
    "rennala_sgd": {"learning_rate": 1.0},
    "ringmaster_asgd": {"learning_rate": 1 / 3},
    "snoo": {"learning_rate": 1.0, "momentum": 0.0},
    "sparse_loco": {"density": 1.0, "width": None},
    "streaming_diloco": {"fragments": 1, "overlap": 0, "mix": 0.0, "compression": "none"},
}
OWN_OUTER = ("dude_asgd", "fed_avg", "fed_buff", "gossip", "heloco", "lookahead", "mla", "noloco", "photon")
OWN_OUTER += ("rennala_sgd", "ringleader_asgd", "ringmaster_asgd", "snoo", "sparse_loco")
NOLOCO = {"optimizer": "noloco", "learning_rate": 0.7}
REGIONS = {"kind": "regions", "regions": 2, "outer": SGD}


def cluster(**changes: Any) -> dict[str, Any]:
    return {"cluster": {"devices": {"seconds_per_step": [1.0, 2.0]}, **changes}}


def sample(count: int, **settings: Any) -> dict[str, Any]:
    return {"synchronization": {"kind": "barrier", "sample": count, **settings}}


def adaptive(window: str) -> dict[str, Any]:
    return {"synchronization": {"kind": "quorum", "window": window, "adaptive": {}}}


def followed(name: str, settings: dict[str, Any], step_s: list[float], rounds: int = 4, **changes: Any) -> Followed:
    """A method's slots, with outer SGD at rate 1 where it has a server and its settings do not make it that."""
    base = experiment(step_s, rounds=rounds).model_dump(mode="json", exclude_unset=True)
    slots = ("synchronization", "outer", "schedule", "topology", "offer", "compression", "merge", "local_steps")
    base = {key: value for key, value in base.items() if key not in slots}
    tree: dict[str, Any] = base | {"method": {"kind": name, **settings}} | changes
    if name not in OWN_OUTER:
        tree.setdefault("outer", SGD)
    if name == "heloco":
        tree["outer"] = {"aligned": -1.0} | tree.get("outer", {})
    if name == "halos":
        tree["topology"] = {"outer": SGD}
        tree["local_steps"] = {"kind": "fixed"}
    [point] = load(tree)
    return Followed(point.experiment)


def test_every_method_is_here():
    assert set(methods.methods()) == {*PLAIN, "distributed_lion", "smalltalk"}
    assert set(PLAIN) == {*AS_DILOCO, "eager_updates", "dude_asgd", "ringleader_asgd"}


@pytest.mark.parametrize("name", PLAIN)
def test_one_worker_is_plain_training(name: str):
    made = followed(name, PLAIN[name], [1.3])
    begun = sum(event.round.steps for event in made.events if isinstance(event, Dispatched))
    assert begun >= 3 * H
    np.testing.assert_allclose(made.worker(0), trained(0, 0, begun, START.astype(float)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", AS_DILOCO)
def test_equal_devices_are_diloco(name: str):
    changes: dict[str, Any] = {"outer": SGD | {"weight": 1 / 3}} if name in ("asynchronous", "cgad", "halos") else {}
    if name in ("mla", "heloco"):
        changes = {"outer": {"weight": 1 / 3}}
    if name == "decoupled_diloco":
        changes = {"aggregation": {"kind": "mean"}}
    made = followed(name, AS_DILOCO[name], [1.0, 1.0, 1.0], **changes)
    if name == "delayed_nesterov":  # every offer a step of a third, all within one window
        x = START.astype(float)
        for each in range(4):
            offers = [x - trained(worker, each * H, H, x) for worker in range(3)]
            for offer in offers:
                x = x - offer
        np.testing.assert_allclose(made.params, x, rtol=1e-4, atol=1e-4)
        return
    found = flat(made.learner.servers[-2, 0].params) if name == "halos" else made.params
    np.testing.assert_allclose(found, diloco(3, 4, sgd(1.0)), rtol=1e-4, atol=1e-5)


def lion(rate: float, steps: int, shard: int = 0) -> np.ndarray:
    """Parameters after steps of optax's Lion on a shard."""
    optimizer, x = optax.lion(rate, weight_decay=0.0), jnp.asarray(START)
    state = optimizer.init(x)
    for step in range(steps):
        updates, state = optimizer.update(jnp.asarray(gradient(shard, step, np.asarray(x))), state, x)
        x = optax.apply_updates(x, updates)
    return np.asarray(x)


@pytest.mark.parametrize("workers", [1, 3])
def test_distributed_lion_of_one_worker_is_lion_and_of_several_steps_by_a_vote(workers: int):
    base = experiment([1.0] * workers, rounds=3)
    tree = base.model_dump(mode="json", exclude_unset=True)
    tree = {key: value for key, value in tree.items() if key not in ("synchronization", "outer", "inner")}
    tree["inner"] = {"optimizer": "sgd", "learning_rate": 1.0, "batch_size": 1}  # a method lies over what is below it
    changes = {"variants": {"lion": {"method": {"kind": "distributed_lion", "learning_rate": 0.01}}}}
    [point] = load(tree | changes)
    made = Followed(point.experiment)
    assert {round.steps for round in dispatched(made, 0)} == {1}
    if workers == 1:
        np.testing.assert_allclose(made.params, lion(0.01, len(made.updates())), rtol=1e-5, atol=1e-6)
    votes = np.abs(made.params - START) / 0.01
    np.testing.assert_allclose(votes, np.round(votes), atol=1e-3)  # steps of one length, or none
    assert made.setup.exchanges.shares[0] == [1 / 32]


def dispatched(made: Followed, worker: int) -> list[Any]:
    return [each.round for each in made.events if isinstance(each, Dispatched) and each.round.worker == worker]


def test_what_the_published_sizes_of_messages_say():
    [point] = load("experiments/quickstart.yaml", "method=sparse_loco", variant="sync DiLoCo")
    assert 32 / point.experiment.compression.bits(32.0) == pytest.approx(146.29, abs=0.01)
    [point] = load("experiments/quickstart.yaml", "method=mu_loco", variant="sync DiLoCo")
    assert point.experiment.inner.optimizer == "muon"
    bins = "method={kind: mu_loco, compression: statistical, width: 4, rows: true}"
    [point] = load("experiments/quickstart.yaml", bins, variant="sync DiLoCo")
    compression = point.experiment.compression
    assert (compression.bits(32.0), compression.sigmas, compression.feedback) == (4, 6, 0.95)
    assert compression.table_bits((10, 64)) / 640 == 2**4 * 32 / 64


def federated(method: dict[str, Any], step_s: list[float], **inner: Any) -> Followed:
    """Eight rounds of a method on workers with momentum of their own."""
    tree = experiment(step_s, rounds=8).model_dump(mode="json", exclude_unset=True)
    tree = {key: value for key, value in tree.items() if key not in ("synchronization", "outer")}
    tree["inner"] |= {"arguments": {"momentum": 0.9}} | inner
    [point] = load(tree | {"budget": {"server_updates": 8}, "method": method})
    return Followed(point.experiment)


@pytest.mark.parametrize("state", ["keep", "reset"])
def test_photon_is_its_loop_over_the_workers_that_are_drawn(state: str):
    """Means over the two that are drawn; a momentum that is kept is what its worker had when it was last drawn."""
    step_s = [1.0, 2.5, 1.7, 0.4]
    made = federated({"kind": "photon", "sample": 2, "learning_rate": 0.8}, step_s, state=state)
    x, time_s, done = START.astype(float), 0.0, dict.fromkeys(range(4), 0)
    kept = {worker: np.zeros_like(x) for worker in range(4)}
    for meeting, update in enumerate(made.updates()):
        drawn = numpy_stream(0, "sampled workers", meeting).permutation(4)[:2].tolist()
        assert {arrival.round.worker for arrival in update.arrivals} == {*drawn}
        ends = []
        for worker in drawn:
            local, m = x, kept[worker] if state == "keep" else np.zeros_like(x)
            for step in range(done[worker], done[worker] + H):
                m = 0.9 * m + gradient(worker, step, local)
                local = local - RATE * m
            done[worker] += H
            kept[worker] = m
            ends.append(local)
        x = x - 0.8 * (x - np.mean(ends, axis=0))
        time_s += H * max(step_s[worker] for worker in drawn)
        assert update.time_ns == pytest.approx(1e9 * time_s)
    assert len({*done.values()}) > 1
    np.testing.assert_allclose(made.params, x, rtol=1e-4, atol=1e-4)


def test_photon_of_all_is_federated_averaging_to_the_bit():
    step_s = [1.0, 2.5, 1.7]
    every, all_of_them = federated({"kind": "fed_avg"}, step_s), federated({"kind": "photon"}, step_s)
    some = federated({"kind": "fed_avg", "sample": 2}, step_s)
    assert every.events == all_of_them.events
    np.testing.assert_array_equal(every.params, all_of_them.params)
    assert np.abs(every.params - some.params).max() > 1e-3
    drawn = federated({"kind": "photon", "sample": 2}, step_s)
    assert drawn.timeline.causal_hash == some.timeline.causal_hash != every.timeline.causal_hash
    np.testing.assert_array_equal(drawn.params, some.params)


def test_time_in_which_a_worker_is_not_drawn_is_waiting():
    """Rounds of 4, 8, 12 and 20 s; of workers 2 and 3, 1 and 3, 2 and 3, 0 and 3, who are done at 80 s."""
    changes = {
        "cluster": {"devices": {"seconds_per_step": [1.0, 2.0, 3.0, 5.0]}},
        "inner": {"local_steps": 4},
        "outer": SGD,
        "budget": {"local_steps": None, "server_updates": 4},
    }
    record = simulate(tiny(**merge(CLASSIFIER, changes | sample(2))), trainer="null")
    table = worker_table(record.rounds, 4, 80.0)
    np.testing.assert_allclose(table["compute"] * 80, [4, 8, 24, 80])
    np.testing.assert_allclose(table["wait"] * 80, [76, 72, 56, 0])
    assert record.summary["utilization"] == pytest.approx(116 / 320)


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_palsgd_is_its_loop_and_pulls_take_no_time(strength: float):
    """Coins are those of all: a round takes as long as the slowest does for the steps that are none."""
    step_s, rounds = [1.0, 2.5], 5
    method = {"kind": "palsgd", "probability": 0.4, "strength": strength}
    tree = experiment(step_s, rounds=rounds).model_dump(mode="json", exclude_unset=True)
    tree = {key: value for key, value in tree.items() if key != "synchronization"}
    inner = tree.pop("inner")
    [point] = load(tree | {"inner": inner, "method": method})
    made = Followed(point.experiment)
    coins = [each.pulls for each in dispatched(made, 0)]
    assert coins == [each.pulls for each in dispatched(made, 1)]
    assert any(coins)
    assert not any(0 in each for each in coins)
    x, time_s = START.astype(float), 0.0
    for each, update in enumerate(made.updates()):
        ends = []
        for worker in range(2):
            local = x
            for step in range(H):
                if step in coins[each]:
                    local = local - RATE / 0.4 * strength * (local - x)
                else:
                    local = local - RATE / 0.6 * gradient(worker, each * H + step, local)
            ends.append(local)
        x = np.mean(ends, axis=0)
        time_s += max(step_s) * (H - len(coins[each]))
        assert update.time_ns == pytest.approx(1e9 * time_s)
    np.testing.assert_allclose(made.params, x, rtol=1e-4, atol=1e-5)


def test_heloco_is_its_loop_of_arrivals():
    """Look-ahead of what is sent, correction of arrays, momentum look-ahead."""
    step_s = [1.0, 1.7, 3.1]
    tree = experiment(step_s, rounds=5).model_dump(mode="json", exclude_unset=True)
    tree = {key: value for key, value in tree.items() if key not in ("synchronization", "outer")}
    [point] = load(tree | {"method": {"kind": "heloco", "learning_rate": 0.4, "momentum": 0.8}})
    made = Followed(point.experiment)
    rule = heloco(0.4, 0.8)
    params, state = tree_of(START), rule.init(tree_of(START))
    begun = dict.fromkeys(range(3), START)
    done = dict.fromkeys(range(3), 0)
    for update in made.updates():
        worker = update.arrivals[0].round.worker
        offer = begun[worker] - trained(worker, done[worker], H, begun[worker])
        done[worker] += H
        updates, state = rule.update(tree_of(offer), state, params)
        params = optax.apply_updates(params, updates)
        begun[worker] = flat(params) - 0.4 * 0.8 * flat(state.momentum)
    np.testing.assert_allclose(made.params, flat(params), rtol=1e-4, atol=1e-5)


def test_a_method_fills_slots_and_what_is_given_beside_it_replaces_them():
    file = "experiments/quickstart.yaml"
    [point] = load(file, "method=eager_updates", variant="sync DiLoCo")
    made = point.experiment
    assert made.method == {"kind": "eager_updates", "learning_rate": 0.4, "momentum": 0.9}
    assert (made.schedule.overlap, made.merge.kind, made.merge.share) == (50, "eager", 0.25)  # H, 1/workers
    [point] = load(file, "method.kind=diloco", "schedule={overlap: 5}", "outer.momentum=0.5", variant="sync DiLoCo")
    made = point.experiment
    assert (made.outer.optimizer, made.outer.momentum, made.schedule.overlap) == ("nesterov", 0.5, 5)
    [point] = load(file, "method={kind: halos, regions: 2, buffer: workers}", variant="sync DiLoCo")
    assert point.experiment.outer.buffer == 4
    [point] = load(file, "method={kind: decoupled_diloco, share: 0.3}", variant="sync DiLoCo")
    synchronization = point.experiment.synchronization
    assert (synchronization.window, synchronization.adaptive.share, synchronization.adaptive.weight) == (1.0, 0.3, 0.5)
    [point] = load(file, "method={kind: asynchronous, grace: 2s}", variant="sync DiLoCo")
    assert point.experiment.synchronization.grace == 2.0


def test_a_variant_with_a_method_takes_its_slots_and_not_the_files():
    tree = experiment([1.0, 2.0]).model_dump(mode="json", exclude_unset=True)
    tree |= {"outer": {"optimizer": "adam", "learning_rate": 0.1, "b1": 0.5}, "variants": {}}
    tree["variants"] = {"own": {}, "DiLoCo": {"method": "diloco"}}
    own, of_method = load(tree)
    assert own.experiment.outer.optimizer == "adam"
    assert of_method.experiment.outer.optimizer == "nesterov"


def test_what_a_method_leaves_open_stays_as_the_file_has_it():
    tree = experiment([1.0, 2.0]).model_dump(mode="json", exclude_unset=True)
    tree["outer"] = {"optimizer": "nesterov", "learning_rate": 0.1, "non_finite": "fatal"}
    tree["synchronization"] = {"kind": "barrier", "timeout": "90s"}
    [point] = load(tree | {"variants": {"DiLoCo": {"method": "diloco"}}})
    assert (point.experiment.outer.learning_rate, point.experiment.outer.non_finite) == (0.7, "fatal")
    assert point.experiment.synchronization.timeout == 90.0


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("dilocoo", "method.kind = 'dilocoo': no such method; did you mean 'diloco'?"),
        ("{kind: halos, regionz: 2}", "method.regionz = 2: halos has no such setting; did you mean 'regions'?"),
        ("{kind: streaming_diloco, mix: 2}", "method.mix = 2: Input should be less than or equal to 1"),
        ("{kind: asynchronous, grace: fast}", "method.grace = 'fast': "),
        ("3", "method = 3: expected a name, or a mapping of keys to values"),
    ],
)
def test_a_mistake_in_a_method_is_told_with_its_key(method: str, message: str):
    with pytest.raises(ExperimentError) as found:
        load("experiments/quickstart.yaml", f"method={method}", variant="sync DiLoCo")
    assert message in str(found.value)


def test_a_method_of_ones_own_is_a_function(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(methods, "_REGISTERED", {})

    @functools.partial(register_method, "late")
    def late(local_steps: int, share: float = 0.5) -> dict[str, Any]:
        return {"synchronization": {"kind": "barrier"}, "schedule": {"overlap": int(share * local_steps)}}

    [point] = load("experiments/quickstart.yaml", "method={kind: late, share: 0.2}", variant="sync DiLoCo")
    assert point.experiment.schedule.overlap == 10
    with pytest.raises(ValueError, match="exists already"):
        register_method("diloco", late)
    with pytest.raises(TypeError, match="must be a function"):
        register_method("other", 3)  # type: ignore[arg-type]
    register_method("wrong", lambda: {"outr": {}})
    with pytest.raises(ExperimentError, match="fills 'outr', which is no slot; did you mean 'outer'"):
        load("experiments/quickstart.yaml", "method=wrong", variant="sync DiLoCo")


PLUGIN = """
from simulator import register_method

register_method("from a plugin", lambda overlap=3: {"schedule": {"overlap": overlap}})
"""


def test_a_topology_of_ones_own_says_who_meets(monkeypatch: pytest.MonkeyPatch):
    """Pairs of a hypercube: worker and worker ^ 2^d for dimension d, in turn; after two meetings all agree."""
    with registry.emptied():

        @functools.partial(registry.register, "topology", "hypercube")
        def hypercube(workers: int, dimensions: int = 2) -> Any:
            return lambda worker, meeting: (worker, worker ^ 2 ** (meeting % dimensions))

        method = {"topology": {"kind": "hypercube"}, "offer": {"weights": True}}
        average = {"optimizer": "noloco", "learning_rate": 1.0, "momentum": 0.0}
        made = Followed(experiment([1.0, 2.0, 1.0, 3.0], method, {"outer": average}, rounds=4))
        met = {(update.node, *[each.round.worker for each in update.arrivals]) for update in made.updates(3)}
        assert {tuple(sorted(each[1:])) for each in met} == {(2, 3), (1, 3)}

        registry.register("topology", "crooked", lambda workers: lambda worker, meeting: (worker, 0))
        with pytest.raises(SimulationError, match="worker 1 meets 0 at meeting 0, and 0 does not meet 1: each"):
            Followed(experiment([1.0, 2.0], {"topology": {"kind": "crooked"}}))
        registry.register("topology", "absent", lambda workers: lambda worker, meeting: (9,))
        with pytest.raises(SimulationError, match=r"worker 0 meets \(9,\) at meeting 0: return numbers from 0 to 1"):
            Followed(experiment([1.0, 2.0], {"topology": {"kind": "absent"}}))


def test_a_file_says_which_plugins_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(methods, "_REGISTERED", {})
    (tmp_path / "mine.py").write_text(PLUGIN)
    text = Path("experiments/quickstart.yaml").read_text().replace("name: quickstart", "name: own\nplugins: [mine.py]")
    (tmp_path / "own.yaml").write_text(text)
    [point] = load(tmp_path / "own.yaml", "method=from a plugin", variant="sync DiLoCo")
    assert point.experiment.schedule.overlap == 3
    (tmp_path / "own.yaml").write_text(text.replace("mine.py", "other.py"))
    with pytest.raises(ExperimentError, match=r"own.yaml:3: plugins.0 = 'other.py': no such file"):
        load(tmp_path / "own.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": {"fragments": 9}}, "schedule.fragments = 9: is more than inner.local_steps, which is 6"),
        ({"schedule": {"overlap": 7}}, "schedule.overlap = 7: is more than inner.local_steps"),
        ({"schedule": {"fragments": 2, "offsets": [0, 1, 2]}}, "has 3 values for 2 fragments"),
        ({"schedule": {"fragments": 2, "offsets": [1, 2]}}, "must grow from 0"),
        ({"schedule": {"overlap": 2}, "local_steps": {"kind": "dynamic"}}, "local_steps.kind = 'dynamic'"),
        ({"outer": {"optimizer": "dude", "learning_rate": 1.0, "workers": 2}}, "needs each worker's offer by itself"),
        ({"outer": SGD | {"restart_every": 3}}, "outer.restart_every"),
        (
            {"outer": {"optimizer": "heloco", "learning_rate": 1.0, "worst": 0.3}},
            "outer.worst = 0.3: must stay below aligned, which is 0.2",
        ),
        (
            {
                "inner": {"learning_rate": 0.1, "batch_size": 1, "pull": {}},
                "schedule": {"overlap": 2},
            },
            "beside inner.pull is not built",
        ),
        ({"merge": {"kind": "outer"}, "synchronization": {"kind": "barrier", "timeout": "9s"}}, "would drift apart"),
        ({"merge": {"kind": "outer"}, "synchronization": {"kind": "asynchronous"}}, "would drift apart"),
        ({"outer": NOLOCO}, "offer.weights: must be true where outer is noloco"),
        ({"offer": {"weights": True}}, "offer.weights = True: has no effect on sgd"),
        ({"topology": {"kind": "groups"}, **cluster(server_update_time="1s")}, "there is none (groups): leave it out"),
        ({"topology": {"kind": "groups"}, **cluster(server_price_per_hour=1.0)}, "there is none (groups)"),
        (
            {"topology": {"kind": "nobody"}, **cluster(network={"server_link": {"bandwidth": "1kB/s"}})},
            "cluster.network.server_link: is of a server, and there is none (nobody)",
        ),
        ({"topology": REGIONS | {"outer": SGD | {"delay_compensation": 1.0}}}, "topology.outer.delay_compensation"),
        ({"topology": REGIONS | {"outer": SGD | {"non_finite": "fatal"}}}, "topology.outer.non_finite"),
        (
            {"topology": REGIONS, "synchronization": {"kind": "quorum", "offers": 2}},
            "is more than the workers of the smallest region, 1",
        ),
        ({"merge": {"kind": "eager", "share": 0.5}}, "schedule.overlap: must be inner.local_steps, 6"),
        ({"topology": {"kind": "groups"}, "schedule": {"overlap": 2}}, "is not built"),
        ({"topology": {"kind": "groups"}, "synchronization": {"kind": "asynchronous"}}, "must be a barrier"),
        ({"topology": {"kind": "graph", "edges": [[0, 5]]}}, "joins no two of the workers 0 to 1"),
        ({"topology": {"kind": "regions", "regions": 3, "outer": SGD}}, "is more than there are workers, 2"),
        ({"topology": {"kind": "regions", "regions": [[0]], "outer": SGD}}, "must name each worker from 0 to 1 once"),
        ({"synchronization": {"kind": "quorum", "offers": 3}}, "is more than there are workers, 2"),
        (sample(3), "synchronization.sample = 3: is more than there are workers, 2: choose fewer"),
        (sample(2) | {"topology": REGIONS}, "is more than there are workers of the smallest region, 1"),
        (sample(1) | {"topology": {"kind": "groups"}}, "is drawn by a server, and there is none (groups): leave it"),
        (sample(1) | {"schedule": {"overlap": 2}}, "draws workers that wait for their next round, and with schedule"),
        (sample(1) | {"merge": {"kind": "outer"}}, "leaves workers without answers: they drift apart for good"),
        (
            adaptive("9s"),
            "synchronization.adaptive: is a share of the time that schedule.overlap leaves, which is none",
        ),
        (adaptive("0s") | {"schedule": {"overlap": 2}}, "window = '0s': is the longest of the adaptive ones, and none"),
        (sample(1, quorum=2, timeout="9s"), "quorum = 2: is more than synchronization.sample, which is 1"),
        ({"synchronization": {"kind": "asynchronous"}, "aggregation": {"kind": "fold"}}, "has no effect"),
        ({"aggregation": {"kind": "fold"}, "merge": {"kind": "outer"}}, "takes an outer step for each offer"),
        ({"view": {"kind": "look_ahead"}, "merge": {"kind": "outer"}}, "of a server with parameters"),
    ],
)
def test_slots_that_make_no_sense_together_are_refused_with_the_reason(changes: dict[str, Any], message: str):
    tree = experiment([1.0, 2.0]).model_dump(mode="json", exclude_unset=True) | changes
    with pytest.raises(ExperimentError) as found:
        load(tree)
    assert message in str(found.value)


def test_a_method_that_is_refused_hides_no_other_mistake():
    tree = experiment([1.0, 2.0]).model_dump(mode="json", exclude_unset=True)
    tree = {key: value for key, value in tree.items() if key not in ("synchronization", "outer")}
    with pytest.raises(ExperimentError) as found:
        load(tree | {"method": "diloko", "local_steps": None})
    refused, other = str(found.value).splitlines()
    assert refused.startswith("method.kind = 'diloko': no such method; did you mean 'diloco'?")
    assert other == "local_steps: expected a mapping of keys to values"
