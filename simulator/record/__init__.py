"""Records of runs on disk: their tables, and the numbers that follow from these.

Imports numpy, pandas and yaml only; pydantic when something is read, orbax when a checkpoint is written or read.
"""

from simulator.record.checkpoints import Checkpoint, Checkpoints, kept_updates
from simulator.record.files import atomic_path, check_kind, naming, read_json, refusal, to_json, write_summary
from simulator.record.logs import EvaluationLog, FaultLog, RoundLog
from simulator.record.money import Bill, bill_of, currency_named, gives_prices, summarize_money
from simulator.record.run import (
    EXPERIMENT_FILE,
    SUMMARY_FILE,
    TRIALS_FOLDER,
    Result,
    RunRecord,
    read_results,
    read_summaries,
    run_folders,
)
from simulator.record.schema import (
    EVALUATION_COLUMNS,
    FAULT_COLUMNS,
    FAULTS,
    OF_FAULTS,
    OF_MONEY,
    OUTCOMES,
    ROUND_COLUMNS,
    SUMMARY_KEYS,
    Column,
    RecordError,
    perplexity,
    shard_columns,
)
from simulator.record.settings import (
    FACTS,
    FILES,
    NAMES,
    differences,
    flattened,
    identity_of,
    settings_of,
)
from simulator.record.workers import failure, summarize_faults, summarize_rounds, worker_table

__all__ = [
    "EVALUATION_COLUMNS",
    "EXPERIMENT_FILE",
    "FACTS",
    "FAULTS",
    "FAULT_COLUMNS",
    "FILES",
    "NAMES",
    "OF_FAULTS",
    "OF_MONEY",
    "OUTCOMES",
    "ROUND_COLUMNS",
    "SUMMARY_FILE",
    "SUMMARY_KEYS",
    "TRIALS_FOLDER",
    "Bill",
    "Checkpoint",
    "Checkpoints",
    "Column",
    "EvaluationLog",
    "FaultLog",
    "RecordError",
    "Result",
    "RoundLog",
    "RunRecord",
    "atomic_path",
    "bill_of",
    "check_kind",
    "currency_named",
    "differences",
    "failure",
    "flattened",
    "gives_prices",
    "identity_of",
    "kept_updates",
    "naming",
    "perplexity",
    "read_json",
    "read_results",
    "read_summaries",
    "refusal",
    "run_folders",
    "settings_of",
    "shard_columns",
    "summarize_faults",
    "summarize_money",
    "summarize_rounds",
    "to_json",
    "worker_table",
    "write_summary",
]
