"""Many runs: reading them, and their numbers as pandas frames."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex, overload

import pandas as pd

from simulator.record import OF_FAULTS, OF_MONEY, SUMMARY_KEYS, RecordError, RunRecord, run_folders
from simulator.record.html import table_html
from simulator.report.baselines import baseline_runs, baselines
from simulator.report.grouping import Group, group_records

_SHOWN = (
    "final_perplexity",
    "simulated_seconds",
    "local_steps",
    "server_updates",
    "mean_staleness",
    "max_staleness",
    "utilization",
    "bytes_sent",
    "money",
)
_NOT_COLUMNS = ("variant", "seed", "overrides", "versions")
_COMPARED = {  # key of a summary: names of its mean and, if any, of its ratio to the baseline's
    "final_perplexity": ("perplexity", "perplexity_ratio"),
    "simulated_seconds": ("simulated_seconds", "time_ratio"),
    "local_steps": ("local_steps", "steps_ratio"),
    "mean_staleness": ("staleness", None),
    "utilization": ("utilization", None),
}


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
        """Returns one row per run: variant, seed, the keys that tell it from others, then the summary.

        These keys are the settings of a sweep, by their dotted paths, and else the settings in which runs differ, see
        `group_records`. Of the summary's keys (see `SUMMARY_KEYS`, `OF_FAULTS` and `OF_MONEY`), all that are one number
        or text. Unknown values are missing.
        """
        return pd.DataFrame([own | _numbers(record) for own, record in zip(self._identities(), self, strict=True)])

    def evaluations(self) -> pd.DataFrame:
        """Returns the evaluations of all runs, with their run's variant, seed and the keys that tell it from others."""
        return self._stacked("evaluations")

    def rounds(self) -> pd.DataFrame:
        """Returns the rounds of all runs, with their run's variant, seed and the keys that tell it from others."""
        return self._stacked("rounds")

    def compare(self, baseline: str) -> pd.DataFrame:
        """Returns means over seeds, and their ratios to a variant's: one row per group of runs, see `group_records`.

        Args:
          baseline: name of the variant to compare with, at the same sweep point.

        Returns:
          Indexed by variant and the other keys that tell groups apart: perplexity and perplexity_ratio,
          simulated_seconds and time_ratio, local_steps and steps_ratio (ratios are a run's to the baseline's of the
          same seed, if any, else to the mean of the baseline's; where steps_ratio is not 1, the others are of unequal
          work), staleness (mean, server updates), utilization, and runs, their number.

        Raises:
          RecordError: no run is of the variant.
        """
        if baseline not in {record.summary["variant"] for record in self}:
            variants = ", ".join(repr(name) for name in dict.fromkeys(record.summary["variant"] for record in self))
            raise RecordError(f"no run is of the variant {baseline!r}: choose from {variants}")
        groups = group_records(self)
        of_seed = baseline_runs(groups, baseline)
        keys = list(dict.fromkeys(key for group in groups for key in _identity(group)))
        rows = []
        for group, index in zip(groups, baselines(groups, baseline), strict=True):
            own, of_all = _compared(group.summaries), dict[str, Any]()
            if index is not None:
                of_all |= {str(key): mean for key, mean in _compared(groups[index].summaries).mean().items()}
            of = _compared([of_seed[id(run)].summary if id(run) in of_seed else of_all for run in group.records])
            row: dict[str, Any] = dict.fromkeys(keys) | _identity(group)
            for key, (name, ratio) in _COMPARED.items():
                row[name] = own[key].mean()
                row |= {} if ratio is None else {ratio: (own[key] / of[key]).mean()}
            rows.append(row | {"runs": len(group.records)})
        return pd.DataFrame(rows).set_index(keys)

    def _identities(self) -> list[dict[str, Any]]:
        """Returns the keys that tell each run from others; one named like a number of the summary is renamed."""
        groups = group_records(self) if self else []
        found = {
            id(record): {"variant": record.summary["variant"], "seed": record.summary["seed"]}
            | _identity(group, record)
            for group in groups
            for record in (*group.records, *group.repeats)
        }
        return [found[id(record)] for record in self]

    def _stacked(self, table: str) -> pd.DataFrame:
        parts = []
        for record, identity in zip(self, self._identities(), strict=True):
            part = getattr(record, table).copy()
            for place, (name, value) in enumerate(identity.items()):
                part.insert(place, name, [value] * len(part))
            parts.append(part)
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def _repr_html_(self) -> str:
        """Shows a table of the results in a notebook."""
        frame = self.frame()
        known = [name for name in frame.columns if name in _SHOWN and frame[name].notna().any()]
        named = [name for name in frame.columns if name not in (*SUMMARY_KEYS, *OF_FAULTS, *OF_MONEY)]
        return table_html(frame, ["variant", "seed", *named, *known] if len(frame) else [])


def _identity(group: Group, record: RunRecord | None = None) -> dict[str, Any]:
    """Returns the keys that tell a group from others by name; one named like a number of the summary is renamed."""
    overrides: Mapping[str, Any] = (record or group.records[0]).summary["overrides"]
    own: dict[str, Any] = {}
    for key, value in group.keys.items():
        written = overrides.get(key)
        plain = value.value if written is None else written
        taken = key != "variant" and key in (*SUMMARY_KEYS, *OF_FAULTS, *OF_MONEY)
        known = plain if plain is None or isinstance(plain, str | int | float) else str(plain)
        own[f"overrides.{key}" if taken else key] = known
    return own


def _compared(summaries: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Returns the numbers of runs that are compared; those that are not known are NaN."""
    return pd.DataFrame([{key: run.get(key) for key in _COMPARED} for run in summaries]).astype(float)


def _numbers(record: RunRecord) -> dict[str, Any]:
    keys = [name for name in (*SUMMARY_KEYS, *OF_FAULTS) if name not in _NOT_COLUMNS]
    spent = {name: record.summary[name] for name in OF_MONEY if name in record.summary}
    return {name: record.summary.get(name) for name in keys} | spent


def read_runs(paths: str | Path | Iterable[str | Path]) -> Runs:
    """Reads the runs in one or several folders.

    Args:
        paths: As `run_folders` takes them.

    Returns:
        The records.

    Raises:
        RecordError: As `run_folders`, or a run cannot be read.
    """
    return Runs(RunRecord.read(folder) for folder in run_folders(paths))
