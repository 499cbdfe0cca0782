"""Tables for the terminal: results of an experiment's variants, and work of one run's workers."""

import math
from collections.abc import Sequence

from rich.console import Group as Stack
from rich.table import Table
from rich.text import Text

from simulator.host import format as human
from simulator.host.terminal_table import TerminalTable
from simulator.report.arguments import Records, Results, Summary, one_record
from simulator.report.baselines import baseline_of, baselines, by_point, unequal, without_lonely
from simulator.report.grouping import MORE, Group, group_results, note_of_repeats, run_labels
from simulator.report.money import cost_of, currencies
from simulator.report.seeds import FORMATS, spread
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
    numbers = [f"{_COLUMNS[key]}\n{paid_in[0]}" if key == "money" and paid_in[0] else _COLUMNS[key] for key in shown]
    table = TerminalTable(title, _signs(groups, references, paid_in), words=["variant"], numbers=numbers, leading=1)
    for group, own, reference in zip(groups, each, references, strict=True):
        table.add_row(_name(group), *(_cell(key, own, reference) for key in shown))
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
    table = TerminalTable("what was lost", words=["variant"], numbers=list(_OF_FAULTS.values()), leading=1)
    for group in groups:
        known = [run for run in group.summaries if "goodput" in run]  # older records know nothing of faults
        table.add_row(_name(group), *(_loss(key, known) if known else "" for key in _OF_FAULTS))
    return table


def _loss(key: str, runs: Sequence[Summary]) -> str:
    mean = spread(_lost_share(run) if key == "lost_share" else run[key] for run in runs).mean
    if key == "goodput":
        return human.significant(mean) if human.known(mean) else human.UNKNOWN
    return human.percent(mean) if key == "lost_share" else FORMATS.get(key, human.short_count)(mean)


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
_RELATIVE = ("final_perplexity", "simulated_seconds", "money")
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


def _cell(key: str, runs: Sequence[Summary], reference: Sequence[Summary]) -> str:
    values = spread(run[key] for run in runs)
    lines = values.lines(_FORMATS.get(key) or FORMATS[key])
    if key == "final_perplexity" and not values.known and all(map(_trained, runs)):
        lines = ["diverged"]
    if 0 < values.known < values.runs:
        lines.append(f"{values.known} of {values.runs}")
    ratio = _ratio(runs, reference, key)
    if human.known(ratio) and (unequal(ratio) if key == "local_steps" else key in _RELATIVE):
        lines.append(human.ratio(ratio))
    if key == "mean_staleness" and (largest := spread(run["max_staleness"] for run in runs)).known:
        lines.append(f"max {human.count(largest.high)}")
    return "\n".join([*lines, *(_of_shards(runs) if key == "final_perplexity" else [])])


def _count(value: float | None) -> str:
    return human.count(value) if value is None or value < _MOST_IN_FULL else human.short_count(value)


_FORMATS = {"local_steps": _count, "server_updates": _count, "mean_staleness": human.decimal}


def _of_shards(runs: Sequence[Summary]) -> list[str]:
    """Returns lines with the best and the worst shard's perplexity, none where they were not evaluated."""
    each = [[loss for loss in run.get("final_shard_losses") or () if human.known(loss)] for run in runs]
    if not all(each):
        return []
    best, worst = (spread(math.exp(choose(losses)) for losses in each).mean for choose in (min, max))
    return [f"shards {human.perplexity(best)}", f"to {human.perplexity(worst)}"]


def _trained(run: Summary) -> bool:
    return bool(run["trainer"] != "null")


def _ratio(runs: Sequence[Summary], reference: Sequence[Summary], key: str) -> float:
    """Returns the mean relative to the reference's, NaN where one of them is not known."""
    above, below = (spread(run[key] for run in each).mean for each in (runs, reference))
    return above / below if below else math.nan


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
    shares = ("compute", "pull", "push", "wait", "lost")
    caption = f"{len(shown):,} of {len(workers):,} workers, evenly spaced from fastest to slowest"
    labels = workers["label"].tolist()
    numbers = ("s/step", "rounds", "local\nsteps", *shares, "staleness\nmean / max")
    named = any(label != f"worker {worker}" for worker, label in enumerate(labels))
    table = TerminalTable(title or run_labels(record)[0], caption if len(shown) < len(workers) else None)
    table.add_numbers("worker")
    if named:
        table.keys = 2
        table.add_words("device")
    for header in numbers:
        table.add_numbers(header)
    for worker, row in workers.set_index("worker").loc[shown].to_dict("index").items():
        stale = f"{human.decimal(row['mean_staleness'])} / {human.count(row['max_staleness'])}"
        table.add_row(
            str(worker),
            *([str(row["label"])] if named else []),
            human.significant(row["seconds_per_step"]) if human.known(row["seconds_per_step"]) else human.UNKNOWN,
            human.count(row["rounds"]),
            human.count(row["local_steps"]),
            *(human.percent(row[share]) for share in shares),
            stale if row["rounds"] else human.UNKNOWN,
        )
    return table
