"""Schedules and offers of one's own: against direct loops, verified, resumed, and refused where they make no sense."""

import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simulator import Cache, ExperimentError, Setup, load, register, simulate
from simulator.experiment import SimulationError, registry
from simulator.experiment.file import merge
from simulator.record import RunRecord
from simulator.simulation.checks import check
from simulator.timeline import Accepted, Dispatched
from simulator.verify import unchecked, verify
from tests.experiments import TINY, tiny
from tests.killed_runs import CLASSIFIER, FAULTS
from tests.simulation.quadratic_cluster import (
    NESTEROV,
    PARTS,
    SGD,
    START,
    Followed,
    H,
    Outer,
    diloco,
    experiment,
    nesterov,
    sgd,
    trained,
)
from tests.simulation.test_resume import assert_same, stopped_again_and_again

CACHE = Cache()
SLOW, EQUAL = [1.0, 1.7, 3.1], [1.0, 1.0, 1.0]
GROWING = {"schedule": {"kind": "growing"}}
NORMALIZED = {"offer": {"kind": "normalized"}}
BARRIER = {"synchronization": {"kind": "barrier"}, "outer": NESTEROV}
PEERS = BARRIER | {"topology": {"kind": "groups"}}
REGIONS = {"topology": {"kind": "regions", "regions": 2, "outer": {"optimizer": "sgd", "learning_rate": 1.0}}}
OF_PEERS = {"cluster": {"faults": {key: value for key, value in FAULTS.items() if key != "message_loss"}}}


def growing(first: int = 1) -> Callable[[int, int], int]:
    """Rounds of first, 2 * first, 4 * first ... local steps, up to H."""
    return lambda offer, local_steps: min(first * 2**offer, local_steps)


def post_local(rounds: int) -> Callable[[int, int], int]:
    """Rounds of one local step at first, and of H after so many (post-local SGD)."""
    return lambda offer, local_steps: 1 if offer < rounds else local_steps


def normalized(norm: float = 1.0) -> Callable[[Any, Any], Any]:
    """The direction of the progress of each array."""

    def of_array(start: jax.Array, end: jax.Array) -> jax.Array:
        return norm * (start - end) / jnp.linalg.norm((start - end).ravel())

    return lambda start, end: jax.tree.map(of_array, start, end)


@pytest.fixture(autouse=True)
def own_names() -> Iterator[None]:
    with registry.emptied():
        register("schedule", "growing", growing)
        register("schedule", "post-local", post_local)
        register("offer", "normalized", normalized)
        yield


def close(one: np.ndarray, other: np.ndarray) -> None:
    np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5)


def differ(one: np.ndarray, other: np.ndarray) -> None:
    assert np.abs(one - other).max() > 1e-3


def directions(progress: np.ndarray) -> np.ndarray:
    return np.concatenate([part / np.linalg.norm(part) for part in np.split(progress, PARTS)])


def synchronous(workers: int, lengths: list[int], outer: Outer, content: Any = lambda progress: progress) -> np.ndarray:
    """Synchronous rounds of these lengths, by a direct loop."""
    x, state, first = START.astype(float), None, 0
    for steps in lengths:
        offers = [content(x - trained(worker, first, steps, x)) for worker in range(workers)]
        x, state = outer(state, np.mean(offers, axis=0), x)
        first += steps
    return x


# Schedules.


@pytest.mark.parametrize(
    ("schedule", "lengths"),
    [
        ({"kind": "growing"}, [1, 2, 4, H, H]),
        ({"kind": "growing", "arguments": {"first": 3}}, [3, H, H]),
        ({"kind": "post-local", "arguments": {"rounds": 2}}, [1, 1, H]),
    ],
)
def test_rounds_of_lengths_of_ones_own_are_their_loop(schedule: Any, lengths: list[int]):
    budget = {"budget": {"local_steps": 3 * sum(lengths)}}
    made = Followed(experiment(SLOW, {"schedule": schedule, "outer": NESTEROV}, budget))
    assert [event.round.steps for event in made.events if isinstance(event, Dispatched)] == [
        steps for steps in lengths for _ in range(3)
    ]
    close(made.params, synchronous(3, lengths, nesterov(0.4, 0.9)))
    differ(made.params, diloco(3, len(lengths), nesterov(0.4, 0.9)))


