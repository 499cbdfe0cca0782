"""Training data: sources, shards, and the order in which a shard's examples are visited.

Data that cannot be had as an experiment says are a `SettingError` with the key, its value and the remedy, whichever
part finds that out.
"""

from simulator.data.batch_order import DataOrder
from simulator.data.dataset import ClassificationDataset, Dataset, TextDataset
from simulator.data.info import CorpusInfo, corpus_info
from simulator.data.load import load_dataset, vocabulary_of
from simulator.data.progress import PrepareProgress
from simulator.data.store import token_store

__all__ = [
    "ClassificationDataset",
    "CorpusInfo",
    "DataOrder",
    "Dataset",
    "PrepareProgress",
    "TextDataset",
    "corpus_info",
    "load_dataset",
    "token_store",
    "vocabulary_of",
]
