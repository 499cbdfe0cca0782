"""Tables for the terminal: what the variants of an experiment reached, and what the workers of one run did."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from simulator.record import OF_FAULTS, RunRecord, worker_table
from simulator.report import format as human
from simulator.report.grouping import group_records, sweep_point_key, sweep_point_labels
from simulator.report.intervals import sample_workers
from simulator.report.keys import ReportError, one_line

Summary = Mapping[str, Any]


def results_table(summaries: Sequence[Summary], *, title: str | None = None, baseline: str | None = None) -> Table:
    """Returns one row per variant and sweep point, runs that differ by their seed alone taken together.

    Several runs are shown as their mean and ± half their range. Factors, such as 1.06×, are relative to the baseline of
    the same sweep point: the variant named `baseline`, or else the first synchronous one (no round was ever stale), or
    else the first. Where nothing was trained, the columns that tell of training are left out.

    Args:
        summaries: As the records hold them, see `SUMMARY_KEYS`.
        title: Above the table.
        baseline: Name of the variant to compare with.

    Raises:
        ReportError: If there is no summary, or none is of the variant named `baseline`.
    """
    if not summaries:
        raise ReportError("no summaries given: a results table needs at least one run")
    points = _points(summaries)
    compared = any(len(variants) > 1 for variants in points.values())
    repeated = any(len(runs) > 1 for variants in points.values() for runs in variants.values())
    signs = (["×: relative to the baseline"] if compared else []) + (  # noqa: RUF001 - sign
        ["±: half the range over n runs"] if repeated else []
    )
    table = new_table(title, "; ".join(signs) or None)
    table.leading = 1
    table.add_column("variant", overflow="fold", min_width=12)
    trained = any(_trained(run) for run in summaries)
    shown = [key for key in _COLUMNS if trained or key not in _OF_TRAINING]
    for key in shown:
        table.add_column(_COLUMNS[key], justify="right", no_wrap=True)
    for variants in points.values():
        reference = _reference(variants, baseline) if len(variants) > 1 else []
        for variant, runs in variants.items():
            cells = _cells(runs, reference)
            table.add_row(_name(variant, runs), *(cells[key] for key in shown))
    return table


def results_tables(summaries: Sequence[Summary], *, title: str | None = None) -> Group:
    """Returns what there is to show of results: `results_table` and, where something was lost, `losses_table`."""
    losses = losses_table(summaries)
    results = results_table(summaries, title=title)
    return Group(results) if losses is None else Group(results, "", losses)


def losses_table(summaries: Sequence[Summary]) -> Table | None:
    """Returns what each variant and sweep point lost to faults, the mean over seeds, None where none lost anything.

    Work counts as local steps: those that were computed in rounds that never arrived are lost, those of rounds that
    arrived and were dropped, because they were too stale or too late, are dropped.

    Args:
        summaries: As the records hold them, see `OF_FAULTS`.
    """
    if not any(run.get(key) for run in summaries for key in ("lost_rounds", "dropped_steps", "non_finite")):
        return None
    table = new_table("what was lost", None)
    table.leading = 1
    table.add_column("variant", overflow="fold", min_width=12)
    for title in _OF_FAULTS.values():
        table.add_column(title, justify="right", no_wrap=True)
    for variants in _points(summaries).values():
        for variant, runs in variants.items():
            known = [run for run in runs if "goodput" in run]  # older records know nothing of faults
            values = {key: [run[key] for run in known if human.known(run[key])] for key in OF_FAULTS}
            means = {key: _mean(each) for key, each in values.items() if each}
            cells = {key: human.short_count(mean) for key, mean in means.items()}
            if known:
                cells |= {
                    "goodput": human.UNKNOWN if (rate := means.get("goodput")) is None else human.significant(rate),
                    "lost_share": human.percent(_mean([_lost_share(run) for run in known])),
                    "lost_bytes": human.byte_count(means["lost_bytes"]),
                }
            table.add_row(_name(variant, runs), *(cells.get(key, "") for key in _OF_FAULTS))
    return table


def _lost_share(run: Summary) -> float:
    computed = run["local_steps"] + run["lost_steps"]
    return float((run["lost_steps"] + run["dropped_steps"]) / computed) if computed else 0.0


def _points(summaries: Sequence[Summary]) -> dict[str, dict[str, list[Summary]]]:
    """Returns runs by sweep point and variant."""
    points: dict[str, dict[str, list[Summary]]] = {}
    for summary in summaries:
        points.setdefault(sweep_point_key(summary), {}).setdefault(summary["variant"], []).append(summary)
    return points


def _name(variant: str, runs: Sequence[Summary]) -> Text:
    lines = [one_line(variant) or "(unnamed)", *sweep_point_labels(runs[0])]
    return Text("\n".join([*lines, *([f"n = {len(runs)}"] if len(runs) > 1 else [])]))


_COLUMNS = {
    "final_perplexity": "final\nperplexity",
    "simulated_seconds": "simulated\ntime",
    "local_steps": "local\nsteps",
    "server_updates": "server\nupdates",
    "mean_staleness": "staleness",
    "utilization": "utili-\nzation",
    "bytes_sent": "data\nsent",
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


def new_table(title: str | None, caption: str | None) -> Table:
    """Returns a table without columns, in the look that all of them share."""
    return Table(
        title=Text(one_line(title)) if title else None,
        caption=caption,
        header_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 0),
    )


def _reference(variants: Mapping[str, Sequence[Summary]], baseline: str | None) -> Sequence[Summary]:
    if baseline is not None:
        if baseline not in variants:
            raise ReportError(f"baseline {baseline!r} is not among the variants {', '.join(map(repr, variants))}")
        return variants[baseline]
    synchronous = (runs for runs in variants.values() if all(run["max_staleness"] == 0 for run in runs))
    return next(synchronous, next(iter(variants.values())))


def _cells(runs: Sequence[Summary], reference: Sequence[Summary]) -> dict[str, str]:
    largest = _values(runs, "max_staleness")
    maximum = f"\nmax {human.count(max(largest))}" if largest else ""
    diverged = all(_trained(run) and not human.known(run["final_perplexity"]) for run in runs)
    perplexity = "diverged" if diverged else _spread(runs, "final_perplexity", human.perplexity)
    return {
        "final_perplexity": perplexity + _relative(runs, reference, "final_perplexity") + _of_shards(runs),
        "simulated_seconds": _spread(runs, "simulated_seconds", human.short_duration)
        + _relative(runs, reference, "simulated_seconds"),
        "local_steps": _spread(runs, "local_steps", _count),
        "server_updates": _spread(runs, "server_updates", _count),
        "mean_staleness": _spread(runs, "mean_staleness", human.decimal) + maximum,
        "utilization": _spread(runs, "utilization", human.percent),
        "bytes_sent": _spread(runs, "bytes_sent", human.byte_count),
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


def _relative(runs: Sequence[Summary], reference: Sequence[Summary], key: str) -> str:
    """Returns a line with the mean relative to the reference's, or nothing where one of them is not known."""
    above, below = _mean(_values(runs, key)), _mean(_values(reference, key))
    return f"\n{human.ratio(above / below)}" if above is not None and below else ""


