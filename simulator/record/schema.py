"""The columns of a record's tables and the keys of its summary, with their units: the one place that defines them."""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

import pandas as pd

from simulator.host.event_kinds import Outcome

OUTCOMES: tuple[str, ...] = get_args(Outcome)
FAULTS: Mapping[str, str] = {
    "crash": "a worker went away without a warning",
    "preemption": "a worker was taken away",
    "departure": "a worker left for good",
    "late": "a worker that joins later was not there from the start",
    "notice": "a worker was told that it will be taken away",
    "return": "a worker was there (again)",
    "slow": "a worker began to compute slower",
    "normal": "a worker computed at its usual speed again",
    "disconnect": "a worker's link went down",
    "reconnect": "a worker's link was up again",
    "server down": "the server went down",
    "server up": "the server was up again",
    "lost": "a round under way was lost",
    "cut": "a round under way was cut off: only its finished steps arrive",
}
CATEGORIES: Mapping[str, tuple[str, ...]] = {"outcome": OUTCOMES, "fault": tuple(FAULTS)}
_CATEGORY_DTYPES = {kind: pd.CategoricalDtype(pd.Index(values, dtype="str")) for kind, values in CATEGORIES.items()}


class RecordError(ValueError):
    """A record that cannot be built, written or read; the message says where, what and how to repair it."""


class Column(NamedTuple):
    """One column of a table.

    Attributes:
        kind: What its values are.
        meaning: With the unit.
        required: Whether a table without it is refused; older records may lack others.
        default: Value in rows of a log that give none; None if they have to.
    """

    kind: Literal["integer", "real", "outcome", "fault"]
    meaning: str
    required: bool = True
    default: float | None = None


# A worker's life is wait [ready_s, pull_start_s], pull [pull_start_s, compute_start_s],
# compute [compute_start_s, push_start_s], push [push_start_s, arrival_s], and again. Times are simulated seconds.
ROUND_COLUMNS: Mapping[str, Column] = {
    "round": Column("integer", "id, in order of dispatch"),
    "worker": Column("integer", "from 0"),
    "shard": Column("integer", "data shard that the round was trained on, from 0"),
    "first_step": Column("integer", "first local step, counted on the shard"),
    "local_steps": Column("integer", "number of local steps"),
    "pulled_version": Column("integer", "server updates, over all places, when it was given out"),
    "version": Column("integer", "server version after the round was processed, in server updates"),
    "staleness": Column("integer", "server updates between the pull and the push"),
    "outcome": Column("outcome", "what the server did with the round: applied, buffered or dropped"),
    "ready_s": Column("real", "when the worker began to wait for this assignment"),
    "pull_start_s": Column("real", "when what it waited for was sent: the server's parameters, or their answer"),
    "compute_start_s": Column("real", "when it had them and began its local steps"),
    "push_start_s": Column("real", "when it had finished them and began to send"),
    "arrival_s": Column("real", "when its pseudo-gradient had arrived at the server"),
    "update_s": Column("real", "when the server had processed it"),
    "train_loss": Column("real", "mean over the round's local steps, nats; NaN where nothing was trained"),
    "bytes_down": Column("integer", "from the server to the worker"),
    "bytes_up": Column("integer", "from the worker to the server"),
    "non_finite": Column(
        "integer",
        "1 where the round did not enter the server's state because its pseudo-gradient, or one that it was averaged "
        "with, was not finite",
        required=False,
        default=0,
    ),
    "fragment": Column("integer", "that was offered at its end; 0 of a whole model", required=False, default=0),
    "blocked_s": Column(
        "real", "seconds between its steps in which the worker waited for answers", required=False, default=0.0
    ),
    "goes_on": Column(
        "integer", "1 where the worker went on while its offer was on its way, else 0", required=False, default=0
    ),
    "micro_batches": Column(
        "integer",
        "whose mean gradient each local step took, of inner.batch_size each, or of what a list has in common",
        required=False,
        default=1,
    ),
    "noise_scale": Column(
        "real",
        "gradient noise scale of its last local step, in micro-batches: the variance of their gradients over their "
        "mean's squared norm; NaN where the timeline did not read it",
        required=False,
        default=math.nan,
    ),
    "waited_to_end": Column(
        "integer", "1 where the simulation ended before the worker was given another round, else 0"
    ),
}


def _diagnostic(meaning: str) -> Column:
    return Column(
        "real", f"{meaning}; NaN where there is none, or nothing was trained", required=False, default=math.nan
    )


