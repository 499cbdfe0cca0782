"""The record of one run, and reading many of them."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import yaml

from simulator.host.files import atomic_path, naming
from simulator.record.file_models import Described, Summary
from simulator.record.html import curve_svg, mapping_html
from simulator.record.json_files import check_kind, digest_of, load_json, plain, read, read_json, to_json
from simulator.record.logs import FaultLog, TransferLog, UpdateLog
from simulator.record.schema import (
    EVALUATION_COLUMNS,
    FAULT_COLUMNS,
    OF_MONEY,
    ROUND_COLUMNS,
    SUMMARY_KEYS,
    TRANSFER_COLUMNS,
    UPDATE_COLUMNS,
    Column,
    RecordError,
    conform,
)

EXPERIMENT_FILE = "experiment.yaml"
ROUNDS_FILE = "events.parquet"
EVALUATIONS_FILE = "evaluations.parquet"
FAULTS_FILE = "faults.parquet"
UPDATES_FILE = "updates.parquet"
TRANSFERS_FILE = "transfers.parquet"
SUMMARY_FILE = "summary.json"
CHECKSUMS_FILE = "checksums.json"
TRIALS_FOLDER = "tuning"
"""Holds the trials of a sweep's searched axes, which are not among its runs."""

_EXPERIMENT_KEYS = ("name", "variant", "seed")

# libyaml reads a cluster of 100,000 devices in a second; where PyYAML was built without it, the same in pure Python
_Loader: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: type = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

_DEEPEST = 100
_AGAIN = "Remove the run's folder and simulate it again"
_GIVE_RESULTS = "Give a folder of results"
_NOT_SHOWN = ("overrides", "versions", "causal_hash", "data_hash", "best_loss", "parameters", "workers")

_Content = TypeVar("_Content")


