"""Live views in notebooks: one output of a cell that is replaced now and then, with nothing left behind it."""

import importlib
import io
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console, RenderableType

_EVERY_S = 0.25
_FORMAT = '<pre style="white-space:pre;overflow-x:auto;line-height:normal">{code}</pre>'


class NotebookView:
    """Draws the view of a terminal into the output of a notebook's cell.

    Args:
      draw: returns the object to show.
      width: in characters.
    """

    def __init__(self, draw: Callable[[], RenderableType], width: int):
        self._draw, self._width = draw, width
        self._drawn_s = -_EVERY_S
        self._handle: Any = None

    def start(self) -> None:
        """Starts the view; there is no output yet."""

    def changed(self) -> None:
        """Draws, unless that was done just before."""
        if time.monotonic() - self._drawn_s >= _EVERY_S:
            self.refresh()

    def refresh(self) -> None:
        """Draws."""
        self._drawn_s = time.monotonic()
        outputs = _outputs()
        page = outputs.HTML(self.html())
        if self._handle is None:
            self._handle = outputs.display(page, display_id=True)
        else:
            self._handle.update(page)

    def stop(self) -> None:
        """Draws for the last time."""
        self.refresh()

    def html(self) -> str:
        """Returns the drawing as HTML."""
        console = Console(file=io.StringIO(), record=True, width=self._width, force_jupyter=False)
        console.print(self._draw())
        return console.export_html(inline_styles=True, code_format=_FORMAT)


def _outputs() -> Any:
    """Returns IPython's module of outputs, which a notebook always has."""
    return importlib.import_module("IPython.display")
