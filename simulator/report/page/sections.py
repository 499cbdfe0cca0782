"""Parts of a page that need no script, as HTML; everything from records is escaped."""

import html
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from simulator.host import format as human
from simulator.record import FAULTS, RunRecord
from simulator.report.group_keys import one_line
from simulator.report.grouping import Group, note_of_repeats
from simulator.report.page.answer import answers, answers_table
from simulator.report.page.limits import SETTINGS_SIDE_BY_SIDE, TIMELINES
from simulator.report.page.rounds import fault_counts
from simulator.report.page.settings import settings_of

_ENVIRONMENT = ("backend", "trainer", "data_hash", "parameters", "workers")
_LONGEST_VALUE = 16  # characters; enough of a hash


def escaped(value: object) -> str:
    """Returns a text as HTML that shows it, with nothing invisible left in it."""
    return html.escape(one_line(str(value)))


def head(groups: Sequence[Group], unfinished: Sequence[str]) -> dict[str, str]:
    """Returns the title, the question, the answer and the facts of a page."""
    runs = [record for group in groups for record in group.records]
    names = list(dict.fromkeys(one_line(record.experiment["name"]) for record in runs))
    questions = list(dict.fromkeys(one_line(record.experiment.get("description") or "") for record in runs))
    asked = "".join(f"<p>{escaped(question)}</p>" for question in questions if question)
    return {
        "title": escaped(", ".join(names) if len(names) <= 3 else f"{names[0]} and {len(names) - 1} more"),
        "question": f'<div class="question">{asked}</div>' if asked else "",
        "answer": "".join(f"<p>{escaped(sentence)}</p>" for sentence in answers(groups)),
        "answers": _answers(groups),
        "facts": "".join(f"<li>{escaped(fact)}</li>" for fact in _facts(runs, groups)),
        "unfinished": _unfinished(unfinished),
    }


def _answers(groups: Sequence[Group]) -> str:
    rows = answers_table(groups)
    return _table(list(rows[0]), [list(row.values()) for row in rows], "answers") if rows else ""


def _facts(runs: Sequence[RunRecord], groups: Sequence[Group]) -> Iterable[str]:
    yield _plural(len(runs), "run")
    yield _plural(len(groups), "variant") if _only_variants(groups) else f"{len(groups):,} variants and sweep points"
    seeds = {record.summary["seed"] for record in runs}
    yield f"{len(seeds):,} seeds" if len(seeds) > 1 else f"seed {next(iter(seeds))}"
    workers = sorted({record.summary["workers"] for record in runs})
    yield _plural(workers[0], "worker") if len(workers) == 1 else f"{workers[0]:,} to {workers[-1]:,} workers"
    again = note_of_repeats(groups)
    if again:
        yield again
    untrained = sum(record.summary["trainer"] == "null" for record in runs)
    if untrained:
        yield "nothing trained" if untrained == len(runs) else f"{untrained:,} of them without training"
    diverged = sum(r.summary["trainer"] != "null" and not human.known(r.summary["final_perplexity"]) for r in runs)
    if diverged:
        yield f"{diverged:,} diverged"


def _only_variants(groups: Sequence[Group]) -> bool:
    return len({group.records[0].summary["variant"] for group in groups}) == len(groups)


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _unfinished(points: Sequence[str]) -> str:
    if not points:
        return ""
    listed = "".join(f"<li>{escaped(point)}</li>" for point in points)
    summary = f"{_plural(len(points), 'point')} of the sweep not finished, and not in this page"
    return f'<details class="warning"><summary>{summary}</summary><ul>{listed}</ul></details>'


def configuration(groups: Sequence[Group]) -> str:
    """Returns the settings in which the groups differ, and the common ones folded away."""
    settings = settings_of(groups)
    parts = []
    if not settings.different:
        parts.append("<p>All runs have the same settings.</p>" if len(groups) > 1 else "")
    elif len(groups) <= SETTINGS_SIDE_BY_SIDE:
        parts.append(_table(["setting", *(g.label for g in groups)], _rows(settings.different), "settings"))
    else:
        rows = [[key, str(len(set(values))), _tally(values)] for key, values in settings.different.items()]
        parts.append(
            _table(["setting", "values", "which, with the number of variants and sweep points"], rows, "settings")
        )
    common = _table(["setting", "value"], [[key, value] for key, value in settings.common.items()], "settings common")
    parts.append(f"<details><summary>{len(settings.common):,} settings that all runs share</summary>{common}</details>")
    return "".join(parts)