def test_rounds_of_other_lengths_are_compiled_no_further():
    setup = Followed(experiment(SLOW, GROWING)).setup
    compiled = setup.quadratic[0].compilations
    for first in (2, 3, 5):
        Followed(experiment(SLOW, {"schedule": {"kind": "growing", "arguments": {"first": first}}}))
    assert setup.quadratic[0].compilations == compiled <= 4  # as many as there are numbers of lanes


def test_a_schedule_of_whole_rounds_is_the_built_in_one():
    register("schedule", "whole", lambda: lambda offer, local_steps: local_steps)
    of_ones_own, built_in = (recorded(BARRIER, schedule={"kind": kind}) for kind in ("whole", "periodic"))
    assert of_ones_own.summary["causal_hash"] == built_in.summary["causal_hash"]
    assert of_ones_own.summary["causal_hash"] != recorded(BARRIER, GROWING).summary["causal_hash"]


def test_dynamic_local_steps_are_the_h_of_each_worker():
    made = recorded(GROWING, local_steps={"kind": "dynamic"})  # floor(5 * 0.58 / step_s): 5, 3, 1, 1
    steps = made.rounds.sort_values("round").groupby("worker")["local_steps"].apply(list)
    assert [own[:4] for own in steps] == [[1, 2, 4, 5], [1, 2, 3, 3], [1, 1, 1, 1], [1, 1, 1, 1]]
    assert verify(made) == []
    assert unchecked(made) == ["schedule 'growing' is not built in: how many local steps a round has is not checked"]


def recorded(*changes: dict[str, Any], trainer: str = "null", **sections: Any) -> RunRecord:
    tree = functools.reduce(merge, [CLASSIFIER, *changes, sections])
    return simulate(tiny(**tree), trainer=trainer, cache=CACHE)  # type: ignore[arg-type]


WORLDS: dict[str, list[dict[str, Any]]] = {
    "asynchronous": [],
    "barrier": [BARRIER],
    "quorum": [BARRIER, {"synchronization": {"kind": "quorum", "offers": 2}}],
    "regions": [REGIONS],
    "peers": [PEERS],
    "asynchronous, faults": [{"cluster": {"faults": FAULTS}}],
    "barrier, faults": [BARRIER, {"synchronization": {"timeout": "20s"}, "cluster": {"faults": FAULTS}}],
    "regions, faults": [REGIONS, {"cluster": {"faults": FAULTS}}],
    "peers, faults": [PEERS, OF_PEERS],
}


@pytest.mark.parametrize("world", WORLDS)
def test_every_rule_holds_of_rounds_that_grow_and_another_length_is_found(world: str):
    record = recorded(*WORLDS[world], GROWING)
    assert verify(record) == []
    assert unchecked(record) == []
    assert set(record.rounds["local_steps"]) >= {1, 2, 4, 5}
    with registry.emptied():
        assert verify(record) == []
        [message] = unchecked(record)
        assert message.startswith("schedule 'growing' is not built in: ")
        register("schedule", "growing", lambda first: growing(2 * first))  # another one
        assert ("steps", "rounds") in {(each.rule, each.table) for each in verify(record)}


def test_what_was_trained_on_growing_rounds_is_verified():
    outer = {"optimizer": "sgd", "learning_rate": 0.1, "weight": 1.0}
    record = recorded(BARRIER, GROWING, NORMALIZED, trainer="batched", outer=outer)
    assert verify(record) == []
    assert record.summary["final_loss"] < record.evaluations["loss"].iloc[0]


@pytest.mark.usefixtures("mixed_dtypes")
def test_a_run_with_faults_that_is_stopped_and_goes_on_is_the_same(tmp_path: Path):
    often = {"checkpoint": {"every_updates": 8, "every_host_minutes": None}, "cluster": {"faults": FAULTS}}
    own = tiny(**functools.reduce(merge, [CLASSIFIER, often, GROWING, NORMALIZED]))
    assert_same(stopped_again_and_again(own, tmp_path, 53), simulate(own, cache=CACHE))


