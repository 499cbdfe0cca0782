"""A data set that lives on the device, addressed by small integers that live on the host."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

Addresses = npt.NDArray[np.int32]
"""Example addresses: where each example is found in a data set's arrays."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset(ABC):
    """Training shards and validation examples, as addresses into a few arrays.

    The arrays are put on the device once; a batch is then a vector of addresses, and `fetch` turns it into model inputs
    inside the compiled program.

    Attributes:
        arrays: everything that `fetch` reads, by name; read-only.
        vocabulary: number of token ids, or of classes.
        shard_examples: for each shard the addresses of its training examples; all of the same length.
        validation: addresses of the examples to evaluate on, in a random order: the first few are a fair sample.
        content_hash: sha256, in hexadecimal, of the content in its fixed order.
        best_loss: cross-entropy in nats per token of the best possible model, where it is known.
        facts: counts and versions for the run record.
    """

    kind: ClassVar[Literal["text", "classification"]]

    arrays: Mapping[str, npt.NDArray[Any]]
    vocabulary: int
    shard_examples: tuple[Addresses, ...]
    validation: Addresses
    content_hash: str
    best_loss: float | None = None
    facts: Mapping[str, int | str | float]

    def __post_init__(self) -> None:
        sizes = sorted({len(examples) for examples in self.shard_examples})
        if len(sizes) != 1 or sizes[0] == 0:
            raise ValueError(f"shards must have the same number of examples, at least one; got sizes {sizes}")
        for array in (*self.arrays.values(), *self.shard_examples, self.validation):
            array.setflags(write=False)

    @abstractmethod
    def fetch(self, arrays: Mapping[str, Any], examples: Any) -> Any:
        """Returns the examples at the given addresses; pure, and traceable by `jax.jit` and `jax.vmap`.

        Args:
            arrays: `self.arrays`, as numpy or as jax arrays.
            examples: int32 [B], addresses from `shard_examples` or `validation`.
        """


@dataclass(frozen=True, eq=False, kw_only=True)
class TextDataset(Dataset):
    """One long text, `arrays["tokens"]` [N]; an example is a window of it, addressed by its first token.

    Attributes:
        context: number of input tokens of a window.
    """

    kind = "text"

    context: int

    def fetch(self, arrays: Mapping[str, Any], examples: Any) -> Any:
        """Returns int32 [B, context + 1]: a window's inputs and, one token later, its targets."""
        offsets = np.arange(self.context + 1, dtype=np.int32)
        return arrays["tokens"][examples[:, None] + offsets[None, :]].astype(np.int32)


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassificationDataset(Dataset):
    """Labelled points, `arrays["inputs"]` float32 [N, dim] and `arrays["labels"]` int32 [N], addressed by row."""

    kind = "classification"

    def fetch(self, arrays: Mapping[str, Any], examples: Any) -> tuple[Any, Any]:
        """Returns inputs, float32 [B, dim], and labels, int32 [B]."""
        return arrays["inputs"][examples], arrays["labels"][examples]
