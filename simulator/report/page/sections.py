"""Parts of a page that need no script, as HTML."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from simulator.host import format as human
from simulator.host.text import one_line, plural
from simulator.record import FAULTS, RunRecord
from simulator.report.grouping import Group, note_of_repeats
from simulator.report.page.answer import answers, answers_table
from simulator.report.page.curves import Axis
from simulator.report.page.limits import SETTINGS_SIDE_BY_SIDE, TIMELINES
from simulator.report.page.markup import escaped, listed, table
from simulator.report.page.results import ranked
from simulator.report.page.settings import settings_of
from simulator.report.pseudo_gradients import LABELS, has_diagnostics

_ENVIRONMENT = {key: key for key in ("backend", "trainer", "data_hash", "parameters", "workers")} | {
    "data_hash": "data (hash)"
}
_LONGEST_VALUE = 16  # characters; enough of a hash
_LONGEST_TALLY = 24
_DASHES = {"solid": "", "dash": "7 3", "dot": "2 3", "dashdot": "7 3 2 3"}


def head(groups: Sequence[Group], unfinished: Sequence[str]) -> dict[str, str]:
    """Returns the title, the question, the answer and the facts of a page."""
    runs = [record for group in groups for record in group.records]
    names = list(dict.fromkeys(one_line(record.experiment["name"]) for record in runs))
    questions = dict.fromkeys(one_line(record.experiment.get("description") or "") for record in runs)
    rows = answers_table(groups)
    return {
        "title": escaped(", ".join(names) if len(names) <= 3 else f"{names[0]} and {len(names) - 1} more"),
        "question": listed("p", filter(None, questions)),
        "answer": listed("p", answers(groups)),
        "answers": table(list(rows[0]), [list(row.values()) for row in rows], "answers") if rows else "",
        "facts": listed("li", _facts(runs, groups)),
        "unfinished_hidden": "" if unfinished else "hidden",
        "unfinished": f"{plural(len(unfinished), 'point')} of the sweep not finished, and not in this page",
        "points": listed("li", unfinished),
    }


def _facts(runs: Sequence[RunRecord], groups: Sequence[Group]) -> Iterable[str]:
    yield plural(len(runs), "run")
    only_variants = len({group.variant for group in groups}) == len(groups)
    yield plural(len(groups), "variant") if only_variants else f"{len(groups):,} variants and sweep points"
    seeds = {record.summary["seed"] for record in runs}
    yield f"{len(seeds):,} seeds" if len(seeds) > 1 else f"seed {next(iter(seeds))}"
    workers = sorted({record.summary["workers"] for record in runs})
    yield plural(workers[0], "worker") if len(workers) == 1 else f"{workers[0]:,} to {workers[-1]:,} workers"
    again = note_of_repeats(groups)
    if again:
        yield again
    untrained = sum(record.summary["trainer"] == "null" for record in runs)
    if untrained:
        yield "nothing trained" if untrained == len(runs) else f"{untrained:,} of them without training"
    diverged = sum(r.summary["trainer"] != "null" and not human.known(r.summary["final_perplexity"]) for r in runs)
    if diverged:
        yield f"{diverged:,} diverged"


def choices(
    groups: Sequence[Group],
    axes: Sequence[Axis],
    looks: Sequence[Mapping[str, Any]],
    drawn: Sequence[int],
    held: Sequence[int],
) -> dict[str, str]:
    """Returns the choices of what is drawn, and what is said in place of figures that cannot be.

    Args:
        groups: Of all runs.
        axes: Of curves.
        looks: Of the groups' curves.
        drawn: Groups whose curves are drawn at first.
        held: Groups whose timelines are held.
    """
    order = dict.fromkeys([*drawn, *range(len(groups))])
    best = next((index for index in ranked(groups) if index in held), None)
    arrived = sum(any(len(record.rounds) for record in group.records) for group in groups)
    few = f"{len(held):,} of {arrived:,} variants and sweep points: those that others are compared with, and those "
    return {
        "axes": "".join(f'<option value="{escaped(axis.key)}">{escaped(axis.label)}</option>' for axis in axes),
        "curves_hidden": "" if axes else "hidden",
        "seeds_hidden": "" if any(len(group.records) > 1 for group in groups) else "hidden",
        "few": "few" if len(groups) <= len(drawn) else "",
        "variants": "".join(_variant(index, groups[index].label, looks[index], index in drawn) for index in order),
        "runs": "".join(
            f'<option value="{index}"{" selected" if index == best else ""}>{escaped(groups[index].label)}</option>'
            for index in held
        ),
        "no_curves": ""
        if axes
        else "Nothing was trained, so there are no curves. What is chosen here is shown under Staleness.",
        "no_rounds": "" if held else "No round arrived.",
        "diagnostics": "".join(f'<option value="{name}">{label}</option>' for name, label in LABELS.items()),
        "no_diagnostics": ""
        if any(all(map(has_diagnostics, groups[index].records)) for index in held)
        else "Nothing was trained, or the records are older: there are no diagnostics.",
        "left_out": ""
        if len(held) == arrived
        else f"To stay small, this page holds the timelines, and the pseudo-gradients, of {few}with the lowest final "
        f"perplexity, at most {TIMELINES}. The figures of tardigrad plot show all.",
    }


def _variant(index: int, label: str, look: Mapping[str, Any], drawn: bool) -> str:
    """Returns the box that shows a group's curve, with a sample of its line."""
    line = look["line"]
    stroke = f'stroke="{line["color"]}" stroke-width="2.4" stroke-dasharray="{_DASHES[line["dash"]]}"'
    sample = f'<svg width="26" height="10" aria-hidden="true"><line x1="1" x2="25" y1="5" y2="5" {stroke}/></svg>'
    box = f'<input type="checkbox" value="{index}"{" checked" if drawn else ""}>'
    return f'<label data-find="{escaped(label.lower())}">{box}<span>{sample}{escaped(label)}</span></label>'


