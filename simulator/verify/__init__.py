"""Verification of a record from itself alone; knows the cluster's costs and nothing of the engine."""

from collections.abc import Iterable

import pydantic

from simulator.experiment import Experiment, registry
from simulator.host.mappings import MISSING, lookup
from simulator.record import RecordError, RunRecord
from simulator.verify import (
    batch_rules,
    cluster_rules,
    collective_rules,
    exchange_rules,
    fair_rules,
    fault_rules,
    link_rules,
    message_rules,
    order_rules,
    overlap_rules,
)
from simulator.verify.checked_run import CheckedRun, Violation

__all__ = ["Violation", "unchecked", "verify"]

_RULES = (
    order_rules,
    batch_rules,
    exchange_rules,
    message_rules,
    overlap_rules,
    cluster_rules,
    link_rules,
    collective_rules,
    fair_rules,
    fault_rules,
)


def verify(record: RunRecord) -> list[Violation]:
    """Returns every violation: of times, faults, meetings, versions, staleness, steps, messages, and final numbers.

    Decisions of a registered policy are not checked, see `unchecked`; it need not be registered here. Those of a
    schedule are, where it is, and where every worker has the same H.

    Raises:
      RecordError: the record's experiment is none.
    """
    for section in ("faults", "devices", "network"):
        if isinstance(lookup(record.experiment, ("cluster", section, "trace")), str):
            # a record holds the rows themselves; files of others are not read
            message = f"cluster.{section}.trace names a file instead of having its rows"
            raise RecordError(f"the record's experiment is not valid: {message}")
    try:
        with registry.any_name():
            experiment = Experiment.model_validate(record.experiment)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"{key}: " for key in first["loc"])
        raise RecordError(f"the record's experiment is not valid: {where}{first['msg']}") from error
    run = CheckedRun(record, experiment)
    return [violation for room in _RULES for rule in room.ALL for violation in rule(run)]


_DECIDES: dict[registry.SlotName, str] = {
    "synchronization": "which rounds an outer step takes, and which are dropped",
    "local_steps": "how many local steps a round has",
    "shard_choice": "on which shard a round trains",
    "schedule": "how many local steps a round has",
}


def unchecked(record: RunRecord) -> list[str]:
    """Returns the parts of a record that `verify` does not check, because a registered policy decides them."""
    kinds = {section: lookup(record.experiment, (section, "kind")) for section in _DECIDES}
    return [
        f"{section} {kind!r} is not built in: {_DECIDES[section]} is not checked"
        for section, kind in kinds.items()
        if isinstance(kind, str) and kind not in (*registry.SLOTS[section].built_in, *_recomputed(record, section))
    ]


def _recomputed(record: RunRecord, section: registry.SlotName) -> Iterable[str]:
    """Returns the names of registered policies whose decisions are computed anew."""
    is_known = lookup(record.experiment, ("local_steps", "kind")) in (MISSING, "fixed")  # H of every worker
    return registry.registered(section) if section == "schedule" and is_known else ()
