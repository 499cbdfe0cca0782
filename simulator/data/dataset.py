"""A data set, addressed by small integers: on the device, or on the host and gathered for every round."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from simulator.data.token_streams import StoredStream

Addresses = npt.NDArray[np.int32]
"""Example addresses: where each example is found in a data set's arrays."""
_BLOCK = 2**20  # tokens gathered at a time: their addresses take four to eight times their memory


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset(ABC):
    """Training shards and validation examples, as addresses into a few arrays.

    The arrays are put on the device once; a batch is then a vector of addresses, and `fetch` turns it into model inputs
    inside the compiled program. Arrays that do not fit there stay on the host: then `gather` turns addresses into
    examples before the program is called.

    Attributes:
        arrays: everything that `fetch` reads, by name; read-only.
        vocabulary: number of token ids, or of classes.
        shard_examples: for each shard the addresses of its training examples.
        validation: addresses of the examples to evaluate on, in a random order: the first few are a fair sample.
        shard_validation: for each shard those that are like its own; empty where all shards are alike.
        content_hash: sha256, in hexadecimal, of the content in its fixed order.
        best_loss: cross-entropy in nats per token of the best possible model, if known.
        facts: counts and versions for the run record.
    """

    kind: ClassVar[Literal["text", "classification"]]

    arrays: Mapping[str, npt.NDArray[Any]]
    vocabulary: int
    shard_examples: tuple[Addresses, ...]
    validation: Addresses
    shard_validation: tuple[Addresses, ...] = ()
    content_hash: str
    best_loss: float | None = None
    facts: Mapping[str, int | str | float]

    def __post_init__(self) -> None:
        if not self.shard_sizes or min(self.shard_sizes) == 0:
            raise ValueError(f"every shard must have at least one example; got sizes {list(self.shard_sizes)}")
        for array in (*self.arrays.values(), *self.shard_examples, self.validation, *self.shard_validation):
            array.setflags(write=False)

    @property
    def shard_sizes(self) -> tuple[int, ...]:
        """Number of examples of each shard."""
        return tuple(len(examples) for examples in self.shard_examples)

    def gather(self, examples: Addresses) -> npt.NDArray[Any]:
        """Returns the input of a program's `fetch` for addresses [...]: the addresses, if it can follow them."""
        return examples

    @abstractmethod
    def fetch(self, arrays: Mapping[str, Any], examples: Any) -> Any:
        """Returns the examples at the given addresses; pure, and traceable by `jax.jit` and `jax.vmap`.

        Args:
            arrays: `self.arrays`, as numpy or as jax arrays.
            examples: the result of `gather` for int32 [B], addresses from `shard_examples` or `validation`.
        """


@dataclass(frozen=True)
class HostWindows:
    """Windows of text left in its store, numbered through all streams.

    Attributes:
        streams: those of the shards, that of validation, and those of the shards' own validation.
        firsts: int64 [streams], number of the first window of each.
    """

    streams: tuple[StoredStream, ...]
    firsts: npt.NDArray[np.int64]

    def __call__(self, numbers: npt.NDArray[np.int64], context: int) -> npt.NDArray[Any]:
        """Returns [..., context + 1]: the windows of those numbers [...], of the store's dtype."""
        numbers_W = numbers.reshape(-1)
        windows = np.empty((len(numbers_W), context + 1), self.streams[0][:0].dtype)
        block = max(1, _BLOCK // (context + 1))
        for first in range(0, len(numbers_W), block):
            windows[first : first + block] = self._few(numbers_W[first : first + block], context)
        return windows.reshape(*numbers.shape, context + 1)

    def _few(self, numbers_W: npt.NDArray[np.int64], context: int) -> npt.NDArray[Any]:
        stream_W = self.firsts.searchsorted(numbers_W, side="right") - 1
        windows = np.empty((len(numbers_W), context + 1), self.streams[0][:0].dtype)
        for stream in np.unique(stream_W):
            chosen_W = stream_W == stream
            firsts = (numbers_W[chosen_W] - self.firsts[stream]) * context
            windows[chosen_W] = self.streams[stream].windows(firsts, context + 1)
        return windows


@dataclass(frozen=True, eq=False, kw_only=True)
class TextDataset(Dataset):
    """One long text, `arrays["tokens"]` [N]; an example is a window of it, addressed by its first token.

    Text that stays on the host has no arrays; then a window is addressed by its number.

    Attributes:
        context: number of input tokens of a window.
        on_host: the windows that stay there.
    """

    kind = "text"

    context: int
    on_host: HostWindows | None = None

    def gather(self, examples: Addresses) -> npt.NDArray[Any]:
        """Returns the addresses, or [..., context + 1]: the windows, where they stay on the host."""
        return examples if self.on_host is None else self.on_host(examples.astype(np.int64), self.context)

    def fetch(self, arrays: Mapping[str, Any], examples: Any) -> Any:
        """Returns int32 [B, context + 1]: a window's inputs and, one token later, its targets."""
        if self.on_host is not None:
            return examples.astype(np.int32)
        offsets = np.arange(self.context + 1, dtype=np.int32)
        return arrays["tokens"][examples[:, None] + offsets[None, :]].astype(np.int32)


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassificationDataset(Dataset):
    """Labelled points, `arrays["inputs"]` float32 [N, dim] and `arrays["labels"]` int32 [N], addressed by row."""

    kind = "classification"

    def fetch(self, arrays: Mapping[str, Any], examples: Any) -> tuple[Any, Any]:
        """Returns inputs, float32 [B, dim], and labels, int32 [B]."""
        return arrays["inputs"][examples], arrays["labels"][examples]
