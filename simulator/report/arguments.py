"""Arguments of reports: one run, several, or groups of them; anything else is refused."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

from simulator.record import Result, RunRecord
from simulator.report.group_keys import ReportError


@runtime_checkable
class Grouped(Protocol):
    """Runs that are taken together, as a `Group`."""

    @property
    def records(self) -> tuple[RunRecord, ...]:
        """The runs."""


Records: TypeAlias = RunRecord | Grouped | Iterable[RunRecord | Grouped]
Summary: TypeAlias = Mapping[str, Any]
Results: TypeAlias = Records | Result | Summary | Iterable[RunRecord | Grouped | Result | Summary]
"""Runs of which no more than the summary may be known."""


def records_of(given: Records) -> list[RunRecord]:
    """Returns runs with all their tables, in the order given.

    Args:
        given: One run, several, or groups of runs.

    Raises:
        ReportError: If there is none, or something else among them.
    """
    found = results_of(given)
    records = [each for each in found if isinstance(each, RunRecord)]
    if len(records) < len(found):
        raise ReportError(
            "a summary is given, which has none of a run's tables: give the record, which read_runs(folder) reads"
        )
    return records


def results_of(given: Results) -> list[RunRecord | Result]:
    """Returns runs of which their summary is enough, in the order given.

    Args:
        given: As `records_of`, or summaries; of these the experiment is not known, but for what a sweep has set.

    Raises:
        ReportError: If there is none, or something else among them.
    """
    found = list(_opened(given))
    if not found:
        raise ReportError("no records given: read some with read_runs, or simulate an experiment")
    return found


def one_record(given: Records) -> RunRecord:
    """Returns the only run that is given.

    Raises:
        ReportError: If there are several, or none, or it is something else.
    """
    found = records_of(given)
    if len(found) > 1:
        raise ReportError(f"{len(found)} runs are given, and this is of one: choose one of them, such as runs[0]")
    return found[0]


def _opened(given: Any) -> Iterator[RunRecord | Result]:
    if isinstance(given, RunRecord | Result):
        yield given
    elif isinstance(given, Grouped):
        yield from given.records
    elif isinstance(given, Mapping) and "variant" in given and "overrides" in given:
        yield Result.of(given)
    elif isinstance(given, str | Path):
        raise ReportError(f"{str(given)!r} is given, and runs are needed: read_runs({str(given)!r}) reads those in it")
    elif isinstance(given, Iterable) and not isinstance(given, Mapping):
        for each in given:
            yield from _opened(each)
    else:
        kind = type(given).__name__
        raise ReportError(
            f"{kind} is given, and runs are needed: records as read_runs(folder), simulate or simulate_all return them"
        )