# Offers.


def test_normalized_offers_are_their_loop():
    made = Followed(experiment(SLOW, NORMALIZED, rounds=5))
    close(made.params, synchronous(3, [H] * 5, sgd(1.0), directions))
    differ(made.params, synchronous(3, [H] * 5, sgd(1.0)))


def test_an_offer_of_a_fragment_is_of_the_fragment_alone():
    register("offer", "whole norm", lambda: lambda start, end: whole_norm(start, end))
    whole = {"offer": {"kind": "whole norm"}}
    fragments = {"schedule": {"fragments": PARTS, "composition": "by_size", "offsets": [0, 1, 2]}}
    in_parts, of_arrays = (Followed(experiment(EQUAL, fragments, own)).params for own in (whole, NORMALIZED))
    close(in_parts, of_arrays)  # each fragment is an array
    differ(*(Followed(experiment(EQUAL, own)).params for own in (whole, NORMALIZED)))


def whole_norm(start: Any, end: Any) -> Any:
    progress = jax.tree.map(jnp.subtract, start, end)
    norm = jnp.sqrt(sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(progress)))
    return jax.tree.map(lambda leaf: leaf / norm, progress)


def test_an_eager_worker_renews_its_share_by_the_same_function():
    method = {"schedule": {"overlap": H}, "merge": {"kind": "eager", "share": 1 / 3}, "outer": SGD}
    made = Followed(experiment(EQUAL, method, NORMALIZED, rounds=5))
    x, before = [START.astype(float)] * 3, [np.zeros_like(START, float)] * 3
    accepted = sum(isinstance(event, Accepted) and event.node == 0 for event in made.events)
    assert accepted >= 3
    for each in range(accepted):
        offers = [directions(x[worker] - trained(worker, each * H, H, x[worker])) for worker in range(3)]
        mean = sum(before) / 3
        x = [x[worker] - mean - (offers[worker] - before[worker]) / 3 for worker in range(3)]
        before = offers
    for worker in range(3):
        close(made.agreed(worker), x[worker])


def test_weights_stand_beside_an_offer_of_ones_own():
    noloco = {"topology": {"kind": "groups"}, "outer": {"optimizer": "noloco", "learning_rate": 0.5}}
    own = experiment(EQUAL, noloco, {"offer": {"weights": True}}, NORMALIZED)
    assert (own.offer.kind, own.offer.weights) == ("normalized", True)
    assert np.isfinite(Followed(own).params).all()
    with pytest.raises(ValueError, match=r"offer.weights: must be true where outer is noloco"):
        experiment(EQUAL, noloco, NORMALIZED)


# Files.


def test_files_without_a_kind_mean_the_built_in_ones():
    plain = tiny(schedule={"overlap": 1}, offer={})
    assert (plain.schedule.kind, plain.offer.kind) == ("periodic", "pseudo_gradient")
    assert "periodic" not in plain.to_yaml()
    back = merge(GROWING, {"schedule": {"kind": "periodic", "overlap": 1}})
    assert tiny(**back).schedule == plain.schedule


def test_arguments_have_words_for_the_number_of_workers():
    own = tiny(schedule={"kind": "growing", "arguments": {"first": "workers"}}).schedule
    assert own.kind == "growing"
    assert own.arguments == {"first": 4}  # type: ignore[union-attr]


def refusal(*changes: dict[str, Any]) -> list[str]:
    """What is said of a file with these changes."""
    with pytest.raises(ExperimentError) as raised:
        load(functools.reduce(merge, changes, TINY))
    return [str(problem) for problem in raised.value.problems]


@pytest.mark.parametrize(("key", "value"), [("overlap", 2), ("fragments", 2), ("seconds", "3s")])
def test_what_counts_from_offers_a_period_apart_is_refused(key: str, value: Any):
    [message] = refusal(GROWING, {"schedule": {key: value}})
    reason = "counts from offers that are H steps apart, and those of schedule.kind are not: leave out one of them"
    assert message == f"schedule.{key} = {value!r}: {reason}"


