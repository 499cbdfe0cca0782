"""From token streams to windows: the addresses of a text data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.data.dataset import Addresses, TextDataset
from simulator.data.errors import DataError
from simulator.data.randomness import named_generator

Tokens = npt.NDArray[Any]
"""Token ids [N], of the smallest dtype that holds the vocabulary."""

_MOST_TOKENS = 2**31 - 1


@dataclass(frozen=True)
class Remedies:
    """What the user can change, besides a shorter context, when a stream does not fit the windows.

    Attributes:
        training: when the smallest shard is too short.
        validation: when the validation text is too short.
        total: when there is more text than addresses.
    """

    training: str
    validation: str
    total: str


def token_dtype(vocabulary: int) -> type[np.uint8] | type[np.uint16] | type[np.int32]:
    """Returns the smallest dtype that holds token ids 0 ... vocabulary - 1."""
    if vocabulary <= 2**8:
        return np.uint8
    return np.uint16 if vocabulary <= 2**16 else np.int32


def check_addressable(tokens: int, remedy: str) -> None:
    """Checks that every token has a 32-bit address.

    Raises:
        DataError: there are too many.
    """
    if tokens > _MOST_TOKENS:
        raise DataError("data", f"{tokens} tokens", f"at most {_MOST_TOKENS} can be addressed on the device: {remedy}")


def cut_windows(
    shard_streams: Sequence[Tokens],
    validation_stream: Tokens,
    *,
    context: int,
    vocabulary: int,
    content_hash: str,
    facts: Mapping[str, int | str | float],
    remedies: Remedies,
    best_loss: float | None = None,
) -> TextDataset:
    """Cuts every stream into windows of `context` inputs and one more target, and joins the streams in one array.

    Windows of a stream do not overlap, except that the last target of one is the first input of the next. All shards
    get as many windows as the shortest has; the tokens behind the last window of a stream are dropped.

    Raises:
        DataError: a stream is too short for one window, or the text too long for 32-bit addresses.
    """
    shortest = min(len(stream) for stream in shard_streams)
    for tokens, what, remedy in (
        (shortest, f"the smallest of {len(shard_streams)} shards", remedies.training),
        (len(validation_stream), "the validation text", remedies.validation),
    ):
        if tokens < context + 1:
            raise DataError(
                "model.context",
                context,
                f"a window takes {context + 1} tokens, but {what} has only {tokens}: "
                f"use a context of at most {max(tokens - 1, 0)}, or {remedy}",
            )
    windows = (shortest - 1) // context
    counts = [windows] * len(shard_streams) + [(len(validation_stream) - 1) // context]
    lengths = [count * context + 1 for count in counts]
    check_addressable(sum(lengths), remedies.total)
    streams = [*shard_streams, validation_stream]
    tokens_N = np.concatenate([stream[:length] for stream, length in zip(streams, lengths, strict=True)])
    firsts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    *shards, validation = (_starts(first, count, context) for first, count in zip(firsts, counts, strict=True))
    return TextDataset(
        arrays={"tokens": tokens_N},
        vocabulary=vocabulary,
        shard_examples=tuple(shards),
        validation=named_generator("order of validation windows").permutation(validation),
        content_hash=content_hash,
        best_loss=best_loss,
        facts={
            **facts,
            "training_tokens": sum(lengths[:-1]),
            "validation_tokens": lengths[-1],
            "unused_tokens": sum(map(len, streams)) - sum(lengths),
            "windows_per_shard": windows,
            "validation_windows": counts[-1],
        },
        context=context,
    )


def _starts(first: int, count: int, context: int) -> Addresses:
    return (first + context * np.arange(count)).astype(np.int32)
