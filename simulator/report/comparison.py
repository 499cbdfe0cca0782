"""Comparison of results with published ones, as ratios to a baseline with a confidence interval over seeds."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table
from rich.text import Text
from scipy import special

from simulator.host import format as human
from simulator.host.terminal_table import TerminalTable
from simulator.host.text import markdown_table, one_line
from simulator.report.arguments import Results, Summary, results_of
from simulator.report.baselines import baseline_runs, by_point, unequal
from simulator.report.group_keys import ReportError
from simulator.report.grouping import Group, group_results, sweep_point

_SHORT = {
    "published perplexity": "pub-\nlished",
    "published loss": "pub-\nlished",
    "published ratio": "ratio",
    "perplexity here": "here",
    "loss here": "here",
    "simulated time": "time",
}
_MOST_LISTED = 4
METRICS = {"final_perplexity": "perplexity", "final_loss": "loss"}


def comparison(
    runs: Results,
    reference: Mapping[str, Any],
    *,
    variants: Sequence[str] | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Returns one row per sweep point and variant: the published result, and the one reached here.

    A ratio is that of a variant's result to the baseline's of the same sweep point and seed; the interval around the
    mean over seeds is Student's t. A run that diverged makes the mean infinite, a baseline that did makes the ratio
    unknown. Runs that trained nothing are left out.

    Args:
        runs: Records, or summaries, see `SUMMARY_KEYS`.
        reference: With `metric` ("final_perplexity" or "final_loss"), `baseline` (a variant's name) and `results`, a
            list of `at` (dotted path to value, of the sweep points meant) and `values` (variant to published result).
        variants: Only these, in this order; all, in the order of the runs, when absent.
        confidence: Of the interval.

    Returns:
        Columns point (the sweep's settings as text, and what else tells runs of a variant apart), variant, published,
        published_ratio, seeds (number of runs), value (mean), ratio (mean), ratio_low, ratio_high, time_ratio (mean, of
        simulated time), steps_ratio (mean, of local steps: where it is not 1, the other ratios are of unequal work).
        Unknown values are NaN; an interval needs two seeds.

    Raises:
        ReportError: If no run of the baseline trained, or a summary is given twice.
    """
    baseline, metric = reference["baseline"], reference["metric"]
    groups = _trained(runs, baseline, variants)
    of_seed = baseline_runs(groups, baseline)
    rows = []
    for group in groups:
        pairs = [(run.summary, of_seed[id(run)].summary) for run in group.records if id(run) in of_seed]
        ratios, times, steps = (
            np.array([_over(_result(run, key), _result(of, key)) for run, of in pairs if key in run])
            for key in (metric, "simulated_seconds", "local_steps")
        )
        low, high = interval(ratios, confidence) if group.variant != baseline else (math.nan, math.nan)
        published, of_baseline = (_published(group.summaries[0], name, reference) for name in (group.variant, baseline))
        rows.append(
            {
                "point": _point(group),
                "variant": group.variant,
                "published": published,
                "published_ratio": published / of_baseline,
                "seeds": len(pairs),
                "value": _mean(np.array([_result(run, metric) for run in group.summaries])),
                "ratio": _mean(ratios),
                "ratio_low": low,
                "ratio_high": high,
                "time_ratio": _mean(times),
                "steps_ratio": _mean(steps),
            }
        )
    return pd.DataFrame(rows)


def _trained(runs: Results, baseline: str, variants: Sequence[str] | None) -> list[Group]:
    """Returns the runs that trained something in groups, by sweep point and in the order of the variants given.

    Raises:
        ReportError: If none is of the baseline, or a summary is given twice.
    """
    trained = [run for run in results_of(runs) if run.summary["trainer"] != "null"]
    if variants is not None:
        asked_for = [run for run in trained if run.summary["variant"] in variants]
        trained = sorted(asked_for, key=lambda run: variants.index(run.summary["variant"]))
    if not any(run.summary["variant"] == baseline for run in trained):
        raise ReportError(f"no trained run of the baseline {baseline!r} among {len(trained)}: give its results too")
    return by_point(group_results(trained))


