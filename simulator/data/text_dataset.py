"""Building a data set from the documents of a source."""

from collections.abc import Sequence

import numpy as np

from simulator.data.dataset import TextDataset
from simulator.data.partition import Division, check_groups, divide, unigram_divergences
from simulator.data.progress import PrepareProgress
from simulator.data.store import TokenStore, token_store
from simulator.data.token_streams import StoredStream
from simulator.data.windows import MOST_ADDRESSES, Text, cut_windows
from simulator.experiment.schema.data import DocumentData, IidPartition, RoutedPartition

_COUNTED = 2**22  # tokens of a shard from which its unigrams are counted


def load_text(
    data: DocumentData, *, shards: int, context: int, resident_bytes: float, progress: PrepareProgress | None = None
) -> TextDataset:
    """Returns the windows of a corpus, training and validation windows from different documents.

    The held-out documents and their division do not depend on the experiment's seed.
    """
    store, division = divided_text(data, shards, context, progress)
    alike = isinstance(data.partition, IidPartition | RoutedPartition)
    streams = [StoredStream(store, documents) for documents in division.training]
    more = "source: text with a larger corpus" if data.source == "python-stdlib" else "more text"
    text = Text(
        shards=streams,
        validation=StoredStream(store, division.validation),
        shard_validation=[] if alike else [StoredStream(store, documents) for documents in division.shard_validation],
        uneven=not data.even,
        vocabulary=store.meta["vocabulary"],
        content_hash=store.meta["content_hash"],
        facts={
            **store.meta["facts"],
            "bytes": store.meta["bytes"],
            "documents": store.meta["documents"],
            "training_documents": sum(map(len, division.training)),
            "validation_documents": len(division.validation),
            "tokenizer_hash": store.meta["tokenizer_hash"],
            "shard_divergence_bits": divergences(store, streams)[1],
        },
        longer_training=f"fewer data.shards, or {more}",
        longer_validation=f"a larger data.validation_fraction (now {data.validation_fraction}), or {more}",
        shorter="use data.feed: host",
    )
    addressable_bytes = MOST_ADDRESSES * store.tokens.dtype.itemsize
    resident = {"auto": min(resident_bytes, addressable_bytes), "device": np.inf, "host": 0}[data.feed]
    return cut_windows(text, context=context, resident_bytes=resident)


def divided_text(
    data: DocumentData, shards: int, context: int, progress: PrepareProgress | None = None
) -> tuple[TokenStore, Division]:
    """Returns the tokens of a corpus, prepared if necessary, and the division of its documents."""
    check_groups(data)
    store = token_store(data, progress)
    return store, divide(store, data, shards, context + 1, progress)


def divergences(store: TokenStore, shards: Sequence[StoredStream]) -> tuple[list[float], float]:
    """Returns the divergence of each shard, and their mean; see `unigram_divergences`."""
    counts = [np.bincount(stream[:_COUNTED], minlength=store.meta["vocabulary"]) for stream in shards]
    return unigram_divergences([own * (len(stream) / own.sum()) for own, stream in zip(counts, shards, strict=True)])