def configuration(groups: Sequence[Group]) -> str:
    """Returns the settings in which the groups differ, and the common ones folded away."""
    different, common = settings_of(groups)
    header, rows = (
        ["setting", *(group.label for group in groups)],
        [[key, *values] for key, values in different.items()],
    )
    if len(groups) > SETTINGS_SIDE_BY_SIDE:
        header = ["setting", "values", "which, with the number of variants and sweep points"]
        rows = [[key, str(len(set(values))), _tally(values)] for key, values in different.items()]
    differing = (
        table(header, rows, "settings") if rows else "<p>All runs have the same settings.</p>" * (len(groups) > 1)
    )
    shared = table(["setting", "value"], [list(item) for item in common.items()], "settings common")
    return f"{differing}<details><summary>{len(common):,} settings that all runs share</summary>{shared}</details>"


def _tally(values: Sequence[str]) -> str:
    counts = Counter(values)
    shown = [f"{value} ({count:,})" for value, count in list(counts.items())[:_LONGEST_TALLY]]
    return ", ".join(shown) + (f" and {len(counts) - _LONGEST_TALLY:,} more" if len(counts) > _LONGEST_TALLY else "")


def faults(groups: Sequence[Group]) -> str:
    """Returns the table of faults, the mean over the runs of each group, nothing without any."""
    each = [[record.faults["fault"].value_counts() for record in group.records] for group in groups]
    means = [pd.concat(counts, axis=1).fillna(0).mean(axis=1) for counts in each]
    counts = pd.DataFrame(means, index=[group.label for group in groups]).fillna(0)
    counts = counts.loc[counts.sum(axis=1) > 0, counts.sum() > 0]
    if counts.empty:
        return ""
    some = counts.head(TIMELINES)
    rows = [[str(label), *map(human.significant, row)] for label, row in zip(some.index, some.to_numpy(), strict=True)]
    left_out = len(counts) - len(rows)
    note = f'<p class="note">And {left_out:,} more variants and sweep points.</p>' if left_out else ""
    meanings = "".join(f"<dt>{escaped(kind)}</dt><dd>{escaped(FAULTS[kind])}</dd>" for kind in counts.columns)
    legend = f"<details><summary>What the columns count</summary><dl>{meanings}</dl></details>"
    return f"{table(['mean number per run', *map(str, counts.columns)], rows, 'faults numbers')}{note}{legend}"


def environment(groups: Sequence[Group]) -> str:
    """Returns the environment table: versions, devices, host time."""
    summaries = [run for group in groups for run in group.summaries]
    rows = [["runs", f"{len(summaries):,}"]]
    rows += [
        [name, _distinct(summaries, key)] for key, name in _ENVIRONMENT.items() if any(key in s for s in summaries)
    ]
    rows.append(["host time, all runs", human.duration(sum(s["host_seconds"] or 0.0 for s in summaries))])
    speeds = [s["tokens_per_host_second"] for s in summaries if human.known(s["tokens_per_host_second"])]
    if speeds:
        low, high = human.short_count(min(speeds)), human.short_count(max(speeds))
        rows.append(["tokens per host second", low if low == high else f"{low} to {high}"])
    reused = [s["reused"] for s in summaries if s.get("reused")]
    if reused:
        steps = sum(each["local_steps"] for each in reused)
        rows.append(["took over what others had trained", f"{plural(len(reused), 'run')}, {steps:,} local steps"])
    versions = [s["versions"] for s in summaries]
    rows += [
        [package, _distinct(versions, package)] for package in dict.fromkeys(name for own in versions for name in own)
    ]
    return table(["", ""], rows, "environment")


def _distinct(mappings: Sequence[Mapping[str, Any]], key: str) -> str:
    """Returns the value that all have, or the values, each with the number of runs that have it."""
    counts = Counter(_value(mapping.get(key)) for mapping in mappings)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{value} ({plural(count, 'run')})" for value, count in counts.most_common(12))


def _value(value: Any) -> str:
    if value is None:
        return human.UNKNOWN
    if value == "null":
        return "null (nothing trained)"
    return f"{value:,}" if isinstance(value, int) else str(value)[:_LONGEST_VALUE]
