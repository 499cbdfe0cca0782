"""Diagnostics of offers: numbers worked by hand, and of optimizers whose momentum has to be found."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from simulator.experiment.registry import emptied, register
from simulator.experiment.schema.outer import NesterovOuter
from simulator.learning import OfferDiagnostics, build_outer, delayed_nesterov, diagnose
from simulator.learning.optimizers.momentum import momentum_of
from simulator.learning.optimizers.noloco import noloco
from simulator.record import DIAGNOSTICS
from tests.simulation.quadratic_cluster import NESTEROV, START, Followed, H, experiment, trained


def of(a: float, b: float, c: float) -> dict[str, Any]:
    return {"x": jnp.array([a, b], jnp.float32), "y": jnp.float32(c)}


def diagnosed(*arguments: Any) -> OfferDiagnostics:
    return OfferDiagnostics(*np.asarray(diagnose(*arguments)).tolist())


def test_the_record_has_a_column_for_each():
    assert OfferDiagnostics._fields == DIAGNOSTICS


def test_numbers_worked_by_hand():
    momentum = optax.TraceState(trace=of(4, 0, 3))
    found = diagnosed(of(3, 0, -4), of(1, 1, 1), of(0, 0, 0), momentum, of(0, 0, -2))
    # The worker ended at start - offer, (-2, 1, 5); the place is at zero.
    assert found == pytest.approx((5, 0, 0.8, math.sqrt(4 + 1 + 25)))


def test_what_there_is_nothing_to_compare_with_is_not_known():
    found = diagnosed(of(3, 0, -4), of(1, 1, 1), None, (), None)
    assert found.norm == 5
    assert all(math.isnan(each) for each in found[1:])
    found = diagnosed(of(0, 0, 0), of(1, 0, 0), of(1, 0, 0), (), of(1, 0, 0))
    assert (found.norm, found.drift) == (0, 0)
    assert math.isnan(found.mean_cosine)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (optax.sgd(0.1), None),
        (optax.sgd(0.1, momentum=0.9), of(1, 2, 3)),
        (optax.chain(optax.clip_by_global_norm(1e3), optax.lion(0.1, b2=0.0)), of(1, 2, 3)),
        (delayed_nesterov(0.1, momentum=0.9, buffer=1), of(1, 2, 3)),
        (noloco(1.0, momentum=0.9), of(1, 2, 3)),
        (build_outer(NesterovOuter(**NESTEROV, arrivals_per_update=1)), of(1, 2, 3)),
    ],
)
def test_the_momentum_of_optimizers_is_found(optimizer: Any, expected: Any):
    params = of(0, 0, 0)
    told = {"staleness": 0, "worker": 0, "steps": 0, "tokens": 0.0, "pulled_params": params}
    state = optax.with_extra_args_support(optimizer).init(params)
    _, state = optax.with_extra_args_support(optimizer).update(of(1, 2, 3), state, params, **told)
    found = momentum_of(state, params)
    if expected is None:
        assert found is None
        return
    assert found is not None
    np.testing.assert_allclose(found["x"], expected["x"])
    np.testing.assert_allclose(found["y"], expected["y"])


def test_a_momentum_of_another_form_is_none():
    assert momentum_of({"momentum": jnp.float32(0.9)}, of(0, 0, 0)) is None


@pytest.mark.parametrize("kind", ["barrier", "asynchronous"])
def test_a_run_reports_what_a_direct_loop_finds(kind: str):
    made = Followed(experiment([1.0, 1.7], {"outer": NESTEROV, "synchronization": {"kind": kind}}, rounds=2))
    reports = made.reports
    first = made.updates()[0]
    worker = first.arrivals[0].round.worker
    ends = {number: trained(number, 0, H, START) for number in (0, 1)}
    offers = {number: START - end for number, end in ends.items()}
    norm = float(np.linalg.norm(offers[worker]))
    known = OfferDiagnostics(*reports[0][0])
    assert known.norm == pytest.approx(norm, rel=1e-5)
    assert known.drift == pytest.approx(norm, rel=1e-5)  # nobody has moved the server yet
    assert math.isnan(known.momentum_cosine)  # which is zero before the first step
    if kind == "asynchronous":
        assert math.isnan(known.mean_cosine)
        after = START - 0.4 * 1.9 * offers[0]
        second = OfferDiagnostics(*reports[1][0])
        assert made.updates()[1].arrivals[0].round.worker == 1
        assert second.drift == pytest.approx(float(np.linalg.norm(after - ends[1])), rel=1e-5)
        assert second.momentum_cosine == pytest.approx(cosine(offers[0], offers[1]), rel=1e-4)
    else:
        mean = (offers[0] + offers[1]) / 2
        assert known.mean_cosine == pytest.approx(cosine(offers[worker], mean), rel=1e-4)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_an_offer_of_ones_own_says_nothing_of_the_drift():
    with emptied():
        register("offer", "sign", lambda: lambda start, end: jax.tree.map(lambda a, b: jnp.sign(a - b), start, end))
        reports = Followed(experiment([1.0], {"outer": NESTEROV, "offer": {"kind": "sign"}}, rounds=1)).reports
    known = OfferDiagnostics(*reports[0][0])
    assert known.norm == pytest.approx(math.sqrt(len(START)))
    assert math.isnan(known.drift)
