"""What the commands share: their arguments, what they print, and how they read an experiment file."""

import contextlib
import functools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from simulator.visible import visible

if TYPE_CHECKING:
    from simulator.experiment import Document, Experiment, Point, Problem
    from simulator.experiment.expand import Check
    from simulator.learning import Workshop

File = Annotated[Path, typer.Argument(help="experiment file", show_default=False)]
Settings = Annotated[
    list[str] | None, typer.Argument(help="settings that win over the file, as key.path=value", show_default=False)
]
Variant = Annotated[str | None, typer.Option(help="only this variant of the file", show_default=False)]
Plugin = Annotated[
    list[str] | None,
    typer.Option(
        help="runs this Python file or module first: it can register policies and optimizers; use code that you trust",
        show_default=False,
    ),
]
Out = Annotated[Path | None, typer.Option(help="output folder; runs/NAME when absent", show_default=False)]

EXIT_BROKEN = 1
EXIT_BAD_INPUT = 2

LookAt = Literal["all", "uneven", "none"]
"""Whose data are looked at; a timeline depends on those of uneven shards."""


def say(text: str) -> None:
    """Prints a line, with what could steer a terminal written out."""
    sys.stdout.write(f"{visible(text)}\n")


def fail(message: str, code: int) -> NoReturn:
    """Ends the process with a message on standard error."""
    sys.stderr.write(f"tardigrad: {visible(message)}\n")
    sys.exit(code)


def use_plugins(names: Sequence[str] | None) -> None:
    """Runs what `--plugin` names."""
    if names:
        from simulator.plugins import import_plugins

        begin_jax()
        import_plugins(names)


@functools.cache
def begin_jax() -> None:
    """Has JAX choose its platform, and says which where a driver is missing.

    Raises:
      ExperimentError: it cannot.
    """
    from simulator.platforms import check_platform, cuda_is_avoided

    platform = check_platform()
    if cuda_is_avoided():
        sys.stderr.write(f"tardigrad: no NVIDIA driver was found: JAX computes on the {platform.upper()}\n")


def read_points(
    file: Path,
    settings: Sequence[str] | None,
    variant: str | None,
    *,
    data: LookAt = "all",
    memory: float = 1.0,
) -> "tuple[Document, list[Point], Workshop]":
    """Reads a file and reports everything that is wrong, with the data too if asked, before anything is simulated.

    Args:
      file: the experiment file.
      settings: those of the command line.
      variant: only this one.
      data: whose data are looked at.
      memory: what there is of the host's, as a `Workshop` takes it.

    Raises:
      ExperimentError: with everything that is wrong.
    """
    from simulator.experiment import expand, load_document

    document = load_document(file, settings or ())
    with _looking(data, memory) as (check, workshop):
        points = expand(document, variant=variant, check=check)
    return document, points, workshop


def check_points(
    file: Path, settings: Sequence[str] | None, variant: str | None, *, data: bool
) -> "tuple[Document, list[Point]]":
    """Does what `read_points` does, and loads what trains only where it takes that to tell what is wrong."""
    from simulator.experiment import expand, load_document
    from simulator.glance import Glance

    document = load_document(file, settings or ())
    glance = Glance()
    with contextlib.ExitStack() as opened:

        @functools.cache
        def thorough() -> "Check":
            return opened.enter_context(_looking("all" if data else "none"))[0]

        def problems(experiment: "Experiment") -> "Iterable[Problem]":
            return () if glance.surely_valid(experiment, data=data) else thorough()(experiment)

        points = expand(document, variant=variant, check=problems)
    return document, points


@contextlib.contextmanager
def _looking(data: LookAt, memory: float = 1.0) -> "Iterator[tuple[Check, Workshop]]":
    """Yields what finds everything that is wrong with an experiment, and the workshop in which it looks."""
    begin_jax()
    from rich.console import Console

    from simulator.engine import check
    from simulator.learning import Workshop
    from simulator.live import PreparationView

    def problems(experiment: "Experiment") -> "list[Problem]":
        even = getattr(getattr(experiment, "data", None), "even", True)
        return check(experiment, workshop, data=data == "all" or (data == "uneven" and not even))

    with PreparationView(Console(stderr=True)) as view:
        workshop = Workshop(view, memory=memory)
        yield problems, workshop
