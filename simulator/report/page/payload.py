"""Data of the page's script: one mapping of plain values, kept small."""

from collections.abc import Mapping, Sequence
from typing import Any

from simulator.record import OF_FAULTS, OF_MONEY, SUMMARY_KEYS, RunRecord
from simulator.report.baselines import baselines, unequal, without_lonely
from simulator.report.group_keys import one_line
from simulator.report.grouping import Group, short_names
from simulator.report.money import has_prices, money
from simulator.report.page.curves import axes, curve, is_trained, money_label
from simulator.report.page.limits import TIMELINES, curve_points
from simulator.report.page.numbers import short
from simulator.report.page.rounds import shares, staleness_by_worker, staleness_counts, timeline, workers_of

# key -> (header, kind, explanation)
_COLUMNS: Mapping[str, tuple[str, str, str]] = {
    "final_perplexity": ("final perplexity", "perplexity", "exp of the last validation loss"),
    "simulated_seconds": ("simulated time", "time", "length of the run in simulated time"),
    "local_steps": ("local steps", "count", "over all workers, of the rounds that arrived"),
    "tokens": ("tokens", "count", "trained on in the rounds that arrived"),
    "server_updates": ("server updates", "count", "outer steps"),
    "mean_staleness": ("mean staleness", "decimal", "server updates between a worker's pull and its push"),
    "max_staleness": ("largest staleness", "count", "server updates between a worker's pull and its push"),
    "utilization": ("utilization", "percent", "share of the workers' time spent computing"),
    "bytes_sent": ("data sent", "bytes", "over all links, both directions"),
    "goodput": ("useful steps/s", "number", "local steps that entered the server's state, per simulated second"),
    "lost_rounds": ("rounds lost", "count", "that never arrived, because of faults"),
    "lost_steps": ("steps lost", "count", "local steps computed in rounds that never arrived"),
    "dropped_steps": ("steps dropped", "count", "local steps of rounds that arrived and were dropped"),
    "non_finite": ("rounds not finite", "count", "that did not enter the server's state"),
    "lost_bytes": ("data sent in vain", "bytes", "for rounds that never arrived"),
    "workers": ("workers", "count", "number of workers"),
    "parameters": ("parameters", "count", "of the model"),
    "tokens_per_host_second": ("tokens per host second", "count", "of training, evaluation and compilation"),
    "host_seconds": ("host time", "time", "how long the simulation took"),
}
_ALWAYS = ("simulated_seconds", "local_steps", "mean_staleness", "utilization", "bytes_sent")
_OF_TRAINING = ("final_perplexity", "tokens_per_host_second")
_RELATIVE = ("final_perplexity", "simulated_seconds", "bytes_sent")
_UNSHOWN = ("seed", "best_loss")


def payload(groups: Sequence[Group]) -> dict[str, Any]:
    """Returns the data of the page's script.

    Args:
        groups: Of all runs.

    Returns:
        `groups`, each with its label, its name without the sweep point, index of its `baseline` (null without one) and
        number of runs; `runs`, columns group and seed; `columns` of the results, each with its values by run; `axes`
        and `curves`, one or null for each run; `thinned`, the most points of a curve if that is fewer than there were,
        else false; `best`, the lowest loss that any model can reach, where known; `staleness` of each group; `details`,
        of those groups whose timelines are held, by index of the group.
    """
    runs = [record for group in groups for record in group.records]
    number = {id(record): index for index, group in enumerate(groups) for record in group.records}
    found = axes(runs)
    keys = [axis["key"] for axis in found]
    most = curve_points(sum(map(is_trained, runs)))
    best = [record.summary["best_loss"] for record in runs if record.summary["best_loss"] is not None]
    return {
        "groups": [
            {"label": group.label, "name": group.parts[0], "baseline": baseline, "runs": len(group.records)}
            for group, baseline in zip(groups, compared_with(groups), strict=True)
        ],
        "runs": {
            "group": [number[id(record)] for record in runs],
            "seed": [record.summary["seed"] for record in runs],
        },
        "columns": columns(groups),
        "axes": found,
        "curves": [curve(record, keys, most) for record in runs],
        "thinned": max((len(r.evaluations) for r in runs if is_trained(r)), default=0) > most and most,
        "best": short(min(best)) if best else None,
        "staleness": [staleness_counts(group) for group in groups],
        "details": {index: _details(groups[index]) for index in detailed(groups)},
    }


def compared_with(groups: Sequence[Group]) -> list[int | None]:
    """Returns for each group the index of the one of its sweep point that it is compared with, see `baselines`.

    A group that is alone at its sweep point has none.
    """
    return without_lonely(baselines(groups))


