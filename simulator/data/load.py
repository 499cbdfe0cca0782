"""Loading the data set of an experiment's `data` section."""

import math

from simulator.data.dataset import Dataset
from simulator.data.gaussian_clusters import load_clusters
from simulator.data.progress import PrepareProgress
from simulator.data.synthetic import load_synthetic
from simulator.data.text_dataset import load_text
from simulator.data.tokenizers import ready
from simulator.experiment.schema.data import ClustersData, Data, NoData, SyntheticData, TrainedTokenizer
from simulator.host.errors import SettingError


def vocabulary_of(data: Data) -> int:
    """Returns the number of token ids, or of classes, without reading the data: the most of a tokenizer to be trained.

    Raises:
        SettingError: the tokenizer's file cannot be read, or is none.
    """
    match data:
        case ClustersData():
            return data.classes
        case SyntheticData():
            return data.vocabulary
        case NoData():
            return 0
        case _ if isinstance(data.tokenizer, TrainedTokenizer):
            return data.tokenizer.vocabulary
        case _:
            encoder = ready(data.tokenizer)
            assert encoder is not None
            return encoder.vocabulary


def load_dataset(
    data: Data,
    *,
    shards: int,
    context: int | None,
    resident_bytes: float = math.inf,
    progress: PrepareProgress | None = None,
) -> Dataset:
    """Reads or draws the data and divides it into shards. The same arguments give the same data set.

    Args:
        data: the experiment's `data` section.
        shards: number of shards.
        context: input tokens of a window of text; None for data without one.
        resident_bytes: text that takes more stays on the host, unless the section says where it is to be.
        progress: called with the progress of preparing tokens.

    Raises:
        SettingError: with the key, its value and the remedy.
    """
    if shards < 1:
        raise SettingError("data.shards", shards, "there must be at least one shard")
    if isinstance(data, NoData):
        raise SettingError("data.source", data.source, "there is nothing to train on: give a source")
    if isinstance(data, ClustersData):
        if context is not None:
            raise SettingError("model.context", context, f"source {data.source} has no tokens: leave the context out")
        return load_clusters(data, shards=shards)
    if context is None or context < 1:
        raise SettingError(
            "model.context", context, f"source {data.source} is text: give a context of at least 1 token"
        )
    if isinstance(data, SyntheticData):
        return load_synthetic(data, shards=shards, context=context)
    return load_text(data, shards=shards, context=context, resident_bytes=resident_bytes, progress=progress)
