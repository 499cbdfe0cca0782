"""Results of runs and groups of runs, and the table that shows them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, cast

from simulator.host import format as human
from simulator.host.text import one_line
from simulator.record import OF_FAULTS, OF_MONEY, SUMMARY_KEYS, RunRecord
from simulator.report.axes import Against
from simulator.report.baselines import baselines, unequal, without_lonely
from simulator.report.grouping import Group, short_names
from simulator.report.money import cost_of, currency_of
from simulator.report.page.curves import Axis, is_trained
from simulator.report.page.limits import TIMELINES
from simulator.report.page.markup import escaped
from simulator.report.page.numbers import short, target_text
from simulator.report.seeds import FORMATS, Format, spread
from simulator.report.targets import spent_until


def _count(value: float | None) -> str:
    return human.count(value) if value is None or value < 1e6 else human.short_count(value)


def _number(value: float | None) -> str:
    return human.significant(value, 4) if value is not None and human.known(value) else human.UNKNOWN


_COUNTS = dict.fromkeys(("local_steps", "tokens", "server_updates"), _count)

# key -> (header, format, explanation)
_COLUMNS: Mapping[str, tuple[str, Format, str]] = {
    "final_perplexity": ("final perplexity", human.perplexity, "exp of the last validation loss"),
    "simulated_seconds": ("simulated time", human.short_duration, "length of the run in simulated time"),
    "local_steps": ("local steps", _count, "over all workers, of the rounds that arrived"),
    "tokens": ("tokens", _count, "trained on in the rounds that arrived"),
    "server_updates": ("server updates", _count, "outer steps"),
    "mean_staleness": ("mean staleness", human.decimal, "server updates between a worker's pull and its push"),
    "max_staleness": ("largest staleness", _count, "server updates between a worker's pull and its push"),
    "utilization": ("utilization", human.percent, "share of the workers' time spent computing"),
    "bytes_sent": ("data sent", human.byte_count, "over all links, both directions"),
    "goodput": ("useful steps/s", _number, "local steps that entered the server's state, per simulated second"),
    "lost_rounds": ("rounds lost", _count, "that never arrived, because of faults"),
    "lost_steps": ("steps lost", _count, "local steps computed in rounds that never arrived"),
    "dropped_steps": ("steps dropped", _count, "local steps of rounds that arrived and were dropped"),
    "non_finite": ("rounds not finite", _count, "that did not enter the server's state"),
    "lost_bytes": ("data sent in vain", human.byte_count, "for rounds that never arrived"),
    "workers": ("workers", _count, "number of workers"),
    "parameters": ("parameters", _count, "of the model"),
    "tokens_per_host_second": ("tokens per host second", _count, "of training, evaluation and compilation"),
    "host_seconds": ("host time", human.short_duration, "how long the simulation took"),
}
_ALWAYS = ("simulated_seconds", "local_steps", "mean_staleness", "utilization", "bytes_sent")
_OF_TRAINING = ("final_perplexity", "tokens_per_host_second")
_RELATIVE = ("final_perplexity", "simulated_seconds", "bytes_sent")
_UNSHOWN = ("seed", "best_loss")
_REACHED = "first reached, interpolated between evaluations"


@dataclass(frozen=True)
class ResultsColumn:
    """Column of the results.

    Attributes:
        key: Its name in a CSV file.
        label: Its header.
        about: Its explanation.
        values: One for each run, in order of the groups; None where it is not known.
        show: Format of its numbers; None where values are texts.
        relative: Whether means are compared with the baseline's.
        unknown: Cell of a trained run without a value.
        axis: Key of the axis with which it is shown; empty where it always is.
    """

    key: str
    label: str
    about: str
    values: Sequence[Any]
    show: Format | None = None
    relative: bool = False
    unknown: str = human.UNKNOWN
    axis: str = ""


def compared_with(groups: Sequence[Group]) -> list[int | None]:
    """Returns for each group the index of the one of its sweep point that it is compared with, see `baselines`.

    A group that is alone at its sweep point has none.
    """
    return without_lonely(baselines(groups))


def mean_of(group: Group, key: str) -> float | None:
    """Returns the mean of a number over a group's runs, None where one of them does not know it."""
    values = spread(run.get(key) for run in group.summaries)
    return values.mean if values.known == values.runs else None


def steps_ratio(groups: Sequence[Group], index: int, baseline: int) -> float | None:
    """Returns the local steps of a group relative to those of another, None where they are not known."""
    own, other = (mean_of(groups[each], "local_steps") for each in (index, baseline))
    return own / other if own is not None and other else None


def ranked(groups: Sequence[Group]) -> list[int]:
    """Returns the groups that reached the lowest perplexity first."""
    reached = [mean_of(group, "final_perplexity") for group in groups]
    return sorted(range(len(groups)), key=lambda index: math.inf if (mean := reached[index]) is None else mean)