def columns(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Returns the columns of the results: keys that tell runs apart, then results, with a value for each run.

    Numbers that are the same in all runs are left out, but for the most important, and tokens if they are a multiple of
    the local steps. Numbers that a summary has under keys of its own are columns too, and so is money where experiments
    give prices. Where variants have done unequal work, local steps are shown relative to the baseline too.
    """
    runs = [record for group in groups for record in group.records]
    found: list[dict[str, Any]] = []
    keys = list(dict.fromkeys(key for group in groups for key in group.keys if key not in ("name", "variant")))
    unswept = {key for group in groups for key in group.settings}
    for key, name in zip(keys, short_names(keys), strict=True):
        values = [group.keys[key].shown if key in group.keys else "" for group in groups for _ in group.records]
        about = f"{one_line(key)}, {'in which runs differ' if key in unswept else 'set by the sweep'}"
        found.append({"key": one_line(key), "label": one_line(name), "kind": "text", "about": about, "values": values})
    further = [key for run in runs for key in run.summary if _is_further(key, run.summary[key])]
    known = {**{key: (key.replace("_", " "), _kind(key), "") for key in dict.fromkeys(further)}, **_COLUMNS}
    trained = any(run.summary["trainer"] != "null" for run in runs)
    for key in [*_COLUMNS, *(key for key in known if key not in _COLUMNS)]:
        label, kind, about = known[key]
        numbers = [short(run.summary.get(key)) for run in runs]
        if key in _OF_TRAINING:
            shown = trained
        elif key in OF_FAULTS:
            shown = any(numbers) and (key != "goodput" or any(run.summary.get("lost_rounds") for run in runs))
        elif key == "tokens":
            shown = len({run.summary[key] / max(run.summary["local_steps"], 1) for run in runs}) > 1
        else:
            shown = key in _ALWAYS or len(set(numbers)) > 1
        if shown:
            relative = key in _RELATIVE or (key == "local_steps" and _unequal_work(groups))
            found.append(
                {"key": key, "label": label, "kind": kind, "about": about, "relative": relative, "values": numbers}
            )
    if any(map(has_prices, runs)):
        spent = [short(money(run).total) if has_prices(run) else None for run in runs]
        about = "of workers, server and data, at the prices of the experiment"
        column = {"key": "money", "label": money_label(runs), "kind": "money", "about": about, "relative": True}
        found.append({**column, "values": spent})
    return found


def steps_ratio(groups: Sequence[Group], index: int, baseline: int) -> float | None:
    """Returns the local steps of a group relative to those of another, None where they are not known."""
    own, other = (mean_of(groups[each], "local_steps") for each in (index, baseline))
    return own / other if own is not None and other else None


def _unequal_work(groups: Sequence[Group]) -> bool:
    compared = compared_with(groups)
    return any(unequal(steps_ratio(groups, i, of)) for i, of in enumerate(compared) if of is not None)


def _is_further(key: str, value: Any) -> bool:
    known = key in (*_COLUMNS, *SUMMARY_KEYS, *OF_MONEY, *_UNSHOWN)
    return not known and isinstance(value, int | float) and not isinstance(value, bool)


def _kind(key: str) -> str:
    """Returns the format of a number under a key that is not known here."""
    return "time" if key.endswith(("_s", "_seconds")) else "number"


def detailed(groups: Sequence[Group]) -> list[int]:
    """Returns the groups whose timelines a page holds, in order: those in which rounds arrived, the best if too many.

    The best are those that reach the lowest perplexity; baselines come before them, and what trained nothing after.
    """
    arrived = [index for index, group in enumerate(groups) if _with_rounds(group) is not None]
    if len(arrived) <= TIMELINES:
        return arrived
    compared = set(compared_with(groups))

    def rank(index: int) -> tuple[bool, float]:
        reached = mean_of(groups[index], "final_perplexity")
        return index not in compared, float("inf") if reached is None else reached

    return sorted(sorted(arrived, key=rank)[:TIMELINES])


def mean_of(group: Group, key: str) -> float | None:
    """Returns the mean of a number over a group's runs, None where one of them does not know it."""
    values = [short(record.summary.get(key)) for record in group.records]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _with_rounds(group: Group) -> RunRecord | None:
    return next((record for record in group.records if not record.rounds.empty), None)


def _details(group: Group) -> dict[str, Any]:
    record = _with_rounds(group)
    assert record is not None  # detailed() chose it
    table = workers_of(record)
    return {"timeline": timeline(record, table), "shares": shares(table), "staleness": staleness_by_worker(group)}
