"""Division of documents: held out, or dealt to shards alike, by groups, or in between."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.data.document_clusters import cluster_documents
from simulator.data.progress import PrepareProgress
from simulator.data.store import TokenStore
from simulator.experiment.schema.data import (
    ClusterGroups,
    DirichletPartition,
    DocumentData,
    GroupedPartition,
    IidPartition,
    RoutedPartition,
)
from simulator.host.errors import SettingError
from simulator.host.random_streams import data_stream

Indices = npt.NDArray[np.int64]
_DRAWS = 1000


@dataclass(frozen=True)
class Division:
    """Documents by their index in the store; none is in two places.

    Attributes:
        training: of every shard.
        validation: held out.
        shard_validation: of every shard, those of the held-out documents that are like its own; all of them where
            shards are alike.
    """

    training: tuple[Indices, ...]
    validation: Indices
    shard_validation: tuple[Indices, ...]


def check_groups(data: DocumentData) -> None:
    """Checks, before anything is read, that the source has the field or folders that group its documents.

    Raises:
        SettingError: it has not.
    """
    kind = getattr(getattr(data.partition, "groups", None), "kind", "clusters")
    absent, other = ("folder", "a field") if data.source == "tfds" else ("field", "folder")
    if kind == absent and data.source in ("tfds", "text", "python-stdlib"):
        message = f"source {data.source} has no {absent}s: group by {other} or by clusters"
        raise SettingError("data.partition.groups.kind", kind, message)


def divide(
    store: TokenStore, data: DocumentData, shards: int, least_tokens: int, progress: PrepareProgress | None = None
) -> Division:
    """Holds documents out and divides the rest into shards. Neither depends on the experiment's seed.

    Args:
        store: the documents.
        data: how to divide them; its groups have been checked.
        shards: number of shards.
        least_tokens: least number of tokens of a shard.
        progress: called with the progress.
    """
    order = data_stream("split of documents").permutation(store.meta["documents"])
    held_out = max(1, round(data.validation_fraction * len(order)))
    validation, training = order[:held_out], order[held_out:]
    if len(training) < shards:
        raise _too_few_documents(data, shards, len(training), held_out)
    match data.partition:
        case IidPartition() | RoutedPartition() as alike:  # routers divide windows anew
            sizes = alike.sizes if isinstance(alike, IidPartition) else None
            hands = deal(store.lengths[training], np.array(sizes or [1.0] * shards))
            return Division(tuple(training[hand] for hand in hands), validation, (validation,) * shards)
        case GroupedPartition(groups=groups) | DirichletPartition(groups=groups):
            groups_D = store.groups
            if isinstance(groups, ClusterGroups):
                groups_D = cluster_documents(store, data, groups.clusters or shards, progress)
    if isinstance(data.partition, DirichletPartition):
        alpha = data.partition.alpha
        shards_D = _dirichlet(groups_D, store.lengths, training, validation, shards, alpha, least_tokens)
    else:
        shards_D = _grouped(groups_D, store.lengths, training, shards)

    def of_shards(documents: Indices) -> tuple[Indices, ...]:
        sizes_S = np.bincount(shards_D[documents], minlength=shards)
        return tuple(np.split(documents[np.argsort(shards_D[documents], kind="stable")], sizes_S.cumsum()[:-1]))

    return Division(of_shards(training), validation, of_shards(validation))


def deal(lengths: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]) -> list[Indices]:
    """Deals things to shards in proportion to their weights: the longest first, each to the shard that lacks most.

    Args:
        lengths: int64 [D].
        weights: float64 [shards]; equal ones give shards of nearly equal length.

    Returns:
        For each shard the indices of its things, rising.
    """
    shares = weights / weights.sum() * lengths.sum()
    filled = [(-float(share), shard) for shard, share in enumerate(shares)]  # the negative of what each lacks
    heapq.heapify(filled)
    totals = [0] * len(weights)
    hands: list[list[int]] = [[] for _ in weights]
    for index in np.argsort(-lengths, kind="stable").tolist():
        _, shard = filled[0]
        hands[shard].append(index)
        totals[shard] += int(lengths[index])
        heapq.heapreplace(filled, (totals[shard] - float(shares[shard]), shard))
    return [np.array(sorted(hand), np.int64) for hand in hands]


def _grouped(
    groups_D: npt.NDArray[np.int32], lengths_D: npt.NDArray[np.int64], training: Indices, shards: int
) -> npt.NDArray[np.int64]:
    """Returns the shard of every document, int64 [D]; a group without training documents goes where it would fit."""
    sizes_G = np.bincount(groups_D[training], weights=lengths_D[training], minlength=int(groups_D.max()) + 1)
    present = np.count_nonzero(sizes_G)
    if present < shards:
        message = f"every shard needs a group of its own, but there are only {present}: use at most as many shards, "
        raise SettingError("data.shards", shards, message + "other groups, or partition kind dirichlet")
    shards_G = np.empty(len(sizes_G), np.int64)
    for shard, hand in enumerate(deal(sizes_G.astype(np.int64), np.ones(shards))):
        shards_G[hand] = shard
    return shards_G[groups_D]


def _dirichlet(
    groups_D: npt.NDArray[np.int32],
    lengths_D: npt.NDArray[np.int64],
    training: Indices,
    validation: Indices,
    shards: int,
    alpha: float,
    least_tokens: int,
) -> npt.NDArray[np.int64]:
    """Returns the shard of every document, int64 [D]. Drawn again until every shard has enough tokens."""
    random = data_stream("dirichlet partition")
    groups = int(groups_D.max()) + 1
    places_D = np.empty(len(groups_D))  # of a document's middle among all groups, each of length 1
    for documents in (training, validation):
        places_D[documents] = groups_D[documents] + _middles(groups_D[documents], lengths_D[documents])
    for _ in range(_DRAWS):
        shares_GxS = random.dirichlet(np.full(shards, alpha), size=groups)
        borders_GxS = np.arange(groups)[:, None] + shares_GxS.cumsum(axis=1)[:, :-1].clip(max=1)
        before_G = np.arange(groups) * (shards - 1)
        shards_D: npt.NDArray[np.int64] = borders_GxS.ravel().searchsorted(places_D) - before_G[groups_D]
        if np.bincount(shards_D[training], weights=lengths_D[training], minlength=shards).min() >= least_tokens:
            return shards_D
    message = f"{_DRAWS} draws of the proportions all left a shard with next to nothing: use a larger alpha, fewer "
    raise SettingError("data.partition.alpha", alpha, message + "data.shards, more groups, or more text")


def _middles(groups_D: npt.NDArray[np.int32], lengths_D: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Returns where each document's middle lies in its group: the group begins at 0 and ends at 1."""
    order = np.argsort(groups_D, kind="stable")
    groups, lengths = groups_D[order], lengths_D[order]
    sizes_G = np.bincount(groups, weights=lengths)
    starts_G = np.cumsum(sizes_G) - sizes_G
    middles_D = np.empty(len(groups_D))
    middles_D[order] = (np.cumsum(lengths) - lengths / 2 - starts_G[groups]) / sizes_G[groups]
    return middles_D


