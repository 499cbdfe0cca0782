"""What the commands share: their arguments, what they print, and how they read an experiment file."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer
from rich.console import Console

from simulator.experiment import Document, Experiment, Point, Problem, expand, load_document
from simulator.visible import visible

if TYPE_CHECKING:
    from simulator.learning import Workshop

File = Annotated[Path, typer.Argument(help="experiment file", show_default=False)]
Settings = Annotated[
    list[str] | None, typer.Argument(help="settings that win over the file, as key.path=value", show_default=False)
]
Variant = Annotated[str | None, typer.Option(help="only this variant of the file", show_default=False)]
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


def plural(number: int, noun: str) -> str:
    """Returns a number with its noun: "1 run", "2,000 runs"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def read_points(
    file: Path, settings: Sequence[str] | None, variant: str | None, *, data: LookAt = "all"
) -> tuple[Document, list[Point], "Workshop"]:
    """Reads a file and reports everything that is wrong, with the data too if asked, before anything is simulated."""
    document = load_document(file, settings or ())
    from simulator.engine import check
    from simulator.learning import Workshop
    from simulator.live import PreparationView

    def problems(experiment: Experiment) -> list[Problem]:
        even = getattr(getattr(experiment, "data", None), "even", True)
        return check(experiment, workshop, data=data == "all" or (data == "uneven" and not even))

    with PreparationView(Console(stderr=True)) as view:
        workshop = Workshop(view)
        points = expand(document, variant=variant, check=problems)
    return document, points, workshop
