"""Lines that the commands print."""

import sys
from typing import NoReturn

from simulator.host.text import visible

EXIT_BROKEN = 1
EXIT_BAD_INPUT = 2


def say(text: str) -> None:
    """Prints a line, with control characters escaped, at once: also where it goes to a file."""
    sys.stdout.write(f"{visible(text)}\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Prints a note on the results to standard error, if any."""
    if text:
        sys.stderr.write(f"tardigrad: note: {visible(text)}\n")


def fail(message: str, code: int) -> NoReturn:
    """Ends the process with a message on standard error."""
    sys.stderr.write(f"tardigrad: {visible(message)}\n")
    sys.exit(code)
