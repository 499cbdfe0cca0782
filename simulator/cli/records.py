"""State of what a run leaves: `verify` and `sweep status`."""

from pathlib import Path

from rich.console import Console

from simulator.cli.output import EXIT_BROKEN, fail, say
from simulator.host.text import plural
from simulator.record import EXPERIMENT_FILE, RecordError, RunRecord, run_folders
from simulator.sweep.status import counted, status_table, sweep_status
from simulator.verify import unchecked
from simulator.verify import verify as violations_of

_MOST_VIOLATIONS = 20


def verify(runs: list[Path]) -> None:
    """Prints which row of a record breaks which rule."""
    broken = 0
    for folder in run_folders(runs):
        record = RunRecord.read(folder)
        try:
            found = violations_of(record)
        except RecordError as error:
            message = f"{error}. Remove the run's folder and simulate it again"
            raise RecordError(f"{folder / EXPERIMENT_FILE}: {message}") from error
        broken += bool(found)
        amount = f"{plural(len(record.rounds), 'round')}, {plural(len(record.evaluations), 'evaluation')}"
        say(f"{folder}: {amount}: {plural(len(found), 'violation') if found else 'every rule holds'}")
        for violation in found[:_MOST_VIOLATIONS]:
            say(f"  {violation}")
        if len(found) > _MOST_VIOLATIONS:
            say(f"  and {len(found) - _MOST_VIOLATIONS:,} more")
        for text in unchecked(record):
            say(f"  {text}")
    if broken:
        fail(f"{plural(broken, 'run')} broke a rule", EXIT_BROKEN)


def status(folder: Path) -> None:
    """Prints a table of a sweep's points."""
    statuses = sweep_status(folder)
    Console().print(status_table(statuses))
    say(f"\n{', '.join(counted(statuses))} of {len(statuses):,} in {folder}")
