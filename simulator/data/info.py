"""Statistics of a corpus: its size, its division, and a few samples."""

from dataclasses import dataclass

from simulator.data.store import TokenStore, encoder_of
from simulator.data.text_dataset import divergences, divided_text
from simulator.data.token_streams import StoredStream
from simulator.experiment.schema.data import DocumentData

_SAMPLES, _SAMPLE_TOKENS = 4, 60


@dataclass(frozen=True)
class ShardInfo:
    """One shard.

    Attributes:
        documents: number of its training documents.
        tokens: number of their tokens.
        divergence_bits: KL divergence of its tokens from all shards' tokens, in bits per token.
    """

    documents: int
    tokens: int
    divergence_bits: float


@dataclass(frozen=True)
class CorpusInfo:
    """A corpus and its division.

    Attributes:
        data: the section that describes it.
        store: its tokens.
        shards: one by one.
        divergence_bits: the mean of theirs, weighted with their sizes: their Jensen-Shannon divergence.
        validation_documents: held out.
        validation_tokens: in them.
        samples: beginnings of a few documents.
    """

    data: DocumentData
    store: TokenStore
    shards: tuple[ShardInfo, ...]
    divergence_bits: float
    validation_documents: int
    validation_tokens: int
    samples: tuple[str, ...]


def corpus_info(data: DocumentData, *, shards: int, context: int) -> CorpusInfo:
    """Returns the statistics of a `data` section's corpus, whose tokens are prepared if necessary.

    Raises:
        SettingError: the corpus cannot be read, or is too small for the shards.
    """
    store, division = divided_text(data, shards, context)
    streams = [StoredStream(store, documents) for documents in division.training]
    bits, mean = divergences(store, streams)
    encoder = encoder_of(data, store)
    documents = store.meta["documents"]
    chosen = dict.fromkeys(number * documents // _SAMPLES for number in range(_SAMPLES))
    return CorpusInfo(
        data,
        store,
        tuple(
            ShardInfo(len(documents), len(stream), divergence)
            for documents, stream, divergence in zip(division.training, streams, bits, strict=True)
        ),
        mean,
        len(division.validation),
        len(StoredStream(store, division.validation)),
        tuple(encoder.decode(store.document(index)[:_SAMPLE_TOKENS].tolist()) for index in chosen),
    )
