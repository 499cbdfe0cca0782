"""Time, work, data and money spent to reach a perplexity."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table
from rich.text import Text

from simulator.host import format as human
from simulator.host.terminal_table import TerminalTable
from simulator.record import RunRecord
from simulator.report.arguments import Records, records_of
from simulator.report.axes import Against
from simulator.report.baselines import baseline_of, baseline_runs
from simulator.report.grouping import each_run, group_records, with_keys
from simulator.report.money import currency_of, has_prices
from simulator.report.perplexity import AGAINST, finite_part, refuse_impossible, refuse_untrained
from simulator.report.seeds import FORMATS, Spread, spread

_HEADERS: Mapping[Against, str] = {
    "simulated_s": "simulated\ntime",
    "local_steps": "local\nsteps",
    "tokens": "tokens",
    "bytes_sent": "data\nsent",
    "money": "money",
}


def time_to_target(
    records: Records,
    target: float | Sequence[float],
    *,
    by: Sequence[str] | None = None,
    baseline: str | None = None,
    each: bool = False,
) -> pd.DataFrame:
    """Returns the time, work, data and money of runs until their validation perplexity first reached a target.

    Between the last evaluation above the target and the first one that is not, everything is interpolated linearly in
    the loss, as curves are drawn; a run that starts at the target has spent nothing. Values after a perplexity was
    infinite or NaN do not count.

    Args:
        records: Runs that trained something, one or several.
        target: Perplexity to reach, or several.
        by: Dotted keys that tell groups apart, see `group_records`.
        baseline: Variant that ratios are relative to; when absent the first synchronous one (no round was ever stale),
            or else the first.
        each: Return a row for every run, told apart by the seed, instead of every group.

    Returns:
        One row per group and target. Columns group; the groups' keys; target; runs; reached (how many of them reached
        it); and for each of simulated_s (seconds), local_steps, tokens, bytes_sent and, where experiments give prices,
        money:

        - NAME, the mean over the runs, NaN unless all of them reached the target;
        - NAME_low and NAME_high, the smallest and the largest of those that did;
        - NAME_ratio, the mean over the runs of the ratio to the baseline's run of the same experiment, sweep point and
          seed; NaN unless there is one for all of them, and all reached the target.

    Raises:
        ReportError: If there is no record, one trained nothing, a key or the baseline is unknown, a target is not
            above 0, or prices are in several currencies.
    """
    targets = [float(target)] if isinstance(target, int | float) else [float(one) for one in target]
    refuse_impossible(targets)
    groups = group_records(records, by)
    given = records_of(groups)
    groups = each_run(groups) if each else groups
    currency_of(given)
    names = [name for name in AGAINST if name != "money" or any(has_prices(record) for record in given)]
    of_seed = baseline_runs(group_records(given), baseline_of(given, baseline))
    for group in groups:
        for record in group.records:
            refuse_untrained(record, group.label)
    rows = []
    for one in targets:
        for group in groups:
            own = pd.DataFrame([spent_until(record, one, names) for record in group.records])
            of = [of_seed.get(id(record)) for record in group.records]
            base = pd.DataFrame([{} if run is None else spent_until(run, one, names) for run in of], columns=names)
            reached = int(own["simulated_s"].notna().sum())
            row: dict[str, Any] = {"group": group.label, "target": one, "runs": len(own), "reached": reached}
            for name in names:
                spent, ratios = spread(own[name]), own[name] / base[name]
                row |= {name: own[name].mean(skipna=False), f"{name}_low": spent.low, f"{name}_high": spent.high}
                row[f"{name}_ratio"] = ratios.mean(skipna=False)
            rows.append(row)
    return with_keys(pd.DataFrame(rows), groups)


def target_rich_table(rows: pd.DataFrame, *, title: str | None = None, currency: str = "") -> Table:
    """Returns the rows of `time_to_target` for the terminal.

    Args:
        rows: As `time_to_target` returns them.
        title: Above the table.
        currency: Of money, see `currency_of`.
    """
    names = [name for name in AGAINST if name in rows.columns]
    repeated = bool((rows["runs"] > 1).any())
    notes = ["×: relative to the baseline"]  # noqa: RUF001 - the multiplication sign is meant
    numbers = [f"{_HEADERS[name]}\n{currency}" if name == "money" and currency else _HEADERS[name] for name in names]
    caption = "; ".join(notes + ["±: half the range over n runs"] * repeated)
    numbers = ["target\nperplexity", *numbers]
    table = TerminalTable(title, caption, keys=2, words=["variant"], numbers=numbers, leading=1)
    for row in rows.to_dict("records"):
        label = f"{row['group']}\nn = {row['runs']}" if row["runs"] > 1 else row["group"]
        cells = [_spent({str(key): value for key, value in row.items()}, name) for name in names]
        table.add_row(Text(label), human.perplexity(row["target"]), *cells)
    return table


def _spent(row: Mapping[str, Any], name: Against) -> str:
    show, ratio = FORMATS[name], row[f"{name}_ratio"]
    spent = Spread(row[name], row[f"{name}_low"], row[f"{name}_high"], row["reached"], row["runs"])
    if not spent.known:
        return "never"
    if spent.known < spent.runs:
        range_ = show(spent.low) + (f" to {show(spent.high)}" if spent.high > spent.low else "")
        return f"{range_}\n{spent.known} of {spent.runs}"
    return "\n".join([*spent.lines(show), *([human.ratio(ratio)] if human.known(ratio) else [])])


def spent_until(record: RunRecord, target: float, names: Sequence[Against] = AGAINST) -> dict[str, float]:
    """Returns the spendings of one run until its perplexity reached the target, by name; NaN if it never did."""
    table = finite_part(record)
    losses = np.log(table["perplexity"].to_numpy(float))
    below = losses <= math.log(target)
    if not below.any():
        return dict.fromkeys(map(str, names), math.nan)
    first = int(np.argmax(below))
    crossing = table.iloc[[max(first - 1, 0), first]].reindex(columns=list(names))
    falling = -losses[[max(first - 1, 0), first]]  # of a run that starts at the target both are its start
    return {name: float(np.interp(-math.log(target), falling, crossing[name].to_numpy(float))) for name in names}