def _rows(settings: Mapping[str, Sequence[str]]) -> list[list[str]]:
    return [[key, *values] for key, values in settings.items()]


def _tally(values: Sequence[str], most: int = 24) -> str:
    counts = Counter(values)
    shown = [f"{value} ({count:,})" for value, count in list(counts.items())[:most]]
    return ", ".join(shown) + (f" and {len(counts) - most:,} more" if len(counts) > most else "")


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], name: str) -> str:
    """Returns a table whose first column heads its rows, in a box of its own that scrolls."""
    titles = "".join(f'<th scope="col">{escaped(title)}</th>' for title in header)
    lines = []
    for first, *rest in rows:
        cells = "".join(f"<td>{_breakable(cell)}</td>" for cell in rest)
        lines.append(f'<tr><th scope="row">{_breakable(first, ".")}</th>{cells}</tr>')
    table = f'<table class="{name}"><thead><tr>{titles}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{name}">{table}</div>'


def _breakable(text: str, *marks: str) -> str:
    """Returns a text as HTML with places where a long name may be broken: after underscores and the marks given."""
    shown = escaped(text)
    for mark in ("_", *marks):
        shown = shown.replace(mark, f"{mark}<wbr>")
    return shown


def faults(groups: Sequence[Group]) -> str:
    """Returns the table of faults, nothing without any."""
    counts = fault_counts(groups)
    if counts.empty or not len(counts.columns):
        return ""
    some = counts[counts.sum(axis=1) > 0].head(TIMELINES)
    rows = [
        [groups[int(str(i))].label, *(human.significant(v) for v in row)]
        for i, row in zip(some.index, some.to_numpy(), strict=True)
    ]
    left_out = int((counts.sum(axis=1) > 0).sum()) - len(rows)
    note = f'<p class="note">And {left_out:,} more variants and sweep points.</p>' if left_out else ""
    meanings = "".join(f"<dt>{escaped(kind)}</dt><dd>{escaped(FAULTS[kind])}</dd>" for kind in counts.columns)
    legend = f"<details><summary>What the columns count</summary><dl>{meanings}</dl></details>"
    return f"{_table(['mean number per run', *map(str, counts.columns)], rows, 'faults numbers')}{note}{legend}"


def environment(runs: Sequence[RunRecord]) -> str:
    """Returns the environment table: versions, devices, host time."""
    summaries = [record.summary for record in runs]
    rows = [["runs", f"{len(runs):,}"]]
    rows += [[_title(key), _distinct(summaries, key)] for key in _ENVIRONMENT if any(key in s for s in summaries)]
    rows.append(["host time, all runs", human.duration(sum(s["host_seconds"] or 0.0 for s in summaries))])
    speeds = [s["tokens_per_host_second"] for s in summaries if human.known(s["tokens_per_host_second"])]
    if speeds:
        low, high = human.short_count(min(speeds)), human.short_count(max(speeds))
        rows.append(["tokens per host second", low if low == high else f"{low} to {high}"])
    reused = [s["reused"] for s in summaries if s.get("reused")]
    if reused:
        steps = sum(each["local_steps"] for each in reused)
        rows.append(["took over what others had trained", f"{_plural(len(reused), 'run')}, {steps:,} local steps"])
    packages = dict.fromkeys(package for s in summaries for package in s["versions"])
    versions = [{package: s["versions"].get(package) for package in packages} for s in summaries]
    rows += [[package, _distinct(versions, package)] for package in packages]
    return _table(["", ""], rows, "environment")


def _title(key: str) -> str:
    return {"data_hash": "data (hash)", "trainer": "trainer"}.get(key, key)


def _distinct(summaries: Sequence[Mapping[str, Any]], key: str) -> str:
    """Returns the value that all have, or the values, each with the number of runs that have it."""
    counts = Counter(_value(summary.get(key)) for summary in summaries)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{value} ({_plural(count, 'run')})" for value, count in counts.most_common(12))


def _value(value: Any) -> str:
    if value is None:
        return human.UNKNOWN
    if value == "null":
        return "null (nothing trained)"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)[:_LONGEST_VALUE]