DIAGNOSTICS = ("norm", "momentum_cosine", "mean_cosine", "drift")
"""Columns of updates that training reports."""
UPDATE_COLUMNS: Mapping[str, Column] = {
    "update_s": Column("real", "when the place had processed the offer"),
    "node": Column("integer", "that has the place: -1 the server, from -2 down those of regions, from 0 workers"),
    "fragment": Column("integer", "of the place; 0 of a whole model"),
    "version": Column("integer", "of the place afterwards, in its own updates"),
    "sender": Column("integer", "node that made the offer"),
    "round": Column("integer", "at whose end it was made; -1 of a region's server"),
    "staleness": Column("integer", "updates of the place between what the sender had last accepted from it and now"),
    "outcome": Column("outcome", "what the place did with it: applied, buffered or dropped"),
    "meeting": Column("integer", "of which it was part: numbered from 0, over all places"),
    "norm": _diagnostic("norm of the pseudo-gradient as the place decoded it"),
    "momentum_cosine": _diagnostic("cosine of its angle to the outer momentum before the meeting"),
    "mean_cosine": _diagnostic("cosine of its angle to what the meeting's offers were aggregated to"),
    "drift": _diagnostic("distance of the place's parameters before the meeting from the sender's"),
}

TRANSFER_COLUMNS: Mapping[str, Column] = {
    "sender": Column("integer", "node"),
    "receiver": Column("integer", "node"),
    "fragment": Column("integer", "that it has; -1 a copy of everything"),
    "round": Column("integer", "that it ended, that it is the answer to, or that begins with it; -1 between servers"),
    "begin_s": Column("real", "when it was first sent"),
    "end_s": Column("real", "when it got through"),
    "used_s": Column("real", "when an answer was merged, an offer was in an update, or a round began with a copy"),
    "version": Column(
        "integer",
        "of the place: that an answer has, or that an offer's sender had last accepted; of a copy, over all places",
    ),
    "messages": Column("integer", "how many times it was sent"),
    "bytes": Column("integer", "of them all"),
}

FAULT_COLUMNS: Mapping[str, Column] = {
    "time_s": Column("real", "when"),
    "worker": Column("integer", "whose; -1 of the server"),
    "fault": Column("fault", "what happened, see FAULTS"),
    "round": Column("integer", "which was lost or cut off; -1 of other faults", default=-1),
    "shard": Column("integer", "of that round; -1 of other faults", default=-1),
    "first_step": Column(
        "integer", "of the steps that will not arrive, counted on the shard; -1 of other faults", default=-1
    ),
    "local_steps": Column("integer", "steps that will not arrive", default=0),
    "computed_steps": Column("integer", "how many of these had been computed, in vain", default=0),
    "pulled_version": Column("integer", "of that round; -1 of other faults", default=-1),
    "bytes_down": Column("integer", "sent for a lost round from the server to the worker", default=0),
    "bytes_up": Column("integer", "sent for a lost round from the worker to the server", default=0),
    "factor": Column(
        "real", "how many times as long a step takes from now on, of slow; else NaN", required=False, default=math.nan
    ),
}

EVALUATION_COLUMNS: Mapping[str, Column] = {
    "simulated_s": Column("real", "simulated seconds since the start"),
    "local_steps": Column("integer", "over all workers, counted as they arrive"),
    "tokens": Column("integer", "trained on, counted as they arrive"),
    "server_updates": Column("integer", "outer steps so far"),
    "bytes_sent": Column("integer", "over all links, both directions"),
    "loss": Column("real", "validation loss, nats per token; NaN where nothing was trained"),
    "perplexity": Column("real", "exp(loss)"),
    "train_loss": Column(
        "real",
        "training loss of the last update that is known by then, nats; NaN before",
        required=False,
        default=math.nan,
    ),
}


def shard_columns(shards: int) -> Mapping[str, Column]:
    """Returns the evaluations' columns of the shards' own losses."""
    meaning = "validation loss on held-out documents like those of shard {}, nats per token"
    return {f"loss_shard_{shard}": Column("real", meaning.format(shard)) for shard in range(shards)}


