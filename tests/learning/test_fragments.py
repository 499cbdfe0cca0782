from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from simulator.learning import Fragments, fragments_of

LAYERS = 5
CONFIG = models.TransformerConfig(vocabulary=32, layers=LAYERS, width=8, heads=2, context=4, tied=False)
OF_BLOCK = 6  # arrays: two norms, and four projections


@pytest.fixture(scope="module")
def params() -> Any:
    return models.transformer(CONFIG).init(jax.random.key(0))


def fragment_of_paths(params: Any, fragments: Fragments) -> dict[str, int]:
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    return dict(zip(paths, fragments.of, strict=True))


def of_blocks(params: Any, fragments: Fragments) -> list[int]:
    """The fragment of each block, all of whose arrays have to be in one."""
    found = []
    for block in range(LAYERS):
        own = [fragment for path, fragment in fragment_of_paths(params, fragments).items() if f"['{block}']" in path]
        assert len(own) == OF_BLOCK
        [fragment] = set(own)
        found.append(fragment)
    return found


@pytest.mark.parametrize(
    ("composition", "count", "expected"),
    [
        ("strided", 2, [0, 1, 0, 1, 0]),
        ("strided", 3, [0, 1, 2, 0, 1]),
        ("strided", 5, [0, 1, 2, 3, 4]),
        ("sequential", 2, [0, 0, 0, 1, 1]),
        ("sequential", 3, [0, 0, 1, 1, 2]),
        ("sequential", 5, [0, 1, 2, 3, 4]),
    ],
)
def test_blocks_of_a_transformer_are_dealt_out(params: Any, composition: Any, count: int, expected: list[int]):
    fragments = fragments_of(params, count, composition)
    assert fragments.count == count
    assert of_blocks(params, fragments) == expected


@pytest.mark.parametrize("composition", ["strided", "sequential"])
def test_what_is_in_no_block_is_in_the_first_fragment(params: Any, composition: Any):
    found = fragment_of_paths(params, fragments_of(params, 3, composition))
    outside = {path: fragment for path, fragment in found.items() if "blocks" not in path}
    assert len(outside) == 4  # two embeddings, the unembedding and the last norm
    assert set(outside.values()) == {0}


def test_blocks_are_in_the_order_of_their_numbers_and_not_of_their_names():
    params = {"blocks": {str(block): jnp.zeros(1) for block in range(12)}}
    fragments = fragments_of(params, 3, "sequential")
    assert list(params["blocks"]) == [str(block) for block in range(12)]
    found = fragment_of_paths(params, fragments)
    assert [found[f"['blocks']['{block}']"] for block in range(12)] == [0] * 4 + [1] * 4 + [2] * 4


def test_without_blocks_arrays_are_dealt_out():
    params = {name: jnp.zeros(1) for name in "abcde"}
    assert fragments_of(params, 2, "strided").of == (0, 1, 0, 1, 0)
    assert fragments_of(params, 2, "sequential").of == (0, 0, 0, 1, 1)


def test_by_size_the_largest_come_first_and_go_where_least_is():
    # 9 to the first, 5 and 4 to the second (9 : 9), 3 to the first of two alike, 2 and 1 to the second: 12 and 12.
    sizes = {"a": 3, "b": 9, "c": 1, "d": 5, "e": 2, "f": 4}
    params = {name: jnp.zeros(size) for name, size in sizes.items()}
    fragments = fragments_of(params, 2, "by_size")
    assert dict(zip(sizes, fragments.of, strict=True)) == {"a": 0, "b": 0, "c": 1, "d": 1, "e": 1, "f": 1}
    assert fragments.shares(params) == [0.5, 0.5]


def test_by_size_divides_a_transformer_more_evenly_than_its_blocks_do(params: Any):
    shares = {name: fragments_of(params, 3, name).shares(params) for name in ("by_size", "strided")}  # type: ignore[arg-type]
    assert max(shares["by_size"]) - min(shares["by_size"]) < 0.01 < max(shares["strided"]) - min(shares["strided"])


def test_shares_by_hand(params: Any):
    # Of a block: 8 + 8, and 8 x 24, 8 x 8, 8 x 32, 32 x 8; outside: 2 x 32 x 8, 4 x 8 and 8.
    block, outside = 16 + 192 + 64 + 256 + 256, 512 + 32 + 8
    whole = 5 * block + outside
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == whole
    shares = fragments_of(params, 2, "strided").shares(params)
    assert shares == pytest.approx([(3 * block + outside) / whole, 2 * block / whole])


CASES = [(1, "strided"), (2, "strided"), (3, "sequential"), (5, "strided"), (3, "by_size"), (7, "by_size")]


@pytest.mark.parametrize(("count", "composition"), CASES)
def test_shares_add_up_to_one(params: Any, count: int, composition: Any):
    shares = fragments_of(params, count, composition).shares(params)
    assert len(shares) == count
    assert sum(shares) == pytest.approx(1)
    assert min(shares) > 0


@pytest.mark.parametrize(("count", "composition"), CASES)
def test_a_division_of_shapes_is_that_of_arrays(params: Any, count: int, composition: Any):
    like = jax.eval_shape(lambda: params)
    assert fragments_of(like, count, composition).of == fragments_of(params, count, composition).of


@pytest.mark.parametrize(("count", "composition"), CASES)
def test_parts_that_are_taken_and_joined_are_the_whole(params: Any, count: int, composition: Any):
    fragments = fragments_of(params, count, composition)
    parts = [fragments.take(params, fragment) for fragment in range(count)]
    assert sum(len(jax.tree.leaves(part)) for part in parts) == len(jax.tree.leaves(params))
    joined = fragments.join(jax.eval_shape(lambda: params), parts)
    assert jax.tree.structure(joined) == jax.tree.structure(params)
    assert all(one is other for one, other in zip(jax.tree.leaves(joined), jax.tree.leaves(params), strict=True))


@pytest.mark.parametrize(("count", "composition"), CASES)
def test_what_is_put_takes_the_place_of_one_fragment_alone(params: Any, count: int, composition: Any):
    fragments, own = fragments_of(params, count, composition), count - 1
    other = jax.tree.map(lambda leaf: leaf + 1, params)
    mixed = fragments.put(params, own, fragments.take(other, own))
    for each in range(count):
        expected = fragments.take(other if each == own else params, each)
        jax.tree.map(np.testing.assert_array_equal, fragments.take(mixed, each), expected)


def test_the_only_fragment_of_a_model_is_its_tree_itself(params: Any):
    fragments = fragments_of(params, 1, "strided")
    assert fragments.take(params, 0) is params
    assert fragments.put({}, 0, params) is params
    assert fragments.join({}, [params]) is params


@pytest.mark.parametrize(
    ("composition", "count", "message"),
    [
        ("strided", 6, "5 blocks, which cannot be divided into 6 fragments: choose fewer, or composition: by_size"),
        ("sequential", 6, "5 blocks, which cannot be divided into 6 fragments: choose fewer, or composition: by_size"),
        ("by_size", 35, "34 arrays, which cannot be divided into 35 fragments: choose fewer"),
    ],
)
def test_more_fragments_than_there_is_to_divide_are_an_error(params: Any, composition: Any, count: int, message: str):
    with pytest.raises(ValueError, match=f"^the model has {message}$"):
        fragments_of(params, count, composition)


def test_more_fragments_than_arrays_are_an_error_without_blocks_too():
    with pytest.raises(ValueError, match=r"^the model has 2 arrays, .* into 3 fragments: choose fewer$"):
        fragments_of({"a": jnp.zeros(1), "b": jnp.zeros(1)}, 3, "strided")
