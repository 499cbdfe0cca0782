"""Tables for the terminal: results of an experiment's variants, and work of one run's workers."""

import math
from collections.abc import Callable, Sequence

from rich.console import Group as Stack
from rich.table import Table
from rich.text import Text

from simulator.host import format as human
from simulator.record import OF_FAULTS
from simulator.report.baselines import baseline_of, baselines, by_point, unequal, without_lonely
from simulator.report.fitted import FittedTable
from simulator.report.given import Records, Results, Summary, one_record
from simulator.report.grouping import MORE, Group, group_results, note_of_repeats, run_labels
from simulator.report.money import cost_of, currencies
from simulator.report.worker_bins import sample_workers, workers_of


def results_table(
    runs: Results, *, title: str | None = None, baseline: str | None = None, by: Sequence[str] | None = None
) -> Table:
    """Returns one row per group of runs: those that differ by their seed alone taken together, unless keys are given.

    Several runs are shown as their mean and ± half their range. Factors, such as 1.06×, are relative to the baseline of
    the same sweep point: the variant named `baseline`, or else the first synchronous one (no round was ever stale), or
    else the first. That of the local steps is there where the work was not equal. Where nothing was trained, the
    columns that tell of training are left out; money is there if there are prices, in one currency.

    Args:
        runs: Records, or summaries, see `SUMMARY_KEYS`; of these no more is known than what a sweep has set.
        title: Above the table.
        baseline: Name of the variant to compare with.
        by: Dotted keys that tell groups apart, see `group_records`.

    Raises:
        ReportError: If there is no run, none is of the variant named `baseline`, or a key is unknown.
    """
    groups = by_point(group_results(runs, by))
    if baseline is not None:
        baseline_of(groups, baseline)
    found = without_lonely(baselines(groups, baseline))
    references = [[] if index is None else _summaries(groups[index]) for index in found]
    each = [_summaries(group) for group in groups]
    summaries = [run for own in each for run in own]
    paid_in = currencies(groups)
    left_out = (*(() if any(map(_trained, summaries)) else _OF_TRAINING), *(() if len(paid_in) == 1 else ("money",)))
    shown = [key for key in _COLUMNS if key not in left_out]
    table = FittedTable(title, _signs(groups, references, paid_in))
    table.leading = 1
    table.add_words("variant")
    for key in shown:
        table.add_numbers("\n".join([_COLUMNS[key], *(paid_in if key == "money" and any(paid_in) else [])]))
    for group, own, reference in zip(groups, each, references, strict=True):
        cells = _cells(own, reference)
        table.add_row(_name(group), *(cells[key] for key in shown))
    return table


def _signs(groups: Sequence[Group], references: Sequence[Sequence[Summary]], paid_in: Sequence[str]) -> str:
    """Returns the legend of the signs in a table of results, and further notes on it."""
    steps = [
        _ratio(group.summaries, reference, "local_steps") for group, reference in zip(groups, references, strict=True)
    ]
    said = {
        "×: relative to the baseline": any(references),  # noqa: RUF001 - the multiplication sign is meant
        "±: half the range over n runs": any(len(group.records) > 1 for group in groups),
        "local steps with a factor: the work was not equal": any(map(unequal, steps)),
        "…: more settings differ": any(group.parts[-1:] == (MORE,) for group in groups),
        f"no money, as prices are in {' and '.join(name or 'no currency' for name in paid_in)}": len(paid_in) > 1,
    }
    return "; ".join([*(text for text, holds in said.items() if holds), *filter(None, [note_of_repeats(groups)])])


def results_tables(runs: Results, *, title: str | None = None, by: Sequence[str] | None = None) -> Stack:
    """Returns the tables of results: `results_table` and, if something was lost, `losses_table`.

    Args:
        runs: Records, or summaries.
        title: Above the table of results.
        by: Dotted keys that tell groups apart, see `group_records`.
    """
    groups = group_results(runs, by)
    losses = losses_table(groups)
    results = results_table(groups, title=title)
    return Stack(results) if losses is None else Stack(results, "", losses)


