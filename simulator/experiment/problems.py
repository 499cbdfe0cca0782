"""Problems of an experiment, with all that it takes to mend them: file, line, key, value, remedy."""

import dataclasses
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from simulator.host.nearest import alike


@dataclasses.dataclass(frozen=True)
class Problem:
    """One mistake.

    Attributes:
      key: dotted path in the experiment file, or "" for the file as a whole.
      message: the mistake and the remedy.
      value: the offending value, if any.
      file: where it was written, or None for settings made in Python or on the command line.
      line: 1-based line in `file`.
    """

    key: str
    message: str
    value: Any = None
    file: Path | None = None
    line: int | None = None

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.line else f"{self.file}: " if self.file else ""
        shown = "" if self.value is None or isinstance(self.value, dict | list) else f" = {_shorten(self.value)}"
        return f"{where}{self.key}{shown}: {self.message}" if self.key else f"{where}{self.message}"


class ExperimentError(Exception):
    """An experiment that cannot be run; `problems` lists every mistake that was found."""

    def __init__(self, problems: Iterable[Problem]):
        self.problems = tuple({str(problem): problem for problem in problems}.values())
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the error as the arguments of its class."""
        return type(self), (self.problems,)


class SimulationError(Exception):
    """A simulation of a valid experiment that cannot continue; the message says why, and what would help."""


def _shorten(value: Any, limit: int = 200) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


_OTHERS = (*(sysconfig.get_path(each) for each in ("stdlib", "purelib", "platlib")), str(Path(__file__).parents[1]))


def cause_of(error: BaseException) -> str:
    """Returns the error of user-defined code and its place: the kind, the line and the first line of the message."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [each for each in frames if not each.filename.startswith((*_OTHERS, "<frozen"))]
    place = f" at line {own[-1].lineno} of {own[-1].filename}" if own else ""
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}{place}: {first[:_LONGEST]}{'…' if len(first) > _LONGEST else ''}"


def refusal(error: Exception) -> str:
    """Returns why a factory refused its arguments: its own words, or the error inside it."""
    return str(error) if isinstance(error, ValueError) else cause_of(error)


_FEW = 40
_LONGEST = 300  # characters of a message that others wrote, which may show whole arrays

OF_PLUGINS = "(a name of your own needs the file that registers it: plugins: [FILE], or --plugin FILE)"
"""What to say of a name that nothing is registered under."""


def nearest(name: object, names: Iterable[str]) -> str:
    """Returns a hint that names the closest of `names`, or else lists them, the first of many."""
    names = sorted(names)
    few = names[:_FEW] + ["…"] * (len(names) > _FEW)
    close = alike(name, names)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"valid: {', '.join(few)}"
