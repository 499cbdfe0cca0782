"""Options and help of every command. A function of the same name does it, in a module that is loaded when it is called.

So help is shown, and a mistaken option refused, without loading JAX, numpy or pandas.
"""

import functools
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from simulator.sweep.engines import RETRIES

_argument = functools.partial(typer.Argument, show_default=False)
_option = functools.partial(typer.Option, show_default=False)

File = Annotated[Path, _argument(help="experiment file")]
Settings = Annotated[list[str] | None, _argument(help="settings that win over the file, as key.path=value")]
Out = Annotated[Path | None, _option(help="output folder; runs/NAME when absent")]
Variant = Annotated[str | None, _option(help="only this variant of the file")]
Plugin = Annotated[
    list[str] | None,
    _option(
        help="runs this Python file or module first: it can register policies and optimizers; use code that you trust"
    ),
]
Runs = Annotated[list[Path], _argument(help="run folders, or folders that hold them")]


def run(
    file: File,
    settings: Settings = None,
    out: Out = None,
    variant: Variant = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="go on in the output folder, if it is there; what is finished is kept"),
    ] = False,
    reuse: Annotated[
        bool, typer.Option(help="take over what a simulation with the same order of events has trained")
    ] = True,
    profile: Annotated[
        bool, typer.Option("--profile", help="trace a few rounds with JAX's profiler, into the output folder")
    ] = False,
    plugin: Plugin = None,
    tracker: Annotated[
        list[str] | None, _option(help="also log to this: tensorboard or wandb; with simulated time as an axis")
    ] = None,
    jobs: Annotated[int | None, _option(min=1, help="local processes side by side; 1 when absent")] = None,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="this machine, or an existing Ray cluster (extra ray)")
    ] = "local",
    address: Annotated[str | None, _option(help="ray: of the cluster; the one that Ray finds when absent")] = None,
    cpus: Annotated[float | None, _option(help="ray: CPUs of a task; as many as this machine has when absent")] = None,
    gpus: Annotated[float | None, _option(help="ray: GPUs of a task, or which part of one")] = None,
    memory: Annotated[str | None, _option(help="ray: memory of a task, such as 4GB")] = None,
    retries: Annotated[
        int, typer.Option(min=0, help="how often a point whose process or machine is gone is tried again")
    ] = RETRIES,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show the points and an estimate of what they cost; simulate nothing")
    ] = False,
    rate: Annotated[
        str | None, _option(help="dry run: speed of training, such as 5TFLOP/s; measured when absent")
    ] = None,
) -> None:
    """Simulate and train every variant and sweep point of an experiment file."""


def timeline(
    file: File, settings: Settings = None, out: Out = None, variant: Variant = None, plugin: Plugin = None
) -> None:
    """Simulate the cluster alone, training nothing: utilisation, staleness, bytes, Gantt pictures."""


def plan(
    file: File,
    settings: Settings = None,
    out: Annotated[
        Path | None, _option(help="folder for the plan, its figure, and what was simulated; none when absent")
    ] = None,
    figure: Annotated[Path | None, _option(help="draw it, a row for each variant, to this file")] = None,
    variant: Variant = None,
    plugin: Plugin = None,
) -> None:
    """Say what a cluster takes for each variant: time, utilisation, data, money, memory, bandwidth; no training."""


class Figure(StrEnum):
    """Kinds of figures; an enumeration, since typer takes no list of literals."""

    PERPLEXITY = "perplexity"
    PARETO = "pareto"
    PSEUDO_GRADIENTS = "pseudo_gradients"
    STALENESS = "staleness"
    UTILIZATION = "utilization"
    TIMELINE = "timeline"


def plot(
    runs: Runs,
    out: Annotated[Path | None, _option(help="folder for the figures; the first of RUNS when absent")] = None,
    against: Annotated[
        Literal["simulated_s", "local_steps", "tokens", "bytes_sent", "money"] | None,
        _option(help="draw perplexity against this"),
    ] = None,
    by: Annotated[
        list[str] | None, _option(help="key that tells groups of runs apart, such as inner.local_steps; several")
    ] = None,
    target: Annotated[
        list[float] | None, _option(help="perplexity to reach: lines, and a table of what that took; several")
    ] = None,
    baseline: Annotated[str | None, _option(help="variant that this table compares with")] = None,
    heatmap: Annotated[tuple[str, str] | None, _option(help="two keys: a heat map, and no other figures")] = None,
    x: Annotated[
        str | None, _option("--x", help="a key that is a number, such as parameters: a value against it, nothing else")
    ] = None,
    value: Annotated[
        str, typer.Option(help="what both show: a key of the summary, money, time_to_target, ...")
    ] = "final_perplexity",
    fit: Annotated[Literal["power"] | None, _option(help="with --x: a law through each group's points")] = None,
    figure: Annotated[list[Figure] | None, _option(help="only this; several")] = None,
    table: Annotated[
        Literal["print", "csv", "parquet"] | None,
        _option(help="print the figures' tables alone, or write them too"),
    ] = None,
) -> None:
    """Draw perplexity over time, steps, data or money, staleness, utilization, timelines, heat maps; tables of them."""


