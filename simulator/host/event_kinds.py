"""Kinds of what happens in a simulated cluster, as its clock and its records name them."""

from typing import Literal, get_args

Outcome = Literal["applied", "buffered", "dropped"]
"""Fate of a round that arrived."""

AbsenceKind = Literal["crash", "preemption", "departure", "late"]
ABSENCES: tuple[AbsenceKind, ...] = get_args(AbsenceKind)
"""Faults from which a worker is absent until its "return"; "late" is that of one that joins after the start."""

FaultKind = Literal[
    AbsenceKind,
    "notice",
    "return",
    "slow",
    "normal",
    "disconnect",
    "reconnect",
    "server down",
    "server up",
    "message",
]
