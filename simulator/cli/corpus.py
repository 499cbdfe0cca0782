"""Output of `tardigrad data info`."""

import math

import yaml
from rich.console import Group
from rich.table import Table
from rich.text import Text

from simulator.data import CorpusInfo
from simulator.host import format as human
from simulator.report.terminal_table import TerminalTable

_MOST_SHARDS = 32
_SAMPLE = 77  # characters


def corpus_report(info: CorpusInfo) -> Group:
    """Returns the corpus' size, its shards, and how a few of its documents begin."""
    samples = [Text(f"{' '.join(sample.split())[:_SAMPLE]}…", style="dim") for sample in info.samples]
    return Group(_facts(info), "", _shards(info), "", "documents begin:", *samples)


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