@dataclass(frozen=True, eq=False)
class RunRecord:
    """Record of a finished run.

    Attributes:
        experiment: The resolved experiment as mappings, lists and scalars; has at least name, variant and seed.
        summary: One object, see `SUMMARY_KEYS`; further keys are kept, among them `reused`: the training that was
            reused ("from", a label) and how much of it ("local_steps"), null where everything was trained; and
            `evaluated`: whose parameters ("server", "mean of workers" or "experts", each on the windows that routers
            send to it), and `evaluated_windows`: how many windows a validation loss is the mean of.
        rounds: One row per round that arrived at the server, in order of arrival, see `ROUND_COLUMNS`.
        evaluations: One row per evaluation, in order of simulated time, see `EVALUATION_COLUMNS`.
        faults: One row per fault, see `FAULT_COLUMNS`; may have none.
        updates: One row per offer that a place processed, see `UPDATE_COLUMNS`; may have none.
        transfers: One row per message that got through, see `TRANSFER_COLUMNS`; may have none.

    Raises:
        RecordError: If a key or a column is missing, or a column holds values of another kind.
    """

    experiment: dict[str, Any]
    summary: dict[str, Any]
    rounds: pd.DataFrame
    evaluations: pd.DataFrame
    faults: pd.DataFrame = field(default_factory=lambda: FaultLog().frame())
    updates: pd.DataFrame = field(default_factory=lambda: UpdateLog().frame())
    transfers: pd.DataFrame = field(default_factory=lambda: TransferLog().frame())

    def __post_init__(self) -> None:
        _require(self.experiment, _EXPERIMENT_KEYS, "experiment")
        _require(self.summary, SUMMARY_KEYS, "summary")
        object.__setattr__(self, "rounds", conform(self.rounds, ROUND_COLUMNS, "rounds"))
        object.__setattr__(self, "evaluations", conform(self.evaluations, EVALUATION_COLUMNS, "evaluations"))
        object.__setattr__(self, "faults", conform(self.faults, FAULT_COLUMNS, "faults"))
        object.__setattr__(self, "updates", conform(self.updates, UPDATE_COLUMNS, "updates"))
        object.__setattr__(self, "transfers", conform(self.transfers, TRANSFER_COLUMNS, "transfers"))

    def _repr_html_(self) -> str:
        """Shows the summary and the perplexity over simulated time in a notebook."""
        summary = {name: self.summary[name] for name in SUMMARY_KEYS if name not in _NOT_SHOWN}
        summary |= {name: self.summary[name] for name in OF_MONEY if self.summary.get(name)}
        overrides = {str(name): value for name, value in self.summary["overrides"].items() if name != "seed"}
        times, perplexities = (self.evaluations[name].tolist() for name in ("simulated_s", "perplexity"))
        curve = curve_svg(times, perplexities, "validation perplexity over simulated time")
        identity = {"experiment": self.experiment["name"], "variant": self.summary["variant"], **overrides}
        return f'<div style="display:flex;gap:2em">{mapping_html(identity | summary)}{curve}</div>'

    def write(self, folder: str | Path) -> None:
        """Writes the record as seven files and their checksums: all to temporary names first, then renamed.

        The summary comes last. A reader sees each file whole, and a folder with a summary holds a finished run. An
        interrupted write leaves the earlier files. NaN and infinity become null in the summary.

        Raises:
            RecordError: If the experiment or the summary holds something that a file cannot.
        """
        folder = Path(folder)
        experiment = plain(self.experiment, EXPERIMENT_FILE, finite=False)
        summary = to_json(self.summary, SUMMARY_FILE)
        with ExitStack() as stack:  # renames in the reverse order
            tables = {
                ROUNDS_FILE: self.rounds,
                EVALUATIONS_FILE: self.evaluations,
                FAULTS_FILE: self.faults,
                UPDATES_FILE: self.updates,
                TRANSFERS_FILE: self.transfers,
            }
            names = (SUMMARY_FILE, CHECKSUMS_FILE, *tables, EXPERIMENT_FILE)
            temporary = {name: stack.enter_context(atomic_path(folder / name)) for name in names}
            with naming(folder / EXPERIMENT_FILE), temporary[EXPERIMENT_FILE].open("w", encoding="utf-8") as file:
                yaml.dump(experiment, file, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
            for name, table in tables.items():
                with naming(folder / name):
                    table.to_parquet(temporary[name], index=False)
            with naming(folder / SUMMARY_FILE):
                temporary[SUMMARY_FILE].write_text(summary, encoding="utf-8")
            sums = {name: digest_of(path) for name, path in temporary.items() if name != CHECKSUMS_FILE}
            temporary[CHECKSUMS_FILE].write_text(to_json(sums, CHECKSUMS_FILE), encoding="utf-8")

    @classmethod
    def read(cls, folder: str | Path) -> "RunRecord":
        """Reads a record that `write` wrote.

        Raises:
            RecordError: If a file is missing, unreadable or not as it was written, or lacks a column or a key.
        """
        folder = Path(folder)
        known = _check_sums(folder)

        def table(name: str, columns: Mapping[str, Column]) -> pd.DataFrame:
            return conform(_read(folder / name, _load_table), columns, str(folder / name))

        later = (  # older records have none
            ("faults", FAULTS_FILE, FAULT_COLUMNS),
            ("updates", UPDATES_FILE, UPDATE_COLUMNS),
            ("transfers", TRANSFERS_FILE, TRANSFER_COLUMNS),
        )
        there = [each for each in later if each[1] in known or (folder / each[1]).exists()]
        return cls(
            experiment=_read_mapping(folder / EXPERIMENT_FILE, _load_yaml, _EXPERIMENT_KEYS, Described),
            summary=_read_mapping(folder / SUMMARY_FILE, load_json, SUMMARY_KEYS, Summary),
            rounds=table(ROUNDS_FILE, ROUND_COLUMNS),
            evaluations=table(EVALUATIONS_FILE, EVALUATION_COLUMNS),
            **{name: table(file, columns) for name, file, columns in there},
        )


@dataclass(frozen=True)
class Result:
    """A run without its tables.

    Attributes:
        experiment: The resolved experiment; where it is not known, the name (empty), variant and seed alone.
        summary: One object, see `SUMMARY_KEYS`.
    """

    experiment: Mapping[str, Any]
    summary: Mapping[str, Any]

    @classmethod
    def of(cls, summary: Mapping[str, Any], experiment: Mapping[str, Any] | None = None) -> "Result":
        """Returns a run of which the experiment may not be known."""
        return cls(experiment or {"name": "", "variant": summary["variant"], "seed": summary["seed"]}, summary)


def paths_of(given: str | Path | Iterable[str | Path]) -> list[Path]:
    """Returns one or several paths as a list.

    Raises:
        RecordError: If something else is given.
    """
    each = [given] if isinstance(given, str | Path) or not isinstance(given, Iterable) else list(given)
    for path in each:
        if not isinstance(path, str | Path):
            raise RecordError(f"{type(path).__name__} is given, and the path of a folder is needed: 'runs/mine', say")
    return [Path(path) for path in each]


def run_folders(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """Finds the folders of runs.

    Args:
        paths: One or several, each a run's own folder, or a folder that holds run folders at any depth. A run folder is
            one with a table of events or evaluations in it. Trials of searched axes are left out where the folder
            around theirs is given.

    Returns:
        In the order of `paths`, below each path in the order of the folders' names (numbers in names by value), each
        run once.

    Raises:
        RecordError: If a path does not exist or holds no run.
    """
    folders: dict[Path, Path] = {}
    for path in paths_of(paths):
        if not path.is_dir():
            raise RecordError(f"{path}: no such folder. Give the folder of a run, or the --out folder of several")
        found = {
            file.parent
            for name in (ROUNDS_FILE, EVALUATIONS_FILE)
            for file in path.rglob(name)
            if TRIALS_FOLDER not in file.relative_to(path).parts
        }
        if not found:
            raise RecordError(
                f"{path}: no run found in it or below. The folder of a run holds "
                f"{EXPERIMENT_FILE}, {ROUNDS_FILE}, {EVALUATIONS_FILE} and {SUMMARY_FILE}"
            )
        for folder in sorted(found, key=_natural):
            folders.setdefault(folder.resolve(), folder)
    if not folders:
        raise RecordError("no folder given: name the folder of a run, or the --out folder of several")
    return list(folders.values())


def read_summaries(paths: str | Path | Iterable[str | Path]) -> list[dict[str, Any]]:
    """Reads the summaries that `write_summary` wrote.

    Args:
        paths: One or several: files, or folders with a summary.json in them.

    Raises:
        RecordError: If one cannot be read, or holds something else.
    """
    summaries: list[dict[str, Any]] = []
    for path in paths_of(paths):
        file = path / SUMMARY_FILE if path.is_dir() else path
        try:
            content = read_json(file, Any, _GIVE_RESULTS)
        except FileNotFoundError as error:
            raise RecordError(f"{file}: cannot be read: no such file. {_GIVE_RESULTS}") from error
        runs = content if isinstance(content, list) else [content]
        for run in runs:
            _require(run, SUMMARY_KEYS, str(file))
            check_kind(run, Summary, file, _GIVE_RESULTS)
        summaries += runs
    return summaries


def read_results(paths: str | Path | Iterable[str | Path]) -> list[Result]:
    """Reads what `read_summaries` reads, with the resolved experiments of runs whose folders are there too."""
    results = []
    for path in paths_of(paths):
        folder = path if path.is_dir() else path.parent
        beside = [folder, *sorted(folder.iterdir(), key=_natural)] if folder.is_dir() else []
        runs = [each for each in beside if (each / EXPERIMENT_FILE).exists() and (each / SUMMARY_FILE).exists()]
        experiment_of = {
            to_json(_read(run / SUMMARY_FILE, load_json), SUMMARY_FILE): run / EXPERIMENT_FILE
            for run in runs
            if path.is_dir() or path.name == SUMMARY_FILE
        }
        for summary in read_summaries(path):
            file = experiment_of.get(to_json(summary, SUMMARY_FILE))
            experiment = None if file is None else _read_mapping(file, _load_yaml, _EXPERIMENT_KEYS, Described)
            results.append(Result.of(summary, experiment))
    return results


def _check_sums(folder: Path) -> Collection[str]:
    """Checks that files are as they were written and returns their names; without checksums nothing is known."""
    file = folder / CHECKSUMS_FILE
    if not file.exists():
        return ()
    sums = _read_mapping(file, load_json, (), dict[str, str])
    tables = ROUNDS_FILE, EVALUATIONS_FILE, FAULTS_FILE, UPDATES_FILE, TRANSFERS_FILE
    for name in (EXPERIMENT_FILE, *tables, SUMMARY_FILE):
        if (folder / name).exists() and _read(folder / name, digest_of) != sums.get(name):
            raise RecordError(
                f"{folder / name}: is not as it was written ({CHECKSUMS_FILE} tells): copy the folder again, simulate "
                f"the run again, or remove {CHECKSUMS_FILE} if the change was meant"
            )
    return sums


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """A sort key under which run-2 comes before run-10."""
    pieces = re.split(r"(\d+)", path.as_posix())
    return [(1, int(piece), "") if piece.isdecimal() else (0, 0, piece) for piece in pieces]


def _read(path: Path, load: Callable[[Path], _Content]) -> _Content:
    try:
        return read(path, load, _AGAIN)
    except FileNotFoundError as error:
        raise RecordError(f"{path}: no such file, so the run did not finish. Simulate it again") from error


def _read_mapping(path: Path, load: Callable[[Path], Any], keys: Iterable[str], kind: Any) -> dict[str, Any]:
    content = _read(path, load)
    _require(content, keys, str(path))
    check_kind(content, kind, path, _AGAIN)
    mapping: dict[str, Any] = content
    return mapping


def _require(content: Any, keys: Iterable[str], where: str) -> None:
    if not isinstance(content, dict):
        raise RecordError(
            f"{where}: holds a {type(content).__name__}, but one mapping of keys to values was expected. {_AGAIN}"
        )
    missing = [key for key in keys if key not in content]
    if missing:
        raise RecordError(f"{where}: missing keys {', '.join(missing)}. {_AGAIN}, or add them")


def _load_yaml(path: Path) -> Any:
    """Loads YAML as `write` dumps it: without aliases, which can grow endlessly, and not too deep for libyaml."""
    text = path.read_text(encoding="utf-8")
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > _DEEPEST:
            raise ValueError(f"it has aliases, or is nested more than {_DEEPEST} levels deep, as no record is")
    return yaml.load(text, Loader=_Loader)


def _load_table(path: Path) -> pd.DataFrame:
    with path.open("rb") as file:  # pyarrow itself takes no path that is not UTF-8
        return pd.read_parquet(file)
