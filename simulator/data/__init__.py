"""Training data: sources, shards, and the order in which a shard's examples are visited."""

from simulator.data.batch_order import DataOrder
from simulator.data.dataset import ClassificationDataset, Dataset, TextDataset
from simulator.data.info import CorpusInfo, corpus_info
from simulator.data.load import load_dataset, vocabulary_of
from simulator.data.progress import Progress as PrepareProgress
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