def _spread(runs: Sequence[Summary], key: str, show: Callable[[float | None], str]) -> str:
    """Returns the mean, half the range where there is one, and how many runs have a value where not all have."""
    values = _values(runs, key)
    lines = [show(_mean(values))]
    if values and max(values) > min(values):
        lines.append(f"± {show((max(values) - min(values)) / 2)}")
    if values and len(values) < len(runs):
        lines.append(f"{len(values)} of {len(runs)}")
    return "\n".join(lines)


def worker_rich_table(record: RunRecord, *, max_workers: int = 32) -> Table:
    """Returns one row per worker: its speed, what it did, where its time went and how stale its rounds were.

    Shares are of the time from the start of the simulation until the worker's last arrival was processed, see
    `worker_table`.

    Args:
        record: The run.
        max_workers: Of more workers, this many are shown, evenly spaced from the fastest to the slowest.
    """
    workers = worker_table(record.rounds, record.summary["workers"], record.summary["simulated_seconds"])
    shown = sample_workers(workers, max_workers)
    caption = f"{len(shown):,} of {len(workers):,} workers, evenly spaced from fastest to slowest"
    table = new_table(group_records([record])[0].label, caption if len(shown) < len(workers) else None)
    for header in ("worker", "s/step", "rounds", "local\nsteps", "compute", "pull", "push", "wait", "lost"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("staleness\nmean / max", justify="right", no_wrap=True)
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
