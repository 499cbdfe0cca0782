"""Live views in notebooks: one output of a cell that is replaced now and then, with nothing left behind it.

Rich's own draws into an output of ipywidgets, which need not be installed.
"""

import importlib
import io
import time
from typing import Any

from rich.console import Console, RenderableType

_EVERY_S = 0.25
_FORMAT = '<pre style="white-space:pre;overflow-x:auto;line-height:normal">{code}</pre>'


class NotebookView:
    """Draws what a terminal shows into the output of a notebook's cell.

    Args:
      drawn: to show, as it is at the time.
      width: in characters.
    """

    def __init__(self, drawn: RenderableType, width: int):
        self._drawn, self._width = drawn, width
        self._drawn_s = -_EVERY_S
        self._handle: Any = None

    def start(self) -> None:
        """Starts the view; there is no output yet."""

    def changed(self) -> None:
        """Draws, unless that was done just before."""
        if time.monotonic() - self._drawn_s >= _EVERY_S:
            self.stop()

    def stop(self) -> None:
        """Draws, in place of what was drawn before."""
        self._drawn_s = time.monotonic()
        console = Console(file=io.StringIO(), record=True, width=self._width, force_jupyter=False)
        console.print(self._drawn)
        outputs = _outputs()
        page = outputs.HTML(console.export_html(inline_styles=True, code_format=_FORMAT))
        if self._handle is None:
            self._handle = outputs.display(page, display_id=True)
        else:
            self._handle.update(page)


def _outputs() -> Any:
    """Returns IPython's module of outputs, which a notebook always has."""
    return importlib.import_module("IPython.display")