def _point(group: Group) -> str:
    """Returns the keys that tell a group from others besides its variant."""
    experiment = [group.keys["name"].shown] if "name" in group.keys else []
    return ", ".join([*experiment, *group.parts[1:]])


def _over(value: float, baseline: float) -> float:
    """Returns a ratio, NaN where the baseline diverged or is zero."""
    return value / baseline if math.isfinite(baseline) and baseline != 0 else math.nan


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else math.nan


def interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Returns the ends of Student's interval around the mean; NaN of fewer than two values, or if one is not finite."""
    if len(values) < 2 or not np.isfinite(values).all():
        return math.nan, math.nan
    half = special.stdtrit(len(values) - 1, (1 + confidence) / 2) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def comparison_table(rows: pd.DataFrame, reference: Mapping[str, Any]) -> Table:
    """Returns the rows of `comparison` for the terminal."""
    header, cells = _cells(rows, reference)
    words = [name for name in header if name in ("", "variant")]
    numbers = [_SHORT.get(name, name.removesuffix(" here")) for name in header[len(words) :]]
    table = TerminalTable(None, _caption(rows, reference), keys=len(words), words=words, numbers=numbers, leading=1)
    for line in cells:
        table.add_row(*(Text(cell) for cell in line))
    return table


def comparison_markdown(rows: pd.DataFrame, reference: Mapping[str, Any]) -> str:
    """Returns the rows of `comparison` as a Markdown table, with its caption below."""
    header, cells = _cells(rows, reference)
    ruler = [":--" if name in ("", "variant") else "--:" for name in header]
    lines = [header, ruler, *([html.escape(cell, quote=False).replace("|", "\\|") for cell in line] for line in cells)]
    return f"{markdown_table(lines)}\n{_caption(rows, reference)}\n"


def _cells(rows: pd.DataFrame, reference: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and text of every cell; the sweep point only where there are several, and once for all its variants."""
    several = rows["point"].nunique() > 1
    published = bool(rows["published"].notna().any())
    metric = METRICS[reference["metric"]]
    header = [""] * several + ["variant"] + [f"published {metric}", "published ratio"] * published
    header += [f"{metric} here", "ratio here", "95 % interval", "simulated time", "seeds"]
    lines, before = [], None
    for row in rows.to_dict("records"):
        line = [row["point"] if row["point"] != before else ""] * several + [one_line(row["variant"])]
        before = row["point"]
        if published:
            line += [human.perplexity(row["published"]), human.decimal(row["published_ratio"], 3)]
        low, high = human.decimal(row["ratio_low"], 3), human.decimal(row["ratio_high"], 3)
        line += [
            "diverged" if math.isinf(row["value"]) else human.perplexity(row["value"]),
            human.decimal(row["ratio"], 3),
            human.UNKNOWN if math.isnan(row["ratio_low"]) else f"{low} to {high}",
            human.ratio(row["time_ratio"]),
            str(row["seeds"]),
        ]
        lines.append(line)
    return header, lines


def _caption(rows: pd.DataFrame, reference: Mapping[str, Any]) -> str:
    caption = f"Published: {reference['source']}. Ratios are to {reference['baseline']}, of the same seed."
    other = {
        one_line(row["variant"]): human.ratio(row["steps_ratio"])
        for row in rows.to_dict("records")
        if unequal(row["steps_ratio"])
    }
    if not other:
        return caption
    listed = ", ".join(f"{steps} for {variant}" for variant, steps in list(other.items())[:_MOST_LISTED])
    more = f" and {len(other) - _MOST_LISTED} more" if len(other) > _MOST_LISTED else ""
    return f"{caption} The work is not equal: its local steps are {listed}{more}."


def _result(run: Summary, metric: str) -> float:
    """A run's result, infinite where it diverged."""
    value = run[metric]
    return float(value) if human.known(value) else math.inf


def _published(run: Summary, variant: str, reference: Mapping[str, Any]) -> float:
    point = sweep_point(run)
    for row in reference["results"]:
        if variant in row["values"] and all(point.get(path) == value for path, value in row["at"].items()):
            return float(row["values"][variant])
    return math.nan
