from typing import Any

import numpy as np
from corpora import store_of
from hypothesis import given
from hypothesis import strategies as st

from simulator.data.token_streams import StoredStream

LENGTHS = st.lists(st.integers(1, 7), min_size=1, max_size=12)


class Counted:
    """Tokens that count how many are read."""

    def __init__(self, tokens: np.ndarray):
        self.tokens, self.dtype, self.read = tokens, tokens.dtype, 0

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, key: Any) -> np.ndarray:
        found = self.tokens[key]
        self.read += found.size
        return found


@st.composite
def streams(draw: st.DrawFn) -> tuple[StoredStream, np.ndarray, Counted]:
    """Some documents in any order: as a stream, laid together, and the store's tokens."""
    store = store_of(draw(LENGTHS))
    documents = draw(st.lists(st.integers(0, len(store.lengths) - 1), min_size=1, unique=True))
    together = np.concatenate([store.document(index) for index in documents])
    tokens = vars(store)["tokens"] = Counted(store.tokens)
    return StoredStream(store, np.array(documents)), together, tokens


def test_two_documents_by_hand():
    stream = StoredStream(store_of([3, 1, 4]), np.array([2, 0]))
    assert len(stream) == 7
    assert stream[:].tolist() == [4, 5, 6, 7, 0, 1, 2]
    assert stream[3:6].tolist() == [7, 0, 1]
    assert stream.windows(np.array([4, 0, 3]), 3).tolist() == [[0, 1, 2], [4, 5, 6], [7, 0, 1]]


@given(streams(), st.none() | st.integers(-90, 90), st.none() | st.integers(-90, 90))
def test_a_slice_is_that_of_the_documents_laid_together(stream, first, last):
    stored, together, tokens = stream
    found = stored[first:last]
    np.testing.assert_array_equal(found, together[first:last])
    assert (len(stored), found.dtype, tokens.read) == (len(together), np.uint16, len(found))


@given(streams(), st.data())
def test_windows_are_slices(stream, data):
    stored, together, tokens = stream
    length = data.draw(st.integers(1, len(together)))
    firsts = data.draw(st.lists(st.integers(0, len(together) - length), max_size=5))
    windows = stored.windows(np.array(firsts, np.int64), length)
    assert (windows.shape, windows.dtype) == ((len(firsts), length), np.uint16)
    for window, first in zip(windows, firsts, strict=True):
        np.testing.assert_array_equal(window, together[first : first + length])
    assert tokens.read == len(firsts) * length


@given(streams(), st.data())
def test_the_first_and_the_last_window_reach_the_ends(stream, data):
    stored, together, _ = stream
    length = data.draw(st.integers(1, len(together)))
    windows = stored.windows(np.array([0, len(together) - length]), length)
    np.testing.assert_array_equal(windows, [together[:length], together[-length:]])


def test_no_documents_are_an_empty_stream():
    stream = StoredStream(store_of([3, 1]), np.array([], np.int64))
    assert (len(stream), stream[:1].tolist()) == (0, [])
