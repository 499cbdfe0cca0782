import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import PRESETS, TransformerConfig, default_dtype, transformer
from models.attention import ATTENTION

SMALL = TransformerConfig(vocabulary=19, layers=2, width=16, heads=2, context=6)


def some_tokens(config, batch_size=3, seed=0):
    return jax.random.randint(jax.random.key(seed), (batch_size, config.context + 1), 0, config.vocabulary)


@functools.cache
def small(**changes):
    """A small model and its parameters."""
    model = transformer(dataclasses.replace(SMALL, **changes))
    return model, jax.jit(model.init)(jax.random.key(0))


@pytest.mark.parametrize(
    ("preset", "tied", "expected"),
    [
        # 20m, untied. Embedding and unembedding 2 * 32,000 * 256 = 16,384,000; positions 256 * 256 = 65,536;
        # 6 blocks of 256 * 768 + 256 * 256 + 2 * 256 * 1,024 + 2 * 256 = 786,944; last norm 256.
        ("20m", False, 16_384_000 + 65_536 + 6 * 786_944 + 256),
        ("20m", True, 8_192_000 + 65_536 + 6 * 786_944 + 256),
        # 60m and 150m, tied; heads add up to 1,024. Embedding 32,000 * 896 = 28,672,000; positions 256 * 896 = 229,376;
        # blocks of 896 * 3,072 + 1,024 * 896 + 2 * 896 * 3,584 + 2 * 896 = 10,094,336; last norm 896.
        ("60m", True, 28_672_000 + 229_376 + 3 * 10_094_336 + 896),
        ("150m", True, 28_672_000 + 229_376 + 12 * 10_094_336 + 896),
    ],
)
def test_parameter_counts_by_hand(preset, tied, expected):
    assert transformer(dataclasses.replace(PRESETS[preset], tied=tied)).parameters == expected


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_have_the_size_they_are_named_after(preset):
    millions = transformer(PRESETS[preset]).parameters / 1e6
    assert millions == pytest.approx(int(preset.removesuffix("m")), rel=0.06)


@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_a_plain_dict_of_float32_whatever_the_dtype(tied):
    model, params = small(dtype="bfloat16", tied=tied)
    paths = jax.tree_util.tree_flatten_with_path(params)[0]
    assert {type(key) for path, _ in paths for key in path} == {jax.tree_util.DictKey}
    assert {type(key.key) for path, _ in paths for key in path} == {str}
    assert {(type(leaf) is type(jnp.zeros(1)), str(leaf.dtype)) for _, leaf in paths} == {(True, "float32")}
    assert sum(leaf.size for _, leaf in paths) == model.parameters
    assert ("unembedding" in params) is not tied


def test_init_depends_on_the_key_alone():
    init = jax.jit(transformer(SMALL).init)
    a, same, other = (init(jax.random.key(seed)) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, a, same)
    for name in ("token_embedding", "position_embedding"):
        assert (np.asarray(a[name]) != np.asarray(other[name])).all()
    kernel_a, kernel_other = (np.asarray(params["blocks"]["1"]["qkv"]["kernel"]) for params in (a, other))
    assert (kernel_a != kernel_other).all()
    assert (kernel_a != np.asarray(a["blocks"]["0"]["qkv"]["kernel"])).all()


@pytest.mark.parametrize("attention", ["plain", "fused"])
def test_logits_depend_on_earlier_positions_and_no_later_one(attention):
    model, params = small(attention=attention)
    tokens = some_tokens(SMALL, batch_size=1)[:, :-1]

    def logits(positions):
        return model.logits({**params, "position_embedding": positions}, tokens)[0]

    # Position embeddings are added to token embeddings, so the gradient is the same for either.
    sensitivity_TxVxSxD = np.asarray(jax.jit(jax.jacrev(logits))(params["position_embedding"]))
    sensitivity_TxS = np.abs(sensitivity_TxVxSxD).max(axis=(1, 3))
    later = np.triu(np.ones_like(sensitivity_TxS, bool), k=1)
    assert (sensitivity_TxS[later] == 0).all()
    assert (sensitivity_TxS[~later] > 1e-4).all()


def test_sequences_may_be_shorter_than_the_context():
    model, params = small()
    tokens = some_tokens(SMALL)[:, :-1]
    logits = jax.jit(model.logits)
    np.testing.assert_allclose(logits(params, tokens[:, :4]), logits(params, tokens)[:, :4], rtol=1e-5, atol=1e-6)


