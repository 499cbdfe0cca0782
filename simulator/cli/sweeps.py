"""Commands about sweeps: `sweep status`."""

from pathlib import Path
from typing import Annotated

import typer

from simulator.cli.common import say


def status(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="output folder of `run`", show_default=False)],
) -> None:
    """Show where each point of a sweep stands: finished, running, stopped, failed or waiting."""
    from rich.console import Console

    from simulator.sweep.status import counted, status_table, sweep_status

    statuses = sweep_status(folder)
    Console().print(status_table(statuses))
    say(f"\n{', '.join(counted(statuses))} of {len(statuses):,} in {folder}")