def _too_few_documents(data: DocumentData, shards: int, training: int, held_out: int) -> SettingError:
    finer = {"file": "paragraph", "paragraph": "line"}.get(getattr(data, "documents", ""))
    remedies = [f"at most {training} shards"] if training else []
    if finer is not None:
        remedies.append(f"data.documents: {finer}, which makes more documents of the same text")
    if held_out > 1:
        remedies.append(f"a smaller data.validation_fraction (now {data.validation_fraction})")
    remedies.append("source: text with more documents" if data.source == "python-stdlib" else "more files")
    absent = "" if data.shards else " (data.shards is absent: one for each worker)"
    return SettingError(
        "data.shards",
        shards,
        f"every shard needs a document of its own{absent}, but only {training} of {training + held_out} are left for "
        f"training ({held_out} held out for validation): use {', or '.join(remedies)}",
    )


def unigram_divergences(shards: Sequence[npt.NDArray[Any]]) -> tuple[list[float], float]:
    """Returns the shards' divergences, KL(p_i || p) in bits per token, and their mean weighted with the shards' sizes.

    p_i is the distribution of single tokens in shard i, p that in all of them; the mean is their Jensen-Shannon
    divergence: 0 where all are alike, at most the entropy of the shards' sizes where they have no token in common.

    Args:
        shards: for each the counts of each token, [vocabulary]; their sums are the sizes.
    """
    sizes_S = np.array([counts_V.sum() for counts_V in shards])
    all_V = np.sum(shards, axis=0) / sizes_S.sum()
    bits = []
    for counts_V, size in zip(shards, sizes_S, strict=True):
        used = np.flatnonzero(counts_V)
        own = counts_V[used] / size
        bits.append(max(float(own @ np.log2(own / all_V[used])), 0.0))  # rounding
    return bits, float(np.array(bits) @ sizes_S / sizes_S.sum())
