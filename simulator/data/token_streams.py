"""Documents of a token store, one after another, read as if they lay together."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from simulator.data.store import TokenStore

Tokens = npt.NDArray[Any]
"""Token ids [N], of the smallest dtype that holds the vocabulary."""


class Stream(Protocol):
    """Consecutive tokens; an array is one."""

    def __len__(self) -> int:
        """Returns the number of tokens."""

    def __getitem__(self, span: slice) -> Tokens:
        """Returns the tokens of a span."""


_SHORT = 256  # tokens of a document
_BLOCK = 2**18  # tokens


class StoredStream:
    """Some documents of a store in an order of their own; nothing is read before it is asked for."""

    def __init__(self, store: TokenStore, documents: npt.NDArray[np.int64]):
        self._tokens = store.tokens
        lengths_D = store.lengths[documents]
        self._ends_D = np.cumsum(lengths_D)
        self._shifts_D = store.starts[documents] - (self._ends_D - lengths_D)  # from here to the store

    def __len__(self) -> int:
        return int(self._ends_D[-1]) if len(self._ends_D) else 0

    def __getitem__(self, span: slice) -> Tokens:
        first, last, _ = span.indices(len(self))
        if last <= first:
            return self._tokens[:0]
        head, tail = self._ends_D.searchsorted([first, last - 1], side="right")
        if (tail - head) * _SHORT > last - first:  # too many documents to be taken one by one
            starts = range(first, last, _BLOCK)
            return np.concatenate([self.windows(np.array([at]), min(_BLOCK, last - at))[0] for at in starts])
        pieces = []
        for document in range(head, tail + 1):
            end = min(int(self._ends_D[document]), last)
            shift = int(self._shifts_D[document])
            pieces.append(self._tokens[first + shift : end + shift])
            first = end
        return np.concatenate(pieces)

    def windows(self, firsts_W: npt.NDArray[np.int64], length: int) -> Tokens:
        """Returns [W, length]: the tokens that follow each of the positions."""
        head_W = self._ends_D.searchsorted(firsts_W, side="right")
        tail_W = self._ends_D.searchsorted(firsts_W + (length - 1), side="right")
        pieces_W = tail_W - head_W + 1  # documents that a window has a piece of
        window_P = np.repeat(np.arange(len(firsts_W)), pieces_W)
        document_P = np.arange(len(window_P)) + np.repeat(tail_W + 1 - pieces_W.cumsum(), pieces_W)
        ends_P = np.minimum(self._ends_D[document_P], firsts_W[window_P] + length)
        starts_P = np.maximum(np.where(document_P, self._ends_D[document_P - 1], 0), firsts_W[window_P])
        shifts_WxL = np.repeat(self._shifts_D[document_P], ends_P - starts_P).reshape(-1, length)
        windows_WxL: Tokens = self._tokens[firsts_W[:, None] + np.arange(length) + shifts_WxL]
        return windows_WxL
