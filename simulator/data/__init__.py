"""What workers learn from: sources, shards, and the order in which a shard's examples are visited."""

from simulator.data.dataset import ClassificationDataset, Dataset, TextDataset
from simulator.data.errors import DataError
from simulator.data.load import load_dataset, vocabulary_of
from simulator.data.order import DataOrder

__all__ = ["ClassificationDataset", "DataError", "DataOrder", "Dataset", "TextDataset", "load_dataset", "vocabulary_of"]
