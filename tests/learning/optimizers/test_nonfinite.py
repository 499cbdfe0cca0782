"""Pseudo-gradients that are not finite stay out of the server's state, and it is said which they were."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simulator import Cache, simulate
from simulator.experiment import Experiment
from simulator.experiment.schema.outer import DelayedNesterovOuter, NesterovOuter, SGDOuter
from simulator.learning import OfferInfo, OuterPrograms, Server, build_outer
from simulator.simulation.trained import NonFiniteError
from simulator.verify import verify
from tests.experiments import tiny
from tests.killed_runs import CLASSIFIER
from tests.learning.quadratic import offers

START = {"x": jnp.array([1.0, -2.0], jnp.float32)}
NESTEROV = {"optimizer": "nesterov", "learning_rate": 0.5, "momentum": 0.5}
BAD = [np.nan, 1.0]
WORSE = [np.inf, 0.0]


def server(outer: Any) -> Server:
    return Server(START, OuterPrograms(build_outer(outer)), reject=outer.non_finite == "reject")


def gradient(values: list[float]) -> Any:
    return {"x": jnp.array(values, jnp.float32)}


def apply(to: Server, values: list[float], pulled: Any = START) -> bool:
    return bool(to.apply(gradient(values), OfferInfo(0, 0), pulled))


def meet(at: Server, *gradients: list[float]) -> bool:
    infos = [OfferInfo(worker, 0, 5) for worker in range(len(gradients))]
    stepped, _ = at.meet(offers(*map(gradient, gradients)), infos, None)
    return bool(stepped)


def leaves(of: Server) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves((of.params, of.state.inner))]


@pytest.mark.parametrize("mode", ["reject", "skip", "fatal"])
@pytest.mark.parametrize(
    "outer",
    [
        NesterovOuter(**NESTEROV),
        DelayedNesterovOuter(optimizer="delayed_nesterov", learning_rate=0.5, momentum=0.5, buffer=2),
    ],
)
@pytest.mark.parametrize("bad", [BAD, WORSE])
def test_an_arrival_that_is_not_finite_changes_nothing(mode: str, outer: Any, bad: list[float]):
    one = server(outer.model_copy(update={"non_finite": mode}))
    assert apply(one, [4.0, 0.0])
    before = leaves(one)
    assert not apply(one, bad)
    for leaf, was in zip(leaves(one), before, strict=True):
        np.testing.assert_array_equal(leaf, was)
    assert apply(one, [4.0, 0.0])


def test_a_correction_that_overflows_is_noticed():
    outer = SGDOuter(optimizer="sgd", learning_rate=1.0, delay_compensation=0.5)
    one = server(outer)
    assert apply(one, [4.0, 0.0])
    assert not apply(one, [1e30, 0.0], pulled={"x": START["x"] + 5})
    assert np.isfinite(one.params["x"]).all()


def test_behind_a_barrier_the_others_are_averaged_or_the_step_is_left_out():
    rejecting, skipping, without = (server(NesterovOuter(**NESTEROV, non_finite=m)) for m in ("reject", "skip", "skip"))
    assert meet(rejecting, [4.0, 0.0], BAD, [0.0, 4.0])
    assert meet(without, [4.0, 0.0], [0.0, 4.0])
    np.testing.assert_array_equal(rejecting.params["x"], without.params["x"])
    assert not meet(skipping, [4.0, 0.0], BAD, [0.0, 4.0])
    np.testing.assert_array_equal(skipping.params["x"], START["x"])
    assert not meet(rejecting, BAD, WORSE)
    np.testing.assert_array_equal(rejecting.params["x"], without.params["x"])


def test_in_a_buffer_it_is_left_out_or_spoils_the_step():
    rejecting, skipping = (
        server(SGDOuter(optimizer="sgd", learning_rate=1.0, arrivals_per_update=3, non_finite=mode))
        for mode in ("reject", "skip")
    )
    for one in (rejecting, skipping):
        assert [apply(one, each) for each in (BAD, [4.0, 2.0], [0.0, 6.0])] == [False, True, True]
    np.testing.assert_array_equal(rejecting.params["x"], START["x"] - jnp.array([2.0, 4.0]))
    np.testing.assert_array_equal(skipping.params["x"], START["x"])
    for each in ([4.0, 2.0], [4.0, 2.0], [1.0, 5.0]):  # the next buffer is a clean one
        apply(skipping, each)
    np.testing.assert_array_equal(skipping.params["x"], START["x"] - jnp.array([3.0, 3.0]))


@pytest.mark.parametrize("mode", ["reject", "skip"])
@pytest.mark.parametrize("bad", [[], [0], [1, 3], [0, 1, 2, 3]])
def test_a_buffer_of_all_arrivals_is_a_barrier_whatever_is_not_finite(mode: str, bad: list[int]):
    gradients = [[4.0, 0.0], [0.0, 4.0], [-2.0, 1.0], [3.0, 3.0]]
    for place in bad:
        gradients[place] = BAD
    together, buffering = (server(NesterovOuter(**NESTEROV, non_finite=mode, arrivals_per_update=n)) for n in (1, 4))
    for _ in range(2):  # the second with momentum
        assert meet(together, *gradients) == (not bad or (mode == "reject" and len(bad) < 4))
        assert [apply(buffering, each) for each in gradients] == [place not in bad for place in range(4)]
        np.testing.assert_allclose(buffering.params["x"], together.params["x"], rtol=1e-6)
    assert np.array_equal(together.params["x"], START["x"]) == (len(bad) == 4 or (mode == "skip" and bad != []))


def diverging(**changes: Any) -> Experiment:
    """Its learning rate rises without end."""
    peak = {"schedule": {"kind": "cosine", "warmup_steps": 60, "total_steps": 61}, "learning_rate": 1e30}
    return tiny(**(CLASSIFIER | {"inner": {"optimizer": "sgd"} | peak} | changes))


BARRIER = {"synchronization": {"kind": "barrier"}, "outer": {"optimizer": "sgd", "learning_rate": 1.0, "weight": 1.0}}


@pytest.mark.parametrize("changes", [{}, BARRIER])
def test_what_is_not_finite_is_counted_and_recorded_and_parameters_stay_finite(
    mixed_dtypes: None, changes: dict[str, Any]
):
    record = simulate(diverging(**changes), cache=Cache())
    flagged = record.rounds["non_finite"] == 1
    assert 0 < record.summary["non_finite"] == flagged.sum()
    assert np.isfinite(record.evaluations["loss"]).all()
    good = record.rounds.loc[~flagged, "local_steps"].sum() / record.summary["simulated_seconds"]
    assert record.summary["goodput"] == pytest.approx(good)
    assert verify(record) == []


def test_it_is_fatal_if_the_experiment_says_so(mixed_dtypes: None):
    message = (
        r"round \d+ of worker \d \(shard \d, 5 local steps from version \d+\) brought a pseudo-gradient that is not"
    )
    with pytest.raises(NonFiniteError, match=message):
        simulate(diverging(outer={"non_finite": "fatal"}), cache=Cache())