def losses_table(runs: Results, *, by: Sequence[str] | None = None) -> Table | None:
    """Returns the losses of each group of runs to faults, the mean over its runs, None if none lost anything.

    Work counts as local steps: those that were computed in rounds that never arrived are lost, those of rounds that
    arrived and were dropped, because they were too stale or too late, are dropped.

    Args:
        runs: Records, or summaries, see `OF_FAULTS`.
        by: Dotted keys that tell groups apart, see `group_records`.
    """
    groups = by_point(group_results(runs, by)) if runs else []
    keys = ("lost_rounds", "dropped_steps", "non_finite")
    if not any(run.get(key) for group in groups for run in group.summaries for key in keys):
        return None
    table = FittedTable("what was lost")
    table.leading = 1
    table.add_words("variant")
    for title in _OF_FAULTS.values():
        table.add_numbers(title)
    for group in groups:
        known = [run for run in group.summaries if "goodput" in run]  # older records know nothing of faults
        values = {key: [run[key] for run in known if human.known(run[key])] for key in OF_FAULTS}
        means = {key: _mean(each) for key, each in values.items() if each}
        cells = {key: human.short_count(mean) for key, mean in means.items()}
        if known:
            cells |= {
                "goodput": human.UNKNOWN if (rate := means.get("goodput")) is None else human.significant(rate),
                "lost_share": human.percent(_mean([_lost_share(run) for run in known])),
                "lost_bytes": human.byte_count(means["lost_bytes"]),
            }
        table.add_row(_name(group), *(cells.get(key, "") for key in _OF_FAULTS))
    return table


def _lost_share(run: Summary) -> float:
    computed = run["local_steps"] + run["lost_steps"]
    return float((run["lost_steps"] + run["dropped_steps"]) / computed) if computed else 0.0


def _name(group: Group) -> Text:
    lines = [group.parts[0] or "(unnamed)", *group.parts[1:]]
    return Text("\n".join([*lines, *([f"n = {len(group.records)}"] if len(group.records) > 1 else [])]))


_COLUMNS = {
    "final_perplexity": "final\nperplexity",
    "simulated_seconds": "simulated\ntime",
    "local_steps": "local\nsteps",
    "server_updates": "server\nupdates",
    "mean_staleness": "staleness",
    "utilization": "utili-\nzation",
    "bytes_sent": "data\nsent",
    "money": "money",
    "tokens_per_host_second": "tokens/\nhost s",
}
_OF_TRAINING = ("final_perplexity", "tokens_per_host_second")
_MOST_IN_FULL = 100_000  # else the table is too wide for a terminal
_OF_FAULTS = {
    "goodput": "useful\nsteps/s",
    "lost_share": "work lost\nor dropped",
    "lost_steps": "steps\nlost",
    "lost_rounds": "rounds\nlost",
    "dropped_steps": "steps\ndropped",
    "non_finite": "rounds not\nfinite",
    "lost_bytes": "data sent\nin vain",
}


def _summaries(group: Group) -> list[Summary]:
    """Returns the summaries of a group's runs, each with the money that it has cost."""
    return [{**record.summary, "money": cost_of(record)} for record in group.records]


def _cells(runs: Sequence[Summary], reference: Sequence[Summary]) -> dict[str, str]:
    largest = _values(runs, "max_staleness")
    maximum = f"\nmax {human.count(max(largest))}" if largest else ""
    diverged = all(_trained(run) and not human.known(run["final_perplexity"]) for run in runs)
    perplexity = "diverged" if diverged else _spread(runs, "final_perplexity", human.perplexity)
    return {
        "final_perplexity": perplexity + _relative(runs, reference, "final_perplexity") + _of_shards(runs),
        "simulated_seconds": _spread(runs, "simulated_seconds", human.short_duration)
        + _relative(runs, reference, "simulated_seconds"),
        "local_steps": _spread(runs, "local_steps", _count)
        + (_relative(runs, reference, "local_steps") if unequal(_ratio(runs, reference, "local_steps")) else ""),
        "server_updates": _spread(runs, "server_updates", _count),
        "mean_staleness": _spread(runs, "mean_staleness", human.decimal) + maximum,
        "utilization": _spread(runs, "utilization", human.percent),
        "bytes_sent": _spread(runs, "bytes_sent", human.byte_count),
        "money": _spread(runs, "money", human.amount) + _relative(runs, reference, "money"),
        "tokens_per_host_second": _spread(runs, "tokens_per_host_second", human.short_count),
    }


