"""What a run leaves on disk: the record, its tables, and the numbers that follow from them.

Imports numpy, pandas and yaml only; pydantic when something is read, orbax when a checkpoint is written or read.
"""

from simulator.record.checkpoints import Checkpoint, Checkpoints, kept_updates
from simulator.record.files import atomic_path, check_kind, naming, read_json, refusal, to_json, write_summary
from simulator.record.logs import EvaluationLog, FaultLog, RoundLog
from simulator.record.run import EXPERIMENT_FILE, SUMMARY_FILE, TRIALS_FOLDER, RunRecord, read_summaries, run_folders
from simulator.record.runs import Runs, read_runs
from simulator.record.schema import (
    EVALUATION_COLUMNS,
    FAULT_COLUMNS,
    FAULTS,
    OF_FAULTS,
    OUTCOMES,
    ROUND_COLUMNS,
    SUMMARY_KEYS,
    Column,
    RecordError,
    shard_columns,
)
from simulator.record.workers import summarize_faults, summarize_rounds, worker_table

__all__ = [
    "EVALUATION_COLUMNS",
    "EXPERIMENT_FILE",
    "FAULTS",
    "FAULT_COLUMNS",
    "OF_FAULTS",
    "OUTCOMES",
    "ROUND_COLUMNS",
    "SUMMARY_FILE",
    "SUMMARY_KEYS",
    "TRIALS_FOLDER",
    "Checkpoint",
    "Checkpoints",
    "Column",
    "EvaluationLog",
    "FaultLog",
    "RecordError",
    "RoundLog",
    "RunRecord",
    "Runs",
    "atomic_path",
    "check_kind",
    "kept_updates",
    "naming",
    "read_json",
    "read_runs",
    "read_summaries",
    "refusal",
    "run_folders",
    "shard_columns",
    "summarize_faults",
    "summarize_rounds",
    "to_json",
    "worker_table",
    "write_summary",
]