def test_the_config_chooses_the_attention(monkeypatch):
    called = []
    for name, attend in list(ATTENTION.items()):
        monkeypatch.setitem(ATTENTION, name, lambda *qkv, name=name, attend=attend: called.append(name) or attend(*qkv))
    for attention in ("plain", "fused"):
        model, params = small(attention=attention)
        jax.eval_shape(model.loss, params, some_tokens(SMALL), None)
    assert called == ["plain"] * SMALL.layers + ["fused"] * SMALL.layers


def test_each_token_predicts_the_next():
    model, params = small()
    params = jax.tree.map(lambda x: 3 * x, params)  # away from uniform predictions
    tokens = some_tokens(SMALL)
    logits = np.asarray(jax.jit(model.logits)(params, tokens[:, :-1]), np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    nats = [-math.log(probabilities[b, t, int(tokens[b, t + 1])]) for b, t in np.ndindex(3, SMALL.context)]
    assert float(jax.jit(model.loss)(params, tokens, None)) == pytest.approx(np.mean(nats), rel=1e-5)


def test_an_embedding_of_zeros_predicts_uniformly():
    model, params = small()
    params = {**params, "token_embedding": jnp.zeros((19, 16))}
    assert float(jax.jit(model.loss)(params, some_tokens(SMALL), None)) == pytest.approx(math.log(19), rel=1e-6)


@pytest.mark.parametrize("tied", [True, False])
def test_the_first_loss_is_near_that_of_a_uniform_guess(tied):
    config = TransformerConfig(vocabulary=257, layers=2, width=64, heads=4, context=64, tied=tied)
    model = transformer(config)
    loss = jax.jit(model.loss)(jax.jit(model.init)(jax.random.key(0)), some_tokens(config, batch_size=8), None)
    assert float(loss) == pytest.approx(math.log(257), abs=0.1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradient_descent_lowers_the_loss_and_compiles_once(dtype):
    model, params = small(dtype=dtype, layers=1)
    traces = 0

    @jax.jit
    def step(params, tokens):
        nonlocal traces
        traces += 1
        loss, gradient = jax.value_and_grad(model.loss)(params, tokens, None)
        return jax.tree.map(lambda p, g: p - 0.5 * g, params, gradient), loss

    losses = []
    for _ in range(10):
        params, loss = step(params, some_tokens(SMALL))
        losses.append(float(loss))
    assert losses[-1] < losses[0] - 0.3
    assert traces == 1


def test_the_key_is_accepted_and_unused():
    model, params = small()
    loss = jax.jit(model.loss)
    assert float(loss(params, some_tokens(SMALL), None)) == float(loss(params, some_tokens(SMALL), jax.random.key(1)))


@pytest.mark.parametrize(
    "changes",
    [{}, {"attention": "fused"}, {"tied": False}, {"dtype": "bfloat16"}, {"layers": 3, "context": 5}],
    ids=str,
)
def test_blocks_that_are_made_again_have_the_same_loss_and_gradients(changes):
    model, params = small(**changes)
    again, same = small(**changes, remat=True)
    jax.tree.map(np.testing.assert_array_equal, params, same)
    tokens = some_tokens(dataclasses.replace(SMALL, **changes))
    exact, _ = small(**{**changes, "dtype": "float32"})
    of_each = [jax.jit(jax.value_and_grad(each.loss))(params, tokens, None) for each in (again, model, exact)]
    for leaf, other, true in zip(*map(jax.tree.leaves, of_each), strict=True):
        rounding = jnp.linalg.norm(other - true)
        assert jnp.linalg.norm(leaf - true) <= 1.5 * rounding + 1e-5 * jnp.linalg.norm(true)


def test_of_blocks_that_are_made_again_only_the_inputs_are_kept():
    def kept(config):
        model = transformer(config)
        params = jax.eval_shape(model.init, jax.random.key(0))
        tokens = jax.ShapeDtypeStruct((4, config.context + 1), jnp.int32)
        backward = jax.eval_shape(
            lambda params, tokens: jax.vjp(lambda p: model.loss(p, tokens, None), params)[1], params, tokens
        )
        return sum(leaf.size for leaf in jax.tree.leaves(backward))

    def of_a_layer(**changes):
        """Numbers that one more layer keeps, besides its parameters."""
        few, more = (dataclasses.replace(SMALL, layers=layers, **changes) for layers in (2, 3))
        return kept(more) - kept(few) - (transformer(more).parameters - transformer(few).parameters)

    assert of_a_layer(remat=True) == 4 * SMALL.context * SMALL.width
    assert of_a_layer() > 10 * of_a_layer(remat=True)


def test_flops_by_hand():
    model = transformer(TransformerConfig(vocabulary=10, layers=1, width=4, heads=2, context=3))
    # Weights: qkv 4 * 12, out 4 * 4, MLP 2 * 4 * 16, unembedding 4 * 10: 232. Two sequences are 6 tokens.
    # Attention: 12 * 1 layer * (2 heads * 2) * 3 * 3 for each of the two sequences.
    assert model.train_flops(2) == 6 * 232 * 6 + 12 * 4 * 9 * 2
    assert model.repeated_flops(2) == 0


def test_flops_that_are_done_again_by_hand():
    model = transformer(TransformerConfig(vocabulary=10, layers=2, width=4, heads=2, context=3, remat=True))
    # Of each of two blocks: qkv 4 * 12, out 4 * 4, and up 4 * 16, but not down; 2 operations for each of 6 tokens.
    # Attention has two products of 3 * 3 positions and 2 heads * 2, for each of two sequences.
    assert model.repeated_flops(2) == 2 * (2 * (48 + 16 + 64) * 6 + 2 * 2 * 9 * 4 * 2)
    assert model.train_flops(2) == 6 * (2 * 192 + 40) * 6 + 2 * 12 * 4 * 9 * 2  # as without


@pytest.mark.parametrize(("layers", "remat"), [(2, False), (1, True)])  # of a loop it counts one pass
def test_flops_are_near_those_that_xla_counts(layers, remat):
    config = TransformerConfig(vocabulary=512, layers=layers, width=128, heads=2, context=64, remat=remat)
    model = transformer(config)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    tokens = jax.ShapeDtypeStruct((4, config.context + 1), jnp.int32)
    counted = jax.jit(jax.grad(model.loss)).lower(shapes, tokens, None).cost_analysis()["flops"]
    assert counted == pytest.approx(model.train_flops(4) + model.repeated_flops(4), rel=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 0}, "layers must be at least 1, not 0"),
        ({"feed_forward": -4}, "feed_forward must be at least 1, not -4"),
        ({"heads": 3}, "width 16 does not divide into 3 heads: change one of them, or give head_width"),
        ({"dtype": "float64"}, "dtype must be one of float32, bfloat16, not 'float64'"),
        ({"attention": "flash"}, "attention must be one of plain, fused, not 'flash'"),
    ],
)
def test_impossible_configs_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change)


