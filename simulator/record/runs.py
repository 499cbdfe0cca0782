"""Many runs: reading them, and their numbers as pandas frames."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, SupportsIndex, overload

import pandas as pd

from simulator.record.html import table_html
from simulator.record.run import RunRecord, run_folders
from simulator.record.schema import OF_FAULTS, SUMMARY_KEYS, RecordError

_SHOWN = (
    "final_perplexity",
    "simulated_seconds",
    "local_steps",
    "server_updates",
    "mean_staleness",
    "max_staleness",
    "utilization",
    "bytes_sent",
)
_NOT_COLUMNS = ("variant", "seed", "overrides", "versions")


class Runs(list[RunRecord]):
    """A list of records that shows itself in notebooks as a table, and has frames."""

    @overload
    def __getitem__(self, index: SupportsIndex, /) -> RunRecord: ...
    @overload
    def __getitem__(self, index: slice, /) -> "Runs": ...
    def __getitem__(self, index: Any, /) -> "RunRecord | Runs":
        """Returns a record, or several as runs again."""
        found = super().__getitem__(index)
        return Runs(found) if isinstance(index, slice) else found

    def frame(self) -> pd.DataFrame:
        """Returns one row per run: variant, seed, what a sweep set by its dotted path, then the summary.

        Of the summary's keys (see `SUMMARY_KEYS` and `OF_FAULTS`), all that are one number or text. What is not known
        is missing.
        """
        return pd.DataFrame([_identity(record) | _numbers(record) for record in self])

    def evaluations(self) -> pd.DataFrame:
        """Returns the evaluations of all runs, each with its run's variant, seed and what a sweep set."""
        return self._stacked("evaluations")

    def rounds(self) -> pd.DataFrame:
        """Returns the rounds of all runs, each with its run's variant, seed and what a sweep set."""
        return self._stacked("rounds")

    def compare(self, baseline: str) -> pd.DataFrame:
        """Returns one row per variant and sweep point: means over seeds, and their ratios to a variant's.

        Args:
          baseline: name of the variant to compare with, at the same sweep point.

        Returns:
          Indexed by variant and what a sweep set: perplexity and perplexity_ratio, simulated_seconds and time_ratio
          (ratios are a run's to the baseline's of the same seed where there is one, else to the mean of the
          baseline's), staleness (mean, server updates), utilization, and runs, their number.

        Raises:
          RecordError: no run is of the variant.
        """
        if baseline not in {record.summary["variant"] for record in self}:
            variants = ", ".join(repr(name) for name in dict.fromkeys(record.summary["variant"] for record in self))
            raise RecordError(f"no run is of the variant {baseline!r}: choose from {variants}")
        frame = self.frame()
        swept = [name for record in self for name in _identity(record) if name not in ("variant", "seed")]
        keys = list(dict.fromkeys(swept))
        for column, ratio in (("final_perplexity", "perplexity_ratio"), ("simulated_seconds", "time_ratio")):
            values = pd.to_numeric(frame[column])
            frame[ratio] = values / _of_baseline(frame.assign(value=values), keys, baseline)
        grouped = frame.groupby(["variant", *keys], sort=False, dropna=False)
        means = grouped[
            ["final_perplexity", "perplexity_ratio", "simulated_seconds", "time_ratio", "mean_staleness", "utilization"]
        ].mean()
        means = means.rename(columns={"final_perplexity": "perplexity", "mean_staleness": "staleness"})
        return means.assign(runs=grouped.size())

    def _stacked(self, table: str) -> pd.DataFrame:
        parts = []
        for record in self:
            part = getattr(record, table).copy()
            for place, (name, value) in enumerate(_identity(record).items()):
                part.insert(place, name, [value] * len(part))
            parts.append(part)
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def _repr_html_(self) -> str:
        """Shows a table of the results in a notebook."""
        frame = self.frame()
        known = [name for name in frame.columns if name in _SHOWN and frame[name].notna().any()]
        named = [name for name in frame.columns if name not in SUMMARY_KEYS and name not in OF_FAULTS]
        return table_html(frame, ["variant", "seed", *named, *known] if len(frame) else [])


def _identity(record: RunRecord) -> dict[str, Any]:
    """Returns what tells a run from others; an override that is called as a number of the summary is renamed."""
    own = {"variant": record.summary["variant"], "seed": record.summary["seed"]}
    taken = (*SUMMARY_KEYS, *OF_FAULTS)
    for name, value in record.summary["overrides"].items():
        if name != "seed":
            known = value if isinstance(value, str | int | float) else str(value)
            own[f"overrides.{name}" if name in taken else name] = known
    return own


def _numbers(record: RunRecord) -> dict[str, Any]:
    keys = [name for name in (*SUMMARY_KEYS, *OF_FAULTS) if name not in _NOT_COLUMNS]
    return {name: record.summary.get(name) for name in keys}


def _of_baseline(frame: pd.DataFrame, keys: list[str], baseline: str) -> "pd.Series[float]":
    """Returns the baseline's value for each row: of the same sweep point and seed, else the mean over its seeds."""
    own = frame[frame["variant"] == baseline]
    each = own.groupby([*keys, "seed"], dropna=False)["value"].mean().rename("of_seed").reset_index()
    found = frame[[*keys, "seed"]].merge(each, how="left", on=[*keys, "seed"])["of_seed"]
    if keys:
        mean = own.groupby(keys, dropna=False)["value"].mean().rename("of_point").reset_index()
        means = frame[keys].merge(mean, how="left", on=keys)["of_point"]
    else:
        means = pd.Series(own["value"].mean(), index=frame.index)
    return found.fillna(means)


def read_runs(paths: Iterable[Path]) -> Runs:
    """Reads the runs in some folders.

    Args:
        paths: As `run_folders` takes them.

    Returns:
        The records.

    Raises:
        RecordError: As `run_folders`, or a run cannot be read.
    """
    return Runs(RunRecord.read(folder) for folder in run_folders(paths))
