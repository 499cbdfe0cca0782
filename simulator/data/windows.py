"""Cutting token streams into windows: the addresses of a text data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulator.data.dataset import Addresses, HostWindows, TextDataset
from simulator.data.token_streams import StoredStream, Stream
from simulator.host.errors import SettingError
from simulator.host.random_streams import data_stream

MOST_ADDRESSES = 2**31 - 1


@dataclass(frozen=True)
class Text:
    """Parts of a text data set.

    Attributes:
        shards: a stream of tokens for each.
        validation: the stream that is held out.
        shard_validation: what of it is like each shard; none where all shards are alike.
        uneven: whether shards have as many windows as they can, not as many as the shortest.
        vocabulary: number of token ids.
        content_hash: sha256 of the content.
        facts: for the run record.
        longer_training, longer_validation: remedies, besides a shorter context, where these are too short.
        shorter: remedy where there is more text than addresses.
        best_loss: in nats per token, if known.
    """

    shards: Sequence[Stream]
    validation: Stream
    vocabulary: int
    content_hash: str
    facts: Mapping[str, int | str | float]
    longer_training: str
    longer_validation: str
    shorter: str
    shard_validation: Sequence[Stream] = ()
    uneven: bool = False
    best_loss: float | None = None


def check_addressable(count: int, remedy: str, what: str = "tokens") -> None:
    """Checks that everything has a 32-bit address.

    Raises:
        SettingError: there is too much.
    """
    if count > MOST_ADDRESSES:
        message = f"at most {MOST_ADDRESSES} can be addressed: {remedy}"
        raise SettingError("data", f"{count} {what}", message)


def cut_windows(text: Text, *, context: int, resident_bytes: float = np.inf) -> TextDataset:
    """Cuts every stream into windows of `context` inputs and one more target.

    Windows of a stream do not overlap, except that the last target of one is the first input of the next. All shards
    get as many windows as the shortest has, unless they are uneven; the tokens behind the last window of a stream are
    dropped.

    Args:
        text: the streams; those of a store where they may stay on the host.
        context: input tokens of a window.
        resident_bytes: what takes more stays on the host, and is gathered from there.
    """
    _check_lengths(text, context)
    streams = [*text.shards, text.validation, *text.shard_validation]
    shards = len(text.shards)
    counts = window_counts([len(stream) for stream in streams], shards, context, uneven=text.uneven)
    lengths = [count * context + 1 if count else 0 for count in counts]
    item = text.shards[0][:1].dtype.itemsize
    resident = sum(lengths) * item <= resident_bytes
    arrays, on_host = {}, None
    if resident:
        check_addressable(sum(lengths), text.shorter)
        firsts = _starts(lengths)
        arrays["tokens"] = np.concatenate([stream[:length] for stream, length in zip(streams, lengths, strict=True)])
    else:
        check_addressable(sum(counts), "use a larger model.context, or less text", "windows")
        firsts = _starts(counts)
        on_host = HostWindows(_stored(streams), firsts)
    stride = context if resident else 1
    each = [_addresses(int(first), count, stride) for first, count in zip(firsts, counts, strict=True)]
    return TextDataset(
        arrays=arrays,
        on_host=on_host,
        vocabulary=text.vocabulary,
        shard_examples=tuple(each[:shards]),
        validation=data_stream("order of validation windows").permutation(each[shards]),
        shard_validation=tuple(
            data_stream(f"order of validation windows, shard {shard}").permutation(own)
            for shard, own in enumerate(each[shards + 1 :])
        ),
        content_hash=text.content_hash,
        best_loss=text.best_loss,
        facts={
            **text.facts,
            "training_tokens": sum(lengths[:shards]),
            "validation_tokens": lengths[shards],
            "unused_tokens": sum(map(len, streams[: shards + 1])) - sum(lengths[: shards + 1]),
            "windows_of_smallest_shard" if text.uneven else "windows_per_shard": min(counts[:shards]),
            "validation_windows": counts[shards],
        },
        context=context,
    )


def window_counts(lengths: Sequence[int], shards: int, context: int, *, uneven: bool) -> list[int]:
    """Returns the number of windows of each stream.

    Args:
        lengths: tokens of the streams, those of the shards first.
        shards: number of shards.
        context: input tokens of a window.
        uneven: whether shards have as many windows as they can, not as many as the shortest.
    """
    counts = [max(length - 1, 0) // context for length in lengths]
    if not uneven:
        counts[:shards] = [min(counts[:shards])] * shards
    return counts


def _starts(lengths: Sequence[int]) -> npt.NDArray[np.int64]:
    return np.cumsum([0, *lengths[:-1]], dtype=np.int64)


def _stored(streams: Sequence[Stream]) -> tuple[StoredStream, ...]:
    stored = tuple(stream for stream in streams if isinstance(stream, StoredStream))
    if len(stored) < len(streams):
        raise TypeError("only the streams of a store can stay on the host")
    return stored


def _check_lengths(text: Text, context: int) -> None:
    shortest = min(len(stream) for stream in text.shards)
    for tokens, what, remedy in (
        (shortest, f"the smallest of {len(text.shards)} shards", text.longer_training),
        (len(text.validation), "the validation text", text.longer_validation),
    ):
        if tokens < context + 1:
            raise SettingError(
                "model.context",
                context,
                f"a window takes {context + 1} tokens, but {what} has only {tokens}: "
                f"use a context of at most {max(tokens - 1, 0)}, or {remedy}",
            )


def _addresses(first: int, count: int, stride: int) -> Addresses:
    return (first + stride * np.arange(count)).astype(np.int32)
