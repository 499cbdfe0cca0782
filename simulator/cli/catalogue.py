"""Names that an experiment file can use: `profiles` and `models`."""

from rich.console import Console
from rich.table import Table

import models
from simulator.cli.plugins import begin_jax
from simulator.cluster import MEMORY, PEAK_FLOPS, PROFILES, profile_step_s
from simulator.host.terminal_table import TerminalTable


def profiles() -> None:
    """Prints the heterogeneity profiles and the accelerators."""
    Console().print(profiles_table(), "", accelerators_table())


def presets() -> None:
    """Prints the model presets."""
    begin_jax()
    Console().print(presets_table())


def profiles_table() -> Table:
    """Returns the heterogeneity profiles."""
    table = _table("cluster.devices: {profile: NAME, workers: N}", "profile")
    table.add_column("seconds per step\nof 4 workers", no_wrap=True)
    table.add_numbers("slowest /\nfastest")
    for name in PROFILES:
        step_s = profile_step_s(name, 4)
        table.add_row(name, ", ".join(f"{value:.2f}" for value in step_s), f"{step_s[-1] / step_s[0]:.2f}")
    return table


def accelerators_table() -> Table:
    """Returns the accelerators whose peak and memory are known."""
    table = _table("cluster.devices: {accelerators: [{name: NAME, count: N, utilization: 0.4}]}", "name")
    table.add_numbers("dense 16-bit peak,\nTFLOP/s")
    table.add_numbers("memory,\nGB")
    for name, peak in PEAK_FLOPS.items():
        table.add_row(name, f"{peak / 1e12:.0f}", f"{MEMORY[name] / 1e9:.0f}")
    return table


def presets_table() -> Table:
    """Returns the model presets."""
    table = _table("model: {kind: transformer, preset: NAME}", "preset")
    for header in ("layers", "width", "heads", "head\nwidth", "con-\ntext", "vocab-\nulary", "tied", "parameters"):
        table.add_numbers(header)
    table.add_numbers("GFLOP per\nsequence")
    for name, config in models.PRESETS.items():
        model = models.transformer(config)
        sizes = (config.layers, config.width, config.heads, config.head_width, config.context, config.vocabulary)
        tied = "yes" if config.tied else "no"
        flops = f"{model.train_flops(1) / 1e9:,.1f}"
        table.add_row(name, *(f"{size:,}" for size in sizes), tied, f"{model.parameters:,}", flops)
    return table


def _table(title: str, first: str) -> TerminalTable:
    table = TerminalTable(title)
    table.title_justify = "left"
    table.add_words(first)
    return table
