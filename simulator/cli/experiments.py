"""Commands about experiment files: mistakes in one, its data, the format and its keys, and names that it can use."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simulator.cli.common import (
    File,
    Plugin,
    Settings,
    Variant,
    begin_jax,
    check_points,
    read_points,
    say,
    say_what,
    use_plugins,
)
from simulator.host.text import plural

if TYPE_CHECKING:
    from simulator.cluster import Length
    from simulator.experiment import Point
    from simulator.experiment.schema.data import DocumentData


def validate(
    file: File,
    settings: Settings = None,
    variant: Variant = None,
    data: Annotated[bool, typer.Option(help="look at the data too, of the scale that is chosen")] = True,
    plugin: Plugin = None,
) -> None:
    """Report every mistake of an experiment file at once, with its line and the nearest valid name."""
    use_plugins(plugin)
    checked = check_points(file, settings, variant, data=data)
    others = () if settings else checked.document.scales  # settings may be meant for one scale only
    for scale in others:
        if scale != checked.points[0].experiment.scale:  # which has been checked, with its data
            read_points(file, [f"scale={scale}"], variant, data="none")
    say_what(file, checked.points, checked.parameters, checked.few, valid=True)
    if checked.shortages:
        say("`run` refuses on this machine what does not fit into its memory; `timeline` needs none of it:")
    for shortage in checked.shortages:
        say(f"  {shortage}")
    if checked.long:
        _say_how_long(checked.long)


def _say_how_long(long: "Sequence[tuple[Point, Length]]") -> None:
    """Prints the length of the longest simulation, and the remedy."""
    from simulator.host.format import short_count

    point, length = max(long, key=lambda each: each[1])
    steps, rounds, evaluations = map(short_count, length)
    say(
        f"{plural(len(long), 'simulation')} may take very long: up to {steps} local steps in {rounds} rounds, and "
        f"{evaluations} evaluations, of {point.label}; use a smaller budget, slower devices, a larger model, or fewer "
        "evaluations; `run --dry-run` says how long they take here"
    )


def schema(
    out: Annotated[Path | None, typer.Option(help="write it to this file", show_default=False)] = None,
) -> None:
    """Print the JSON Schema of experiment files, for editors."""
    import json

    from simulator.experiment.schema.json_schema import file_schema

    unicode = out is not None or sys.stdout.encoding.lower().startswith("utf")
    text = json.dumps(file_schema(), indent=2, ensure_ascii=not unicode) + "\n"
    if out is None:
        sys.stdout.write(text)
    else:
        from simulator.record import atomic_path

        with atomic_path(out) as temporary:
            temporary.write_text(text, encoding="utf-8")


def explain(
    key: Annotated[
        str | None, typer.Argument(help="such as outer.momentum; all keys when absent", show_default=False)
    ] = None,
    plugin: Plugin = None,
) -> None:
    """Explain a key of experiment files: meaning, unit, default, choices, an example, and what is below it."""
    use_plugins(plugin)
    from rich.console import Console

    from simulator.cli.explained import all_keys, explained
    from simulator.experiment.explain import Keys

    keys = Keys()
    Console().print(explained(keys.explain(key)) if key else all_keys(keys.rows()))


def profiles() -> None:
    """List the heterogeneity profiles and the accelerators that a file can name."""
    from rich.console import Console

    from simulator.cli.catalogue import accelerators_table, profiles_table

    Console().print(profiles_table(), "", accelerators_table())


def list_models() -> None:
    """List the model presets that a file can name."""
    begin_jax()
    from rich.console import Console

    from simulator.cli.catalogue import presets_table

    Console().print(presets_table())


def prepare(file: File, settings: Settings = None, variant: Variant = None, plugin: Plugin = None) -> None:
    """Turn the text of an experiment file into tokens, once; `run` does the same where it is missing."""
    use_plugins(plugin)
    from simulator.data import token_store

    stores = {store.folder: store for store in (token_store(data) for data, _, _ in _texts(file, settings, variant))}
    for store in stores.values():
        say(f"{store.meta['documents']:,} documents, {store.meta['tokens']:,} tokens in {store.folder}")


def info(file: File, settings: Settings = None, variant: Variant = None, plugin: Plugin = None) -> None:
    """Show how much text there is, how it is divided into shards and how unlike they are, and how documents begin."""
    use_plugins(plugin)
    from rich.console import Console

    from simulator.cli.corpus import corpus_report
    from simulator.data import corpus_info

    for data, shards, context in _texts(file, settings, variant):
        Console().print(corpus_report(corpus_info(data, shards=shards, context=context)), "")


def _texts(
    file: Path, settings: Sequence[str] | None, variant: str | None
) -> "Iterator[tuple[DocumentData, int, int]]":
    """Yields every text of a file, prepared, with its number of shards and the context, each combination once."""
    from simulator.experiment import ExperimentError, Problem
    from simulator.experiment.schema.data import TextSource
    from simulator.learning.model import context_of

    _, points, _ = read_points(file, settings, variant)
    texts = {}
    for experiment in (point.experiment for point in points):
        context = context_of(experiment)
        if isinstance(experiment.data, TextSource) and context is not None:
            text = experiment.data, experiment.shards, context
            texts[repr(text)] = text
    if not texts:
        source = points[0].experiment.data.source
        raise ExperimentError([Problem("data.source", "is drawn, not read: there is nothing to prepare", source, file)])
    yield from texts.values()
