"""Recomputes from a record alone what must be true of it; knows the cluster's costs and nothing of the engine."""

import pydantic

from simulator.experiment import Experiment
from simulator.record import RecordError, RunRecord
from simulator.verify import costs, rules
from simulator.verify.found import Found, Violation

__all__ = ["Violation", "verify"]


def verify(record: RunRecord) -> list[Violation]:
    """Returns every violation: time, durations, faults, versions, staleness, steps, bytes, evaluations, final numbers.

    Raises:
      RecordError: the record's experiment is none.
    """
    faults = (record.experiment.get("cluster") or {}).get("faults") or {}
    if isinstance(faults.get("trace"), str):  # a record holds the events themselves; files of others are not read
        raise RecordError("the record's experiment is not valid: cluster.faults.trace names a file instead of events")
    try:
        experiment = Experiment.model_validate(record.experiment)
    except pydantic.ValidationError as error:
        raise RecordError(f"the record's experiment is not valid: {error.errors()[0]['msg']}") from error
    found = Found(record, experiment)
    return [violation for rule in (*rules.ALL, *costs.ALL) for violation in rule(found)]
