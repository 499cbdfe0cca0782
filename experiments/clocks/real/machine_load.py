"""Load of the machine: seconds for which its cores were busy, and for which this process was on one."""

import math
import os
import time
from pathlib import Path
from typing import NamedTuple

_COUNTS = Path("/proc/stat")
_IDLE = 3, 4  # of its first line's counts: idle, and waiting for a disk


class Used(NamedTuple):
    """Seconds that were used.

    Attributes:
      clock_s: of the clock.
      busy_s: of all cores together; NaN where the machine does not say.
      own_s: of this process on a core.
    """

    clock_s: float
    busy_s: float
    own_s: float


def used() -> Used:
    """Returns what was used by now."""
    busy_s = math.nan
    if _COUNTS.exists():
        counts = [int(each) for each in _COUNTS.read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
        busy = sum(count for place, count in enumerate(counts) if place not in _IDLE)
        busy_s = busy / os.sysconf("SC_CLK_TCK")
    return Used(time.monotonic(), busy_s, time.process_time())


def between(before: Used, after: Used) -> Used:
    """Returns what was used between two times."""
    return Used(*(late - early for early, late in zip(before, after, strict=True)))