def report(
    runs: Runs,
    out: Annotated[
        Path | None, _option("--out", "-o", help="file to write; report.html in the first of RUNS when absent")
    ] = None,
    target: Annotated[
        list[float] | None, _option(help="perplexity to reach; what the baseline reaches when absent; several")
    ] = None,
) -> None:
    """Write one page about finished runs that opens offline in a browser, in place of an earlier report."""


def trace(
    runs: Runs,
    out: Annotated[
        Path | None,
        _option("--out", "-o", help="file to write, .json or .json.gz; trace.json.gz in the first of RUNS when absent"),
    ] = None,
) -> None:
    """Write who did what when as a trace, to look at in Perfetto or chrome://tracing."""


def compare(
    file: Annotated[Path, _argument(help="experiment file with a `reference`")],
    results: Annotated[list[Path], _argument(help="folders with a summary.json, or such files")],
    scale: Annotated[str | None, _option(help="scale of the file that was run")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="print a Markdown table")] = False,
) -> None:
    """Lay results of a file's variants beside the published ones, as ratios to a baseline over all seeds."""


def validate(
    file: File,
    settings: Settings = None,
    variant: Variant = None,
    data: Annotated[bool, typer.Option(help="look at the data too, of the scale that is chosen")] = True,
    plugin: Plugin = None,
) -> None:
    """Report every mistake of an experiment file at once, with its line and the nearest valid name."""


def schema(out: Annotated[Path | None, _option(help="write it to this file")] = None) -> None:
    """Print the JSON Schema of experiment files, for editors."""


def explain(
    key: Annotated[str | None, _argument(help="such as outer.momentum; all keys when absent")] = None,
    plugin: Plugin = None,
) -> None:
    """Explain a key of experiment files: meaning, unit, default, choices, an example, and what is below it."""


def methods(
    name: Annotated[str | None, _argument(help="such as diloco; all methods when absent")] = None,
    page: Annotated[Path | None, _option(help="write a page of all methods, with formulas, to this file")] = None,
    plugin: Plugin = None,
) -> None:
    """List the methods that a file can name, or show the rule, the sources and the settings of one."""


def verify(runs: Runs) -> None:
    """Recompute from records alone what must be true of them, and say which row breaks which rule."""


def calibrate(
    logs: Annotated[
        list[Path],
        _argument(metavar="LOG...", help="run folders, and logs with wall-clock columns (.csv, .parquet, .jsonl)"),
    ],
    out: Annotated[
        Path | None, _option("--out", "-o", help="YAML file to write, with a cluster section; none when absent")
    ] = None,
    by: Annotated[
        Literal["cluster", "worker"], typer.Option(help="one value where workers agree within noise, or always lists")
    ] = "cluster",
    local_steps: Annotated[
        int | None, _option(min=1, help="of a round: so many rows of single steps of a log are taken together")
    ] = None,
    trace: Annotated[
        Path | None, _option(help="also write the step times of one log, a row for each round, to be replayed")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace files that are there")] = False,
) -> None:
    """Fit a cluster's step times, jitter, slow-downs and links to runs, or to logs of a real training."""


def profiles() -> None:
    """List the heterogeneity profiles and the accelerators that a file can name."""


def presets() -> None:
    """List the model presets that a file can name."""


def prepare(file: File, settings: Settings = None, variant: Variant = None, plugin: Plugin = None) -> None:
    """Turn the text of an experiment file into tokens, once; `run` does the same where it is missing."""


def info(file: File, settings: Settings = None, variant: Variant = None, plugin: Plugin = None) -> None:
    """Show how much text there is, how it is divided into shards and how unlike they are, and how documents begin."""


def status(folder: Annotated[Path, _argument(metavar="DIR", help="output folder of `run`")]) -> None:
    """Show where each point of a sweep stands: finished, running, stopped, failed or waiting."""