def perplexity_of(loss: float) -> float:
    """Returns exp(loss), infinite where that is beyond float64."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


class Key(NamedTuple):
    """One key of a summary."""

    kind: Any
    meaning: str


_REAL_OR_NONE = float | None
SUMMARY_KEYS: Mapping[str, Key] = {
    "variant": Key(str, "name of the variant"),
    "seed": Key(int, "of this run"),
    "overrides": Key(dict[str, Any], "dotted path -> value, of a sweep point; empty without a sweep"),
    "final_perplexity": Key(_REAL_OR_NONE, "exp(final_loss); null where nothing was trained"),
    "final_loss": Key(_REAL_OR_NONE, "last validation loss, nats per token; null where nothing was trained"),
    "best_loss": Key(_REAL_OR_NONE, "of the best possible model, nats per token; null where unknown"),
    "simulated_seconds": Key(float, "length of the run in simulated time"),
    "local_steps": Key(int, "over all workers, of the rounds that arrived"),
    "tokens": Key(int, "trained on in the rounds that arrived"),
    "server_updates": Key(int, "outer steps"),
    "mean_staleness": Key(_REAL_OR_NONE, "over the rounds that arrived, server updates; null without any"),
    "max_staleness": Key(int | None, "over the rounds that arrived, server updates; null without any"),
    "utilization": Key(
        _REAL_OR_NONE, "share of the workers' time spent computing, see summarize_rounds; null without any round"
    ),
    "bytes_sent": Key(int, "in messages that got through, over all links, both directions"),
    "host_seconds": Key(float, "how long the simulation took"),
    "tokens_per_host_second": Key(
        _REAL_OR_NONE, "tokens / seconds of training, evaluation and compilation, pretraining left out"
    ),
    "workers": Key(int, "number of workers"),
    "parameters": Key(int, "number of model parameters"),
    "causal_hash": Key(str, "of the causal order of events: equal hashes and learning settings, equal trajectories"),
    "data_hash": Key(str | None, "of the training and validation data; null where nothing was trained"),
    "versions": Key(dict[str, Any], "package -> version"),
    "trainer": Key(str, "batched, serial or null (nothing trained)"),
}

OF_FAULTS: Mapping[str, Key] = {
    "lost_rounds": Key(int, "that never arrived though they had been given out, because of faults"),
    "lost_steps": Key(int, "local steps that were computed in rounds that never arrived"),
    "dropped_steps": Key(int, "local steps of rounds that arrived and were dropped"),
    "non_finite": Key(int, "rounds that did not enter the server's state because something was not finite"),
    "goodput": Key(
        _REAL_OR_NONE, "local steps that entered the server's state, per simulated second; null where no time passed"
    ),
    "lost_bytes": Key(int, "sent for rounds that never arrived"),
}
"""Further keys of a summary, which records from before there were faults lack."""

OF_MONEY: Mapping[str, str] = {
    "money": "what the run has cost, see `bill_of`",
    "currency": "of the money; empty where none is named",
}
"""Further keys of a summary whose experiment gives prices."""

_DTYPES: Mapping[str, Any] = {"integer": "int64", "real": "float64", **_CATEGORY_DTYPES}
_SOURCE_KINDS = {"integer": "iu", "real": "fiu", "outcome": "OUT", "fault": "OUT"}


def conform(frame: pd.DataFrame, columns: Mapping[str, Column], where: str) -> pd.DataFrame:
    """Returns `frame` with the declared columns first, in their dtypes, and a plain 0..n-1 index.

    Columns beyond the declared ones are kept; those of the right dtype are not copied, but by pandas when written to.

    Args:
        frame: The table.
        columns: `ROUND_COLUMNS`, or those of another table.
        where: What to call the table in an error message, a path if it has one.

    Raises:
        RecordError: If a column is missing or holds values of another kind.
    """
    missing = [name for name, column in columns.items() if column.required and name not in frame.columns]
    if missing:
        raise RecordError(
            f"{where}: missing columns {', '.join(missing)}; it has {', '.join(map(str, frame.columns)) or 'none'}. "
            "Simulate the run again, or add them"
        )
    declared = [name for name in columns if name in frame.columns]
    extra = [name for name in frame.columns if name not in columns]
    frame = frame[declared + extra].reset_index(drop=True)
    for name in declared:
        kind, series = columns[name].kind, frame[name]
        is_category = isinstance(series.dtype, pd.CategoricalDtype)
        if not (is_category and kind in CATEGORIES) and series.dtype.kind not in _SOURCE_KINDS[kind]:
            raise RecordError(
                f"{where}: column {name!r} has dtype {series.dtype}, but its values must be of kind {kind}"
            )
        valid = CATEGORIES.get(kind, ())
        if valid and not series.isin(valid).all():
            bad = series[~series.isin(valid)].iloc[0]
            article = "an" if kind == "outcome" else "a"
            raise RecordError(
                f"{where}: column {name!r} holds {bad!r}, but {article} {kind} is one of {', '.join(valid)}"
            )
        if series.dtype != _DTYPES[kind]:
            frame[name] = series.astype(_DTYPES[kind])
    return frame
