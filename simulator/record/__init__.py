"""Records of runs on disk: their tables, and the numbers that follow from these.

Orbax is loaded when a checkpoint is written or read.
"""

from simulator.record.checkpoints import Checkpoint, Checkpoints, checkpoint_folders, kept_updates
from simulator.record.json_files import check_kind, read_json, to_json, write_json, write_summary
from simulator.record.logs import EvaluationLog, FaultLog, RoundLog, TransferLog, UpdateLog
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
    DIAGNOSTICS,
    EVALUATION_COLUMNS,
    FAULT_COLUMNS,
    FAULTS,
    OF_FAULTS,
    OF_MONEY,
    OUTCOMES,
    ROUND_COLUMNS,
    SUMMARY_KEYS,
    TRANSFER_COLUMNS,
    UPDATE_COLUMNS,
    RecordError,
    perplexity_of,
    shard_columns,
)
from simulator.record.settings import FACTS, FILES, NAMES, differences, identity_of, settings_of
from simulator.record.workers import failure, summarize_faults, summarize_rounds, worker_table

__all__ = [
    "DIAGNOSTICS",
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
    "TRANSFER_COLUMNS",
    "TRIALS_FOLDER",
    "UPDATE_COLUMNS",
    "Bill",
    "Checkpoint",
    "Checkpoints",
    "EvaluationLog",
    "FaultLog",
    "RecordError",
    "Result",
    "RoundLog",
    "RunRecord",
    "TransferLog",
    "UpdateLog",
    "bill_of",
    "check_kind",
    "checkpoint_folders",
    "currency_named",
    "differences",
    "failure",
    "gives_prices",
    "identity_of",
    "kept_updates",
    "perplexity_of",
    "read_json",
    "read_results",
    "read_summaries",
    "run_folders",
    "settings_of",
    "shard_columns",
    "summarize_faults",
    "summarize_money",
    "summarize_rounds",
    "to_json",
    "worker_table",
    "write_json",
    "write_summary",
]