def test_a_method_whose_sends_overlap_is_refused():
    [message] = refusal({"method": "eager_updates"}, GROWING)
    assert message.startswith("schedule.overlap = 5: counts from offers that are H steps apart, ")


@pytest.mark.parametrize("number", [0, -1, 6, 2.5, None])
def test_a_number_of_steps_that_cannot_be_is_refused_before_the_run(number: Any):
    register("schedule", "wrong", lambda: lambda offer, local_steps: number if offer == 7 else 1)
    assert refusal({"schedule": {"kind": "wrong"}}) == [
        f"schedule.kind = 'wrong': schedule 'wrong' chose {number!r} for offer 7: "
        "it has to choose a whole number from 1 to 5"
    ]


def test_a_number_of_steps_that_cannot_be_ends_the_run():
    register("schedule", "late", lambda: lambda offer, local_steps: 0 if offer == 100 else 1)
    with pytest.raises(SimulationError, match=r"^schedule 'late' chose 0 for offer 100: it has to choose .* 1 to 5$"):
        recorded(schedule={"kind": "late"}, budget={"local_steps": 1000})


def test_an_error_of_a_schedule_is_said_with_its_line():
    register("schedule", "broken", lambda lengths: lambda offer, local_steps: lengths[offer])
    [message] = refusal({"schedule": {"kind": "broken", "arguments": {"lengths": [1, 2]}}})
    what = r"schedule.kind = 'broken': cannot be asked for offer 2 and 5 local steps: IndexError at line \d+ of "
    assert re.match(what, message)


@pytest.mark.parametrize(
    ("section", "made", "message"),
    [
        ("schedule", 3, "3, which has no __call__: return a function"),
        ("schedule", lambda offer: 1, r"a function that cannot be called with \(offer, local_steps\): too many"),
        ("offer", None, "None, which has no __call__: return a function"),
        ("offer", lambda start: start, r"a function that cannot be called with \(start, end\): too many"),
    ],
)
def test_a_factory_that_makes_no_fitting_function_is_refused(section: Any, made: Any, message: str):
    register(section, "wrong", lambda: made)
    [found] = refusal({section: {"kind": "wrong"}})
    assert re.match(rf"{section}.kind = 'wrong': its factory returned {message}", found)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda start, end: jax.tree.leaves(start)[0], "returns what is not like the parameters: return a tree"),
        (
            lambda start, end: jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), end),
            "returns what is not like the parameters: return a tree of the same shapes and dtypes",
        ),
        (lambda start, end: start["nothing"], "cannot be computed of parameters of this model: "),
    ],
)
def test_an_offer_that_is_not_like_the_parameters_is_refused_before_the_run(function: Any, message: str):
    register("offer", "wrong", lambda: function)
    for compression in ("none", "top_k"):
        [problem] = check(tiny(offer={"kind": "wrong"}, compression={"kind": compression}), Cache())
        assert (problem.key, problem.value) == ("offer.kind", "wrong")
        assert problem.message.startswith(message)


@pytest.mark.parametrize("section", ["schedule", "offer"])
def test_the_names_of_the_built_in_ones_are_taken(section: Any):
    [name] = registry.SLOTS[section].built_in
    with pytest.raises(ValueError, match=f"^{section}.kind '{name}' exists already: give another name$"):
        register(section, name, growing)
    [message] = refusal({section: {"kind": "grwing"}})
    assert message.startswith(f"{section}.kind = 'grwing': unknown kind; ")


def test_a_record_has_the_arguments_that_were_left_to_defaults():
    record = recorded(BARRIER, GROWING, NORMALIZED)
    assert record.experiment["schedule"] == {"kind": "growing", "arguments": {"first": 1}}
    assert record.experiment["offer"] == {"kind": "normalized", "arguments": {"norm": 1.0}, "weights": False}


def test_both_decide_what_is_learned():
    settings = [Setup(tiny(**changes), CACHE).learning_settings for changes in ({}, GROWING, NORMALIZED)]
    assert len(set(settings)) == 3
