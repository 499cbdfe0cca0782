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
        """Returns how many there are."""

    def __getitem__(self, span: slice) -> Tokens:
        """Returns some of them."""


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
        head, tail = self._ends_D.searchsorted([first, last - 1], side="right") if last > first else (0, -1)
        pieces = [self._tokens[:0]]
        for document in range(head, tail + 1):
            end = min(int(self._ends_D[document]), last)
            shift = int(self._shifts_D[document])
            pieces.append(self._tokens[first + shift : end + shift])
            first = end
        return np.concatenate(pieces)

    def windows(self, firsts_W: npt.NDArray[np.int64], length: int) -> Tokens:
        """Returns [W, length]: what starts at each of the positions."""
        head_W = self._ends_D.searchsorted(firsts_W, side="right")
        tail_W = self._ends_D.searchsorted(firsts_W + (length - 1), side="right")
        windows_WxL = np.empty((len(firsts_W), length), self._tokens.dtype)
        whole_W = head_W == tail_W  # in one document
        starts_W = (firsts_W + self._shifts_D[head_W])[whole_W]
        windows_WxL[whole_W] = self._tokens[starts_W[:, None] + np.arange(length)]
        for window in np.flatnonzero(~whole_W):
            first = int(firsts_W[window])
            windows_WxL[window] = self[first : first + length]
        return windows_WxL
