import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import MLPConfig, mlp

SMALL = MLPConfig(inputs=5, hidden=(16, 8), classes=3)


def batch(config, size=32, seed=0):
    inputs = jax.random.normal(jax.random.key(seed), (size, config.inputs))
    return inputs, jnp.argmax(inputs[:, : config.classes], axis=1).astype(jnp.int32)


def test_the_toy_of_the_paper_has_its_size_without_being_made():
    toy = mlp(MLPConfig(inputs=512, hidden=(65_000,), classes=4))
    assert toy.parameters == 512 * 65_000 + 65_000 + 65_000 * 4 + 4 == 33_605_004
    shapes = jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), jax.eval_shape(toy.init, jax.random.key(0)))
    assert shapes == {
        "layers": {
            "0": {"kernel": ((512, 65_000), "float32"), "bias": ((65_000,), "float32")},
            "1": {"kernel": ((65_000, 4), "float32"), "bias": ((4,), "float32")},
        }
    }
    assert toy.train_flops(32) == 6 * (512 * 65_000 + 65_000 * 4) * 32


def test_initial_values_fill_the_interval_of_the_layers_inputs():
    params = jax.jit(mlp(MLPConfig(inputs=100, hidden=(400,), classes=50)).init)(jax.random.key(0))
    for layer, bound in (("0", 1 / 10), ("1", 1 / 20)):
        for name in ("kernel", "bias"):
            values = np.asarray(params["layers"][layer][name])
            assert np.abs(values).max() <= bound
            assert values.max() > 0.9 * bound
            assert values.min() < -0.9 * bound
    assert len(np.unique(params["layers"]["0"]["kernel"][:, 0])) > 90


@pytest.mark.parametrize("hidden", [(), (16,), (16, 8)])
def test_logits_equal_numpys(hidden):
    config = dataclasses.replace(SMALL, hidden=hidden)
    model = mlp(config)
    params = jax.jit(model.init)(jax.random.key(0))
    inputs, _ = batch(config)
    x = np.asarray(inputs)
    for i in range(len(hidden) + 1):
        layer = params["layers"][str(i)]
        x = x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
        x = x if i == len(hidden) else np.maximum(x, 0)
    assert model.parameters == sum(leaf.size for leaf in jax.tree.leaves(params))
    np.testing.assert_allclose(jax.jit(model.logits)(params, inputs), x, rtol=1e-5, atol=1e-6)


def test_gradient_descent_lowers_the_loss():
    model = mlp(SMALL)
    params = jax.jit(model.init)(jax.random.key(0))
    step = jax.jit(jax.value_and_grad(model.loss))
    losses = []
    for _ in range(20):
        loss, gradient = step(params, batch(SMALL), None)
        params = jax.tree.map(lambda p, g: p - 0.3 * g, params, gradient)
        losses.append(float(loss))
    assert losses[-1] < 0.8 * losses[0]


def test_lanes_equal_a_loop():
    model = mlp(SMALL)
    init, loss_of = jax.jit(model.init), jax.jit(model.loss)
    lanes = [(init(jax.random.key(i)), batch(SMALL, seed=i)) for i in range(3)]
    one = [loss_of(params, data, None) for params, data in lanes]
    params, data = jax.tree.map(lambda *leaves: jnp.stack(leaves), *lanes)
    assert len({float(loss) for loss in one}) == 3
    np.testing.assert_allclose(
        jax.jit(jax.vmap(model.loss, (0, 0, None)))(params, data, None), jnp.stack(one), rtol=1e-5
    )


def test_the_key_is_accepted_and_unused():
    model = mlp(SMALL)
    params = jax.jit(model.init)(jax.random.key(0))
    loss = jax.jit(model.loss)
    assert float(loss(params, batch(SMALL), None)) == float(loss(params, batch(SMALL), jax.random.key(1)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": 0}, "inputs must be at least 1, not 0"),
        ({"hidden": (8, -1)}, "hidden must be at least 1, not -1"),
        ({"classes": 0}, "classes must be at least 1, not 0"),
    ],
)
def test_impossible_sizes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change)


def test_wrong_batches_are_refused():
    model = mlp(SMALL)
    params = jax.jit(model.init)(jax.random.key(0))
    inputs, labels = batch(SMALL)
    with pytest.raises(ValueError, match=r"inputs of shape \(32, 4\) are not \(batch, 5\)"):
        model.loss(params, (inputs[:, :4], labels), None)
    with pytest.raises(TypeError, match="tuple of inputs"):
        model.loss(params, inputs, None)
