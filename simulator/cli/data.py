"""Text of an experiment file: `data prepare` and `data info`."""

import math
from collections.abc import Iterable
from pathlib import Path

import yaml
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from simulator.cli.output import say
from simulator.cli.plugins import use_plugins
from simulator.cli.reading import read_file
from simulator.data import CorpusInfo, corpus_info, token_store
from simulator.experiment import ExperimentError, Problem
from simulator.experiment.schema.data import DocumentData, RoutedPartition, TextSource
from simulator.host import format as human
from simulator.host.terminal_table import TerminalTable
from simulator.learning.model import context_of

_MOST_SHARDS = 32
_SAMPLE = 77  # characters


def prepare(file: Path, settings: list[str] | None, variant: str | None, plugin: list[str] | None) -> None:
    """Turns the text of a file into tokens."""
    use_plugins(plugin)
    stores = {store.folder: store for store in (token_store(data) for data, _, _ in _texts(file, settings, variant))}
    for store in stores.values():
        say(f"{store.meta['documents']:,} documents, {store.meta['tokens']:,} tokens in {store.folder}")


def info(file: Path, settings: list[str] | None, variant: str | None, plugin: list[str] | None) -> None:
    """Prints each corpus' size, its shards, and how a few of its documents begin."""
    use_plugins(plugin)
    for data, shards, context in _texts(file, settings, variant):
        found = corpus_info(data, shards=shards, context=context)
        samples = [Text(f"{' '.join(sample.split())[:_SAMPLE]}…", style="dim") for sample in found.samples]
        routed = "shards: routers divide the windows when a run begins; its summary has their divergence"
        divided = Text(routed) if isinstance(data.partition, RoutedPartition) else _shards(found)
        Console().print(Group(_facts(found), "", divided, "", "documents begin:", *samples), "")


def _texts(file: Path, settings: list[str] | None, variant: str | None) -> Iterable[tuple[DocumentData, int, int]]:
    """Returns every text of a file, prepared, with its number of shards and the context, each combination once."""
    points = read_file(file, settings, variant).points
    texts = {}
    for experiment in (point.experiment for point in points):
        context = context_of(experiment)
        if isinstance(experiment.data, TextSource) and context is not None:
            text = experiment.data, experiment.shards, context
            texts[repr(text)] = text
    if not texts:
        source = points[0].experiment.data.source
        raise ExperimentError([Problem("data.source", "is drawn, not read: there is nothing to prepare", source, file)])
    return texts.values()


def _facts(info: CorpusInfo) -> Table:
    meta, partition = info.store.meta, info.data.partition.model_dump(mode="json", exclude_none=True)
    table = Table.grid(padding=(0, 2))
    for name, value in {
        "source": info.data.source,
        "partition": yaml.safe_dump(partition, default_flow_style=True, sort_keys=False, width=math.inf).strip(),
        "documents": human.count(meta["documents"]),
        "text": human.byte_count(meta["bytes"]),
        "tokens": f"{human.count(meta['tokens'])}, {meta['bytes'] / meta['tokens']:.2f} bytes each",
        "tokens of a document": f"{human.decimal(meta['tokens'] / meta['documents'], 1)} in the mean",
        "vocabulary": human.count(meta["vocabulary"]),
        "held out": f"{human.count(info.validation_documents)} documents, {human.count(info.validation_tokens)} tokens",
        "sha256 of the text": meta["content_hash"],
        "sha256 of the tokenizer": meta["tokenizer_hash"],
        "kept in": str(info.store.folder),
    }.items():
        table.add_row(name, Text(value, overflow="fold"))
    return table


def _shards(info: CorpusInfo) -> Table:
    table = TerminalTable(None, "divergence: KL from all shards together, bits per token")
    for header in ("shard", "documents", "tokens", "share", "divergence"):
        table.add_numbers(header)
    total = sum(shard.tokens for shard in info.shards)
    for number, shard in enumerate(info.shards[:_MOST_SHARDS]):
        amounts = human.count(shard.documents), human.count(shard.tokens), human.percent(shard.tokens / total)
        table.add_row(str(number), *amounts, human.decimal(shard.divergence_bits, 4))
    documents = sum(shard.documents for shard in info.shards)
    name = f"all {len(info.shards):,}"
    table.add_row(name, human.count(documents), human.count(total), "", human.decimal(info.divergence_bits, 4))
    return table
