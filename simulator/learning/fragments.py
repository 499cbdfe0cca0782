"""Fragments of a model: sets of its parameters that are offered and accepted by themselves."""

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np

from simulator.learning.round import Params

Composition = Literal["strided", "sequential", "by_size"]
_BEHIND = ("norm_final", "unembedding")
"""Parts of a transformer that stand behind its blocks."""


class Fragments:
    """Division of a model's parameters into fragments. The only fragment of an undivided model is its tree itself.

    Attributes:
      of: number of the fragment of each leaf, in the order of `jax.tree.leaves`.
      count: number of fragments.
    """

    def __init__(self, of: Sequence[int]):
        self.of, self.count = tuple(of), max(of, default=0) + 1

    def take(self, params: Params, fragment: int) -> Any:
        """Returns the leaves of a fragment, or the tree where there is only one."""
        if self.count == 1:
            return params
        leaves = jax.tree.leaves(params)
        return [leaf for leaf, own in zip(leaves, self.of, strict=True) if own == fragment]

    def put(self, params: Params, fragment: int, part: Any) -> Params:
        """Returns parameters with another fragment in place of their own."""
        if self.count == 1:
            return part
        leaves, structure = jax.tree.flatten(params)
        new = iter(part)
        replaced = [next(new) if own == fragment else leaf for leaf, own in zip(leaves, self.of, strict=True)]
        return jax.tree.unflatten(structure, replaced)

    def join(self, like: Params, parts: Sequence[Any]) -> Params:
        """Returns the parameters of which these are all fragments; `like` has their structure."""
        if self.count == 1:
            return parts[0]
        each = [iter(part) for part in parts]
        return jax.tree.unflatten(jax.tree.structure(like), [next(each[own]) for own in self.of])

    def shares(self, params: Params) -> list[float]:
        """Returns each fragment's share of the parameters."""
        sizes = [float(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params)]
        return [
            sum(size for size, own in zip(sizes, self.of, strict=True) if own == fragment) / sum(sizes)
            for fragment in range(self.count)
        ]


def fragments_of(params: Params, count: int, composition: Composition) -> Fragments:
    """Returns the division of a model's parameters.

    Args:
      params: arrays, or their shapes and dtypes.
      count: number of fragments.
      composition: "strided" gives block l of a transformer to fragment l mod count, "sequential" neighboring blocks to
        one fragment (Douillard et al., arXiv 2501.18512), and what is in no block, such as embeddings, to the first;
        "by_size" gives leaves, the largest first, to the fragment that is smallest by then.

    Raises:
      ValueError: there are fewer blocks, or leaves, than fragments.
    """
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    if count == 1:
        return Fragments([0] * len(paths))
    if composition == "by_size":
        return _by_size([float(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params)], count)
    blocks = [_block(path) for path in paths]
    known = sorted({block for block in blocks if block is not None})
    units: list[Any] = known or paths  # without blocks, leaves are divided
    if len(units) < count:
        what, remedy = ("blocks", "choose fewer, or composition: by_size") if known else ("arrays", "choose fewer")
        raise ValueError(f"the model has {len(units)} {what}, which cannot be divided into {count} fragments: {remedy}")
    places = {unit: place for place, unit in enumerate(units)}
    found = []
    for path, block in zip(paths, blocks, strict=True):
        place = places.get(block if known else path)
        if place is None:
            found.append(0)
        else:
            found.append(place % count if composition == "strided" else place * count // len(units))
    return Fragments(found)


def stages_of(params: Params, count: int) -> Fragments:
    """Returns the stages of a pipeline: neighboring blocks of a transformer, or layers, in the order of a forward pass.

    Embeddings are in the first stage, also one that is the output projection too, and what is behind the blocks in the
    last. Of a model without blocks and layers, arrays are divided.

    Args:
      params: arrays, or their shapes and dtypes.
      count: number of stages.

    Raises:
      ValueError: there are fewer blocks, layers or arrays than stages.
    """
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    blocks = [_block(path, ("blocks", "layers")) for path in paths]
    if set(blocks) == {None}:
        blocks = list(range(len(paths)))
    units = sorted({block for block in blocks if block is not None})
    if len(units) < count:
        what = f"the model has {len(units)} blocks or layers, which cannot be divided into {count} stages"
        raise ValueError(f"{what}: choose fewer")
    found = []
    for path, block in zip(paths, blocks, strict=True):
        is_last = any(f"'{name}'" in path for name in _BEHIND)
        found.append(count - 1 if is_last else 0 if block is None else units.index(block) * count // len(units))
    return Fragments(found)


def _by_size(sizes: Sequence[float], count: int) -> Fragments:
    if len(sizes) < count:
        what = f"the model has {len(sizes)} arrays, which cannot be divided into {count} fragments"
        raise ValueError(f"{what}: choose fewer")
    of, filled = [0] * len(sizes), [0.0] * count
    for leaf in sorted(range(len(sizes)), key=lambda each: (-sizes[each], each)):
        of[leaf] = filled.index(min(filled))
        filled[of[leaf]] += sizes[leaf]
    return Fragments(of)


def _block(path: str, within: tuple[str, ...] = ("blocks",)) -> int | None:
    """Returns the number of the transformer block, or of what has another name, that a path leads into, if any."""
    parts = path.replace("]", "").replace("'", "").split("[")
    return next((int(each) for before, each in itertools.pairwise(parts) if before in within), None)