def detailed(groups: Sequence[Group]) -> list[int]:
    """Returns the groups whose timelines a page holds, in order: those in which rounds arrived, the best if too many.

    Baselines come before the best.
    """
    arrived = [index for index in ranked(groups) if any(len(record.rounds) for record in groups[index].records)]
    compared = compared_with(groups)
    return sorted(sorted(arrived, key=lambda index: index not in compared)[:TIMELINES])


def columns(groups: Sequence[Group]) -> list[ResultsColumn]:
    """Returns the columns of the results: keys that tell runs apart, then results, with a value for each run.

    Numbers that are the same in all runs are left out, but for the most important, and tokens if they are a multiple of
    the local steps. Numbers that a summary has under keys of its own are columns too, and so is money where experiments
    give prices. Where variants have done unequal work, local steps are shown relative to the baseline too.
    """
    runs = [record for group in groups for record in group.records]
    found = []
    keys = list(dict.fromkeys(key for group in groups for key in group.keys if key not in ("name", "variant")))
    unswept = {key for group in groups for key in group.settings}
    for key, name in zip(keys, short_names(keys), strict=True):
        values = [group.keys[key].shown if key in group.keys else "" for group in groups for _ in group.records]
        about = f"{one_line(key)}, {'in which runs differ' if key in unswept else 'set by the sweep'}"
        found.append(ResultsColumn(one_line(key), one_line(name), about, values))
    further = dict.fromkeys(key for run in runs for key in run.summary if _is_further(key, run.summary[key]))
    compared = list(enumerate(compared_with(groups)))
    uneven = any(unequal(steps_ratio(groups, index, of)) for index, of in compared if of is not None)
    for key in [*_COLUMNS, *further]:
        numbers = [short(run.summary.get(key)) for run in runs]
        if _is_shown(key, numbers, runs):
            time = key.endswith(("_s", "_seconds"))
            plain = (key.replace("_", " "), human.short_duration if time else _number, "")
            label, show, about = _COLUMNS.get(key, plain)
            relative = key in _RELATIVE or (key == "local_steps" and uneven)
            unknown = "diverged" if key == "final_perplexity" else human.UNKNOWN
            found.append(ResultsColumn(key, label, about, numbers, show, relative, unknown))
    spent = [short(cost_of(run)) for run in runs]
    if any(amount is not None for amount in spent):
        currency = one_line(currency_of(runs))
        label, about = (
            f"money, {currency}" if currency else "money",
            "of workers, server and data, at the prices of the experiment",
        )
        found.append(ResultsColumn("money", label, about, spent, human.amount, relative=True))
    return found


def _is_shown(key: str, numbers: Sequence[float | None], runs: Sequence[RunRecord]) -> bool:
    if key in _OF_TRAINING:
        return any(run.summary["trainer"] != "null" for run in runs)
    if key in OF_FAULTS:
        return any(numbers) and (key != "goodput" or any(run.summary.get("lost_rounds") for run in runs))
    if key == "tokens":
        return len({run.summary[key] / max(run.summary["local_steps"], 1) for run in runs}) > 1
    return key in _ALWAYS or len(set(numbers)) > 1


def _is_further(key: str, value: Any) -> bool:
    known = key in (*_COLUMNS, *SUMMARY_KEYS, *OF_MONEY, *_UNSHOWN)
    return not known and isinstance(value, int | float) and not isinstance(value, bool)


def usual_targets(groups: Sequence[Group]) -> list[float]:
    """Returns the perplexity that all runs of a baseline reach in the end, which makes variants comparable."""
    baseline = next((index for index in compared_with(groups) if index is not None), None)
    reached = [] if baseline is None else [run["final_perplexity"] for run in groups[baseline].summaries]
    known = [value for value in reached if human.known(value)]
    return [math.ceil(max(known) * 100) / 100] if known else []


def target_columns(groups: Sequence[Group], axes: Sequence[Axis], targets: Sequence[float]) -> list[ResultsColumn]:
    """Returns for each target and axis a column of where runs first reached it, see `spent_until`."""
    runs = [record for group in groups for record in group.records]
    keys = cast("list[Against]", [axis.key for axis in axes])  # further columns of evaluations too
    found = []
    for target in targets:
        spent = [spent_until(run, target, keys) if is_trained(run) else {} for run in runs]
        for axis in axes:
            name, label = f"{axis.key}_to_{target:g}", f"{axis.label} to perplexity {target_text(target)}"
            values, show = (
                [short(each.get(axis.key)) for each in spent],
                _COUNTS.get(axis.key) or FORMATS.get(axis.key, _number),
            )
            found.append(ResultsColumn(name, label, _REACHED, values, show, True, "not reached", axis.key))
    return found


