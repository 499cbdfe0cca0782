"""Result of a run by name: a number of its summary, its money, or what it spent until it reached a perplexity."""

import json
import math
from collections.abc import Mapping, Sequence

from simulator.host import format as human
from simulator.record import RunRecord
from simulator.report.axes import Against
from simulator.report.group_keys import ABSENT, ReportError, is_number, nearest
from simulator.report.grouping import group_records, run_labels
from simulator.report.money import money
from simulator.report.perplexity import refuse_impossible, refuse_untrained
from simulator.report.seeds import FORMATS, Format
from simulator.report.targets import spent_until

TO_TARGET: Mapping[str, Against] = {
    "time_to_target": "simulated_s",
    "steps_to_target": "local_steps",
    "tokens_to_target": "tokens",
    "bytes_to_target": "bytes_sent",
    "money_to_target": "money",
}
"""What a run spent until it reached the target, see `time_to_target`."""


def run_values(records: Sequence[RunRecord], value: str, target: float | None) -> list[float | None]:
    """Returns the result of each run: infinite where it diverged or never reached the target, None where it has none.

    Args:
        records: The runs.
        value: A key of the summary that is a number, money, or one of `TO_TARGET`.
        target: Perplexity to reach, where `value` tells of one.

    Raises:
        ReportError: If no run has such a number, or a target is missing or of no use.
    """
    results = [_result(record, value, target) for record in records]
    if all(result is None for result in results):
        raise ReportError(f"no run has a number under {value!r}; {_hint(value, records)}")
    return results


def _result(record: RunRecord, value: str, target: float | None) -> float | None:
    label = run_labels(record)[0]
    if value in TO_TARGET:
        if target is None:
            raise ReportError(f"{value} needs a target: say which perplexity is to be reached")
        refuse_impossible([target])
        refuse_untrained(record, label)
        if TO_TARGET[value] == "money":
            money(record)  # refuses a run without prices
        spent = spent_until(record, target, [TO_TARGET[value]])[TO_TARGET[value]]
        return math.inf if math.isnan(spent) else spent
    if target is not None:
        raise ReportError(f"{value} has no target: leave it out, or choose one of {', '.join(TO_TARGET)}")
    if value == "money":
        return money(record).total
    result = record.summary.get(value)
    if value in ("final_perplexity", "final_loss") and record.summary["trainer"] != "null":
        return float(result) if is_number(result) and math.isfinite(result) else math.inf
    return float(result) if is_number(result) else None


def _hint(value: str, records: Sequence[RunRecord]) -> str:
    numbers = {
        key
        for record in records
        for key, result in record.summary.items()
        if isinstance(result, int | float) and not isinstance(result, bool)
    }
    return nearest(value, [*numbers, "money", *TO_TARGET])


def refuse_unlike(records: Sequence[RunRecord], label: str, place: str) -> None:
    """Refuses runs that are taken together and are no repeats of each other.

    Args:
        records: The runs.
        label: Of their group.
        place: Name of what they are one of: a cell, a point.

    Raises:
        ReportError: They differ by more than their seed.
    """
    groups = group_records(records)
    keys = dict.fromkeys(key for group in groups for key in group.keys)
    unlike = [key for key in keys if len({json.dumps(group.keys.get(key, ABSENT).value) for group in groups}) > 1]
    if unlike:
        raise ReportError(
            f"{label}: runs of one {place} differ in {' and '.join(unlike)} too: add that to the keys that tell "
            "groups apart, or choose fewer runs"
        )


def infinite_word(value: str) -> str:
    """Returns the word for a result that is infinite."""
    return "never reached" if value in TO_TARGET else "diverged"


def format_of(value: str) -> Format:
    """Returns the format of a result: of a number of no known kind, three significant digits."""
    return FORMATS.get(value, _significant)


def _significant(number: float | None) -> str:
    return human.significant(number, 3) if number is not None and human.known(number) else human.UNKNOWN


def value_words(value: str, target: float | None, currency: str) -> str:
    """Returns the name of a result for an axis, with the perplexity to reach and the currency of money."""
    words = value.replace("_", " ")
    if value.startswith("money") and currency:
        words = words.replace("money", f"money ({currency})")
    return words if target is None else words.replace("to target", f"to perplexity {human.significant(target)}")
