"""What the commands share: their arguments, what they print, and how they read an experiment file."""

import contextlib
import functools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from simulator.visible import plural, visible

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

        import_plugins(names)


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


def say_what(
    file: Path,
    points: "Sequence[Point]",
    parameters: Iterable[int],
    further: Iterable[str] = (),
    *,
    valid: bool = False,
) -> None:
    """Prints how many simulations a file describes, of which size, and what there is to say of its settings.

    Args:
      file: the experiment file.
      points: its simulations.
      parameters: how many each model has.
      further: what else there is to say.
      valid: whether to say that nothing is wrong.
    """
    from simulator.experiment.notes import notes

    variants = dict.fromkeys(point.variant for point in points)
    sizes = sorted({*parameters})
    several = f"{sizes[0]:,} to " if len(sizes) > 1 else ""
    size = f"{several}{plural(sizes[-1], 'parameter')}"
    what = f"{plural(len(points), 'simulation')} of {plural(len(variants), 'variant')}, {size}"
    say(f"{file}: {'valid; ' if valid else ''}{what}")
    found = [note for point in points for note in notes(point.experiment)]
    for note in dict.fromkeys([*found, *further]):
        say(f"note: {note}")


def check_points(
    file: Path, settings: Sequence[str] | None, variant: str | None, *, data: bool
) -> "tuple[Document, list[Point], Iterator[int]]":
    """Does what `read_points` does, and loads what trains only where it takes that to tell what is wrong.

    Returns:
      The document, its points, and how many parameters the model of each has.
    """
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
    return document, points, (glance.parameters(point.experiment) for point in points)


@contextlib.contextmanager
def _looking(data: LookAt, memory: float = 1.0) -> "Iterator[tuple[Check, Workshop]]":
    """Yields what finds everything that is wrong with an experiment, and the workshop in which it looks."""
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