def results(groups: Sequence[Group], axes: Sequence[Axis], targets: Sequence[float]) -> str:
    """Returns the table's head and two bodies, a row for each group and a row for each run, as HTML."""
    found = columns(groups)
    place = 1 + next(number for number, column in enumerate(found) if column.key == "simulated_seconds")
    found[place:place] = target_columns(groups, axes, targets)
    shown = [(column, _attributes(column, axes)) for column in found]
    head = [_header("variant", "variant", "", ' class="text"'), _header("seed", "seed", "", ' class="seed"')]
    head += [_header(column.key, column.label, column.about, attributes) for column, attributes in shown]
    ends = accumulate(len(group.records) for group in groups)
    places = [range(end - len(group.records), end) for end, group in zip(ends, groups, strict=True)]
    of_groups, of_runs = [], []
    for group, own, baseline in zip(groups, places, compared_with(groups), strict=True):
        of_groups.append(_row(group, own, () if baseline is None else places[baseline], shown, ""))
        for run, record in zip(own, group.records, strict=True):
            of_runs.append(_row(group, [run], (), shown, str(record.summary["seed"])))
    bodies = f'<tbody class="groups">{"".join(of_groups)}</tbody><tbody class="runs">{"".join(of_runs)}</tbody>'
    return f"<thead><tr>{''.join(head)}</tr></thead>{bodies}"


def _attributes(column: ResultsColumn, axes: Sequence[Axis]) -> str:
    """Returns the attributes of a column's cells: of text; the axis with which it is shown, the first one at first."""
    if not column.axis:
        return ' class="text"' if column.show is None else ""
    return f' data-axis="{escaped(column.axis)}"{"" if column.axis == axes[0].key else " hidden"}'


def _header(key: str, label: str, about: str, attributes: str) -> str:
    button = f'<button type="button" title="{escaped(about)}">{escaped(label)}</button>'
    return f'<th scope="col" aria-sort="none" data-key="{escaped(key)}"{attributes}>{button}</th>'


def _row(
    group: Group, own: Sequence[int], reference: Sequence[int], shown: Sequence[tuple[ResultsColumn, str]], seed: str
) -> str:
    texts = [str(column.values[own[0]]) for column, _ in shown if column.show is None]
    words = " ".join([group.label, *texts, *([f"seed {seed}"] if seed else [])]).lower()
    name = escaped(group.parts[0])
    runs = f" <small>n\u00a0=\u00a0{len(own)}</small>" if len(own) > 1 else ""
    trained = any(map(is_trained, group.records))
    cells = "".join(_cell(column, attributes, own, reference, trained) for column, attributes in shown)
    first = f'<th scope="row" data-value="{name}">{name}{runs}</th><td class="seed">{seed}</td>'
    return f'<tr data-find="{escaped(words)}">{first}{cells}</tr>'


def _cell(column: ResultsColumn, attributes: str, own: Sequence[int], reference: Sequence[int], trained: bool) -> str:
    """Returns the mean over some runs, with half the range, the number that know it, and the ratio to others' mean."""
    if column.show is None:
        return f"<td{attributes}>{escaped(column.values[own[0]])}</td>"
    mean, base = (spread(column.values[run] for run in runs) for runs in (own, reference))
    if not mean.known:
        return f'<td{attributes} data-value="">{column.unknown if trained else human.UNKNOWN}</td>'
    text, *notes = mean.lines(column.show)
    complete = mean.known == mean.runs and base.known == base.runs  # else a ratio would be of the lucky ones
    notes += [f"{mean.known} of {mean.runs}"] if mean.known < mean.runs else []
    notes += [human.ratio(mean.mean / base.mean)] if column.relative and complete and base.runs and base.mean else []
    small = f"<small>{', '.join(notes)}</small>" if notes else ""
    return f'<td{attributes} data-value="{short(mean.mean)}">{text}{small}</td>'


def note_on_results(groups: Sequence[Group]) -> str:
    """Returns the legend of the table's signs."""
    compared = compared_with(groups)
    parts = ["± is half the range over n runs."] if any(len(group.records) > 1 for group in groups) else []
    names = list(dict.fromkeys(groups[index].parts[0] for index in compared if index is not None))
    if names:
        said = " or ".join(names) if len(names) < 4 else "the baseline"
        parts.append(f"× is relative to {said} of the same sweep point.")  # noqa: RUF001 - the multiplication sign is meant
    if any(column.key == "local_steps" and column.relative for column in columns(groups)):
        parts.append("The work is not equal where local steps have a factor: other factors tell of that too.")
    return " ".join([*parts, "The CSV file has one line for every run."])