def _count(value: float | None) -> str:
    return human.count(value) if value is None or value < _MOST_IN_FULL else human.short_count(value)


def _of_shards(runs: Sequence[Summary]) -> str:
    """Returns a line with the best and the worst shard's perplexity, nothing where they were not evaluated."""
    each = [[loss for loss in run.get("final_shard_losses") or () if human.known(loss)] for run in runs]
    if not all(each):
        return ""
    best, worst = (_mean([math.exp(choose(losses)) for losses in each]) for choose in (min, max))
    return f"\nshards {human.perplexity(best)}\nto {human.perplexity(worst)}"


def _trained(run: Summary) -> bool:
    return bool(run["trainer"] != "null")


def _values(runs: Sequence[Summary], key: str) -> list[float]:
    return [run[key] for run in runs if human.known(run[key])]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _ratio(runs: Sequence[Summary], reference: Sequence[Summary], key: str) -> float | None:
    above, below = _mean(_values(runs, key)), _mean(_values(reference, key))
    return above / below if above is not None and below else None


def _relative(runs: Sequence[Summary], reference: Sequence[Summary], key: str) -> str:
    """Returns a line with the mean relative to the reference's, or nothing where one of them is not known."""
    found = _ratio(runs, reference, key)
    return "" if found is None else f"\n{human.ratio(found)}"


def _spread(runs: Sequence[Summary], key: str, show: Callable[[float | None], str]) -> str:
    """Returns the mean, half the range, if any, and the number of runs with a value if not all have one."""
    values = _values(runs, key)
    lines = [show(_mean(values))]
    if values and max(values) > min(values):
        lines.append(f"± {show((max(values) - min(values)) / 2)}")
    if values and len(values) < len(runs):
        lines.append(f"{len(values)} of {len(runs)}")
    return "\n".join(lines)


def worker_rich_table(record: Records, *, max_workers: int = 32, title: str | None = None) -> Table:
    """Returns one row per worker: its speed, its work, its shares of time and its staleness.

    Shares are of the time from the start of the simulation until the worker's last arrival was processed, see
    `worker_table`.

    Args:
        record: The run.
        max_workers: Of more workers, this many are shown, evenly spaced from the fastest to the slowest.
        title: Above the table; what the run is called when absent.

    Raises:
        ReportError: If several runs are given, or none.
    """
    record = one_record(record)
    workers = workers_of(record)
    shown = sample_workers(workers, max_workers)
    caption = f"{len(shown):,} of {len(workers):,} workers, evenly spaced from fastest to slowest"
    table = FittedTable(title or run_labels(record)[0], caption if len(shown) < len(workers) else None)
    for header in ("worker", "s/step", "rounds", "local\nsteps", "compute", "pull", "push", "wait", "lost"):
        table.add_numbers(header)
    table.add_numbers("staleness\nmean / max")
    for worker, row in workers.set_index("worker").loc[shown].to_dict("index").items():
        stale = f"{human.decimal(row['mean_staleness'])} / {human.count(row['max_staleness'])}"
        table.add_row(
            str(worker),
            human.significant(row["seconds_per_step"]) if human.known(row["seconds_per_step"]) else human.UNKNOWN,
            human.count(row["rounds"]),
            human.count(row["local_steps"]),
            *(human.percent(row[share]) for share in ("compute", "pull", "push", "wait", "lost")),
            stale if row["rounds"] else human.UNKNOWN,
        )
    return table