def test_heads_need_not_divide_the_width_when_their_width_is_given():
    config = dataclasses.replace(SMALL, heads=3, head_width=4)
    model = transformer(config)
    assert jax.eval_shape(model.init, jax.random.key(0))["blocks"]["0"]["qkv"]["kernel"].shape == (16, 3 * 3 * 4)


def test_widths_that_were_not_given_follow_the_others():
    wider = dataclasses.replace(SMALL, width=32)
    assert (SMALL.key_width, SMALL.hidden_width) == (8, 64)
    assert (wider.key_width, wider.hidden_width) == (16, 128)


def test_wrong_batches_are_refused():
    model, params = small()
    with pytest.raises(ValueError, match="a sequence of 7 tokens is longer than the context of 6"):
        model.loss(params, jnp.zeros((2, 8), jnp.int32), None)
    with pytest.raises(ValueError, match=r"tokens must be integers \(batch, length\), not int32\(7,\)"):
        model.logits(params, jnp.zeros(7, jnp.int32))
    with pytest.raises(ValueError, match="not float32"):
        model.loss(params, jnp.zeros((2, 7)), None)
    with pytest.raises(TypeError, match="one array of tokens"):
        model.loss(params, (jnp.zeros((2, 6)), jnp.zeros(2, jnp.int32)), None)


@pytest.mark.parametrize(("backend", "dtype"), [("cpu", "float32"), ("gpu", "bfloat16"), ("tpu", "bfloat16")])
def test_default_dtype(backend, dtype):
    assert default_dtype(backend) == dtype
