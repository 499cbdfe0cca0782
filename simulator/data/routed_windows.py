"""Division of a text's windows among shards by the losses of routers, a router for each shard."""

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from simulator.data.dataset import Addresses, Dataset
from simulator.data.partition import unigram_divergences

_COUNTED = 2**22  # tokens of a shard from which its unigrams are counted

Losses = npt.NDArray[np.float32]
"""Of windows under each router, [windows, routers]."""


def balanced_assignment(losses_WxR: Losses) -> npt.NDArray[np.int64]:
    """Returns the router of every window, int64 [W]: to each goes an equal part, rounded up.

    Windows choose in the order of their lowest losses, each the router with the lowest one that has room (SMALLTALK LM,
    arXiv 2410.03529); ties go to the first window and the first router.
    """
    windows, routers = losses_WxR.shape
    room = [-(-windows // routers)] * routers
    preferred_WxR = np.argsort(losses_WxR, axis=1, kind="stable").tolist()
    router_W = np.empty(windows, np.int64)
    for window in np.argsort(losses_WxR.min(axis=1), kind="stable").tolist():
        router = next(each for each in preferred_WxR[window] if room[each])
        router_W[window] = router
        room[router] -= 1
    return router_W


def routed_windows(dataset: Dataset, losses_of: Callable[[Addresses], Losses]) -> Dataset:
    """Returns the data set with its windows divided anew: those of training in equal parts.

    Those of validation go where their loss is lowest, as in use, so that some shards may have none.

    Args:
        dataset: text, whose shards have as many windows each.
        losses_of: from the addresses of windows to their losses.
    """
    shards = len(dataset.shard_examples)
    windows = np.concatenate(dataset.shard_examples)
    router_W = balanced_assignment(losses_of(windows))
    router_V = losses_of(dataset.validation).argmin(axis=1)
    each = tuple(windows[router_W == shard] for shard in range(shards))
    return dataclasses.replace(
        dataset,
        shard_examples=each,
        shard_validation=tuple(dataset.validation[router_V == shard] for shard in range(shards)),
        facts={**dataset.facts, "shard_divergence_bits": _divergence(dataset, each)},
    )


def _divergence(dataset: Dataset, shards: tuple[Addresses, ...]) -> float:
    """Returns the mean divergence of the shards; see `unigram_divergences`."""
    counts = []
    for examples in shards:
        first = dataset.gather(examples[:1])
        length = dataset.fetch(dataset.arrays, first).shape[1] - 1
        tokens_WxT = dataset.fetch(dataset.arrays, dataset.gather(examples[: max(1, _COUNTED // length)]))[:, :-1]
        counted_V = np.bincount(tokens_WxT.ravel(), minlength=dataset.vocabulary)
        counts.append(counted_V * (len(examples) * length / counted_V.sum()))
    return unigram_divergences(counts)[1]
