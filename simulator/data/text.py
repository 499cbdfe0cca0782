"""From documents to a data set: the split, the deal to the shards, and the bytes as tokens."""

import hashlib
import heapq
import platform
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from simulator.data.dataset import TextDataset
from simulator.data.errors import DataError
from simulator.data.randomness import named_generator
from simulator.data.sources import read_standard_library, read_text_files
from simulator.data.windows import Remedies, Tokens, cut_windows, token_dtype
from simulator.experiment.schema import StdlibData, TextData

END_OF_DOCUMENT = 256
"""Token id that follows every document; ids 0 ... 255 are its bytes."""
VOCABULARY = 257


def load_text(data: StdlibData | TextData, *, shards: int, context: int) -> TextDataset:
    """Returns the windows of a corpus, training and validation windows from different documents.

    The held-out documents and the deal to the shards do not depend on the experiment's seed.

    Raises:
        DataError: the corpus cannot be read, or is too small for the shards or the context.
    """
    facts: dict[str, int | str | float] = {}
    if isinstance(data, StdlibData):
        documents = read_standard_library()
        facts["python_version"] = platform.python_version()
        finer = None
    else:
        documents = read_text_files(data.files, data.documents)
        finer = {"file": "data.documents: paragraph", "paragraph": "data.documents: line", "line": None}[data.documents]
    order = [documents[index] for index in named_generator("split of documents").permutation(len(documents))]
    held_out = max(1, round(data.validation_fraction * len(order)))
    validation, training = order[:held_out], order[held_out:]
    if len(training) < shards:
        raise _too_few_documents(data, shards, len(training), held_out, finer)
    more = "more text" if isinstance(data, TextData) else "source: text with a larger corpus"
    return cut_windows(
        [to_tokens(shard) for shard in deal(training, shards)],
        to_tokens(validation),
        context=context,
        vocabulary=VOCABULARY,
        content_hash=hash_documents(documents),
        facts=_count(facts, documents, held_out),
        remedies=Remedies(
            training=f"fewer data.shards, or {more}",
            validation=f"a larger data.validation_fraction (now {data.validation_fraction}), or {more}",
            total="use fewer files",
        ),
    )


def _count(
    facts: Mapping[str, int | str | float], documents: Sequence[bytes], held_out: int
) -> dict[str, int | str | float]:
    return {
        **facts,
        "bytes": sum(map(len, documents)),
        "documents": len(documents),
        "training_documents": len(documents) - held_out,
        "validation_documents": held_out,
    }


def _too_few_documents(
    data: StdlibData | TextData, shards: int, training: int, held_out: int, finer: str | None
) -> DataError:
    remedies = [f"at most {training} shards"] if training else []
    if finer is not None:
        remedies.append(f"{finer}, which makes more documents of the same text")
    if held_out > 1:
        remedies.append(f"a smaller data.validation_fraction (now {data.validation_fraction})")
    remedies.append("more files" if isinstance(data, TextData) else "source: text with more documents")
    absent = "" if data.shards else " (data.shards is absent: one for each worker)"
    return DataError(
        "data.shards",
        shards,
        f"every shard needs a document of its own{absent}, but only {training} of {training + held_out} are left for "
        f"training ({held_out} held out for validation): use {', or '.join(remedies)}",
    )


def deal(documents: Sequence[bytes], shards: int) -> list[list[bytes]]:
    """Deals documents to shards of nearly equal length: the largest first, each to the shard that is shortest so far.

    Within a shard the documents keep the order they came in.
    """
    lengths = [(0, shard) for shard in range(shards)]
    hands: list[list[int]] = [[] for _ in range(shards)]
    for index in sorted(range(len(documents)), key=lambda index: -len(documents[index])):
        length, shard = lengths[0]
        hands[shard].append(index)
        heapq.heapreplace(lengths, (length + len(documents[index]) + 1, shard))
    return [[documents[index] for index in sorted(hand)] for hand in hands]


def to_tokens(documents: Sequence[bytes]) -> Tokens:
    """Returns uint16 [N]: the documents' bytes, each document followed by END_OF_DOCUMENT."""
    ends = np.cumsum([len(document) + 1 for document in documents]) - 1
    tokens_N = np.empty(ends[-1] + 1, token_dtype(VOCABULARY))
    is_byte_N = np.ones(len(tokens_N), bool)
    is_byte_N[ends] = False
    tokens_N[is_byte_N] = np.frombuffer(b"".join(documents), np.uint8)
    tokens_N[ends] = END_OF_DOCUMENT
    return tokens_N


def hash_documents(documents: Iterable[bytes]) -> str:
    """Returns the sha256 of the documents in their order, where each one ends included."""
    digest = hashlib.sha256()
    for document in documents:
        digest.update(len(document).to_bytes(8, "little"))
        digest.update(document)
    return digest.hexdigest()
