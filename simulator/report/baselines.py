"""Baselines, with which other runs are compared: those of one variant at the same sweep point, seed by seed."""

import json
import math
from collections import Counter
from collections.abc import Sequence

from simulator.record import Result, RunRecord
from simulator.report.arguments import Results, results_of
from simulator.report.group_keys import ReportError, key_value
from simulator.report.grouping import Group

_EQUAL_WORK = 0.05  # share of its local steps by which a round goes beyond a budget now and then


def baselines(groups: Sequence[Group], variant: str | None = None) -> list[int | None]:
    """Returns for each group the index of the one that it is compared with: at its sweep point, of one variant.

    Where settings that were not swept tell groups of that variant apart, it is the one with the same settings. Groups
    by keys that do not name the variant have none.

    Args:
        groups: As `group_records` returns them.
        variant: Which one; when absent the first synchronous one at each sweep point (no round was ever stale), or else
            the first.
    """
    points: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        if "variant" in group.keys:
            points.setdefault(_point(group), []).append(index)
    found: list[int | None] = [None] * len(groups)
    for members in points.values():
        of_point = [run for index in members for run in groups[index].records]
        chosen = _first_synchronous(of_point) if variant is None else variant
        candidates = [index for index in members if groups[index].variant == chosen]
        telling = list(dict.fromkeys(key for index in candidates for key in groups[index].settings))
        with_settings = {_values(groups[index], telling): index for index in reversed(candidates)}
        for index in members:
            found[index] = with_settings.get(_values(groups[index], telling))
    return found


def by_point(groups: Sequence[Group]) -> list[Group]:
    """Returns groups in order of their sweep points, as these first appear."""
    order = {point: place for place, point in enumerate(dict.fromkeys(map(_point, groups)))}
    return sorted(groups, key=lambda group: order[_point(group)])


def _point(group: Group) -> str:
    """Returns a hashable key of a group's experiment and sweep point."""
    own = {key: value.value for key, value in group.keys.items() if key not in ("variant", *group.settings)}
    return json.dumps(own, sort_keys=True)


def without_lonely(found: Sequence[int | None]) -> list[int | None]:
    """Returns `baselines` without those that nothing but themselves is compared with."""
    compared = Counter(found)
    return [index if compared[index] > 1 else None for index in found]


def _first_synchronous(runs: Sequence[RunRecord | Result]) -> str:
    """Returns the first variant of which no round was ever stale, or else the first."""
    stale = {run.summary["variant"] for run in runs if run.summary["max_staleness"] != 0}
    variants: list[str] = [run.summary["variant"] for run in runs]
    return next((variant for variant in variants if variant not in stale), variants[0])


def _values(group: Group, keys: Sequence[str]) -> tuple[float | str | bool | None, ...]:
    return tuple(key_value(group.records[0], key).value for key in keys)


def baseline_of(runs: Results, name: str | None = None) -> str:
    """Returns the variant to compare with: the one named, else the first synchronous one, else the first.

    Raises:
        ReportError: If there is no variant of that name, or no runs.
    """
    records = results_of(runs)
    variants: list[str] = list(dict.fromkeys(record.summary["variant"] for record in records))
    if name is not None and name not in variants:
        raise ReportError(f"baseline {name!r} is not among the variants {', '.join(map(repr, variants))}")
    return _first_synchronous(records) if name is None else name


def baseline_runs(groups: Sequence[Group], variant: str) -> dict[int, RunRecord]:
    """Returns the baseline's run of the same seed for each run that has one, by the id of the record.

    Args:
        groups: Of runs that differ by their seed alone.
        variant: The baseline.
    """
    found: dict[int, RunRecord] = {}
    for group, index in zip(groups, baselines(groups, variant), strict=True):
        of_seed = {} if index is None else {run.summary["seed"]: run for run in groups[index].records}
        seeds = ((run, run.summary["seed"]) for run in group.records)
        found |= {id(run): of_seed[seed] for run, seed in seeds if seed in of_seed}
    return found


def unequal(steps_ratio: float | None) -> bool:
    """Returns whether a ratio of local steps means unequal work, of which other ratios then tell too."""
    return steps_ratio is not None and math.isfinite(steps_ratio) and abs(steps_ratio - 1) > _EQUAL_WORK
