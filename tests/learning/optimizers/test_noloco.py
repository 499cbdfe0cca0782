"""NoLoCo's momentum: workers that agree in groups."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from simulator.experiment.schema.outer import NoLoCoOuter
from simulator.learning import OfferInfo, OuterPrograms, Server, build_outer
from simulator.learning.optimizers.noloco import noloco
from tests.learning.quadratic import offers


def tree(*values: float) -> Any:
    return {"x": jnp.array(values, jnp.float32)}


def section(learning_rate: float, momentum: float = 0.5) -> NoLoCoOuter:
    return NoLoCoOuter(optimizer="noloco", learning_rate=learning_rate, momentum=momentum)


class Member:
    """A worker that agrees with others on a mean."""

    def __init__(self, start: Any, learning_rate: float, momentum: float):
        self.server = Server(start, OuterPrograms(build_outer(section(learning_rate, momentum))))

    @property
    def params(self) -> np.ndarray:
        return np.asarray(self.server.params["x"])


def meet(members: list[Member], gradients: list[Any]) -> None:
    """A meeting of all of them, each with what it began with."""
    starts = [member.server.params for member in members]
    infos = [OfferInfo(worker, 0, 5) for worker in range(len(members))]
    for member in members:
        member.server.meet(offers(*gradients), infos, starts)


def test_steps_by_hand():
    # m <- m / 2 - g / 2 + (mean - theta) / 2, from theta = 1.
    optimizer = noloco(0.5, momentum=0.5)
    params, state, found = jnp.float32(1), optimizer.init(jnp.float32(1)), []
    for gradient, mean in ((2.0, 1.0), (1.0, 3.0), (0.0, 2.0)):
        updates, state = optimizer.update(jnp.float32(gradient), state, params, pulled_params=jnp.float32(mean))
        params = optax.apply_updates(params, updates)
        found.append((float(state.momentum), float(params)))
    assert found == [
        (-0.5 * 2, 1 - 1),
        (0.5 * -1 - 0.5 * 1 + 0.5 * (3 - 0), 0 + 0.5),
        (0.5 * 0.5 - 0.5 * 0 + 0.5 * (2 - 0.5), 0.5 + 1),
    ]


def test_a_pair_by_hand():
    # They begin with 0 and 4, mean 2, and offer 1 and 3, mean 2.
    one, other = (Member(tree(start), 0.5, 0.5) for start in (0, 4))
    meet([one, other], [tree(1), tree(3)])
    assert one.params.tolist() == [0 - 1 + 1]
    assert other.params.tolist() == [4 - 1 - 1]
    meet([one, other], [tree(0), tree(0)])  # momenta 0 and -2; they begin with 0 and 2
    assert one.params.tolist() == [0 + 0.5 * 0 + 0.5 * 1]
    assert other.params.tolist() == [2 + 0.5 * -2 - 0.5 * 1]


@pytest.mark.parametrize(("learning_rate", "momentum", "count"), [(0.7, 0.5, 2), (1.0, 0.0, 3), (0.3, 0.9, 1)])
def test_a_group_of_everybody_that_began_alike_is_the_heavy_ball(learning_rate: float, momentum: float, count: int):
    random = np.random.default_rng(count)
    start = tree(*random.normal(size=3))
    members = [Member(start, learning_rate, momentum) for _ in range(count)]
    ball = optax.sgd(learning_rate, momentum=momentum)
    params, state = start, ball.init(start)
    for _ in range(4):
        gradients = random.normal(size=(count, 3)).astype(np.float32)
        meet(members, [tree(*gradient) for gradient in gradients])
        updates, state = ball.update(tree(*gradients.mean(axis=0)), state, params)
        params = optax.apply_updates(params, updates)
    for member in members:
        np.testing.assert_allclose(member.params, params["x"], rtol=1e-4, atol=1e-5)


def test_with_a_rate_of_one_and_no_momentum_a_group_takes_the_mean_of_where_its_members_have_come_to():
    random = np.random.default_rng(0)
    members = [Member(tree(*random.normal(size=3)), 1.0, 0.0) for _ in range(4)]
    for group in ((0, 1), (2, 3), (0, 1, 2, 3), (1, 2)):
        own = [members[number] for number in group]
        gradients = random.normal(size=(len(group), 3)).astype(np.float32)
        ends = [member.params - gradient for member, gradient in zip(own, gradients, strict=True)]
        assert np.ptp(ends, axis=0).max() > 0.1
        meet(own, [tree(*gradient) for gradient in gradients])
        for member in own:
            np.testing.assert_allclose(member.params, np.mean(ends, axis=0), rtol=1e-5, atol=1e-6)


def test_members_move_towards_each_other_without_gradients():
    one, other = (Member(tree(start), 0.5, 0.0) for start in (0, 4))
    for apart in (2, 1, 0.5):
        meet([one, other], [tree(0), tree(0)])
        np.testing.assert_allclose(other.params - one.params, [apart])
        np.testing.assert_allclose(other.params + one.params, [4])


def test_a_member_that_is_not_finite_is_left_out_with_what_it_began_with():
    one, other, third = (Member(tree(start), 1.0, 0.0) for start in (0, 4, 100))
    meet([one, other, third], [tree(1), tree(2), tree(np.nan)])
    assert [member.params.tolist() for member in (one, other, third)] == [[0.5], [0.5], [0.5]]  # mean of -1 and 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be above 0, not 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0, not nan"),
        ({"learning_rate": 0.7, "momentum": 1.0}, "momentum must be from 0 up to below 1, not 1.0"),
        ({"learning_rate": 0.7, "momentum": -0.1}, r"momentum must be from 0 up to below 1, not -0.1"),
    ],
)
def test_hyperparameters_out_of_their_range_are_refused(settings: dict[str, float], message: str):
    with pytest.raises(ValueError, match=f"^{message}$"):
        noloco(**settings)


def test_the_default_momentum_of_a_file_is_that_of_the_optimizer():
    optimizer, params = build_outer(NoLoCoOuter(optimizer="noloco", learning_rate=0.7)), tree(1)
    own, state, own_state = noloco(0.7), optimizer.init(params), noloco(0.7).init(params)
    for gradient in (tree(2), tree(3)):
        updates, state = optimizer.update(gradient, state, params, staleness=0, worker=0, pulled_params=params)
        expected, own_state = own.update(gradient, own_state, params, pulled_params=params)
        np.testing.assert_allclose(updates["x"], expected["x"], rtol=1e-6)
