"""Remedies for a lack of memory that change no result: the least of each that suffices."""

import bisect
import math
from collections.abc import Callable
from typing import Any

from simulator.experiment import Experiment
from simulator.experiment.schema.experiment import TransformerModel


def remedies(experiment: Experiment, fits: Callable[[Experiment], bool]) -> str:
    """Returns the values of `inner.accumulation` and `model.remat` with which an experiment would fit, as a clause.

    Args:
      experiment: that does not fit.
      fits: whether one does.
    """
    model, told, least = experiment.model, [], math.inf
    ways: list[dict[str, Any]] = [{}]
    if isinstance(model, TransformerModel) and not model.remat:
        ways.append({"remat": True})
    for changes in ways:
        changed = experiment.model_copy(update={"model": model.model_copy(update=changes)})
        parts = _least_accumulation(changed, fits)
        if parts is None or parts >= least:
            continue
        words = [f"inner.accumulation: {parts}"] if parts > experiment.inner.accumulation else []
        told.append(" and ".join([*words, *(f"model.{key}: true" for key in changes)]))
        least = parts
    return f"; enough would be {', or '.join(told)}" if told else ""


def _least_accumulation(experiment: Experiment, fits: Callable[[Experiment], bool]) -> int | None:
    """Returns the fewest parts of a batch with which an experiment fits, None where it does not with any."""
    inner, pretrain = experiment.inner, experiment.pretrain
    shared = pretrain.steps and pretrain.accumulation is None and pretrain.batch_size
    batch = math.gcd(inner.micro_batch, shared or 0)
    parts = [each for each in range(inner.accumulation, batch + 1) if batch % each == 0]

    def fits_in(each: int) -> bool:
        return fits(experiment.model_copy(update={"inner": inner.model_copy(update={"accumulation": each})}))

    place = bisect.bisect_left(parts, True, key=fits_in)
    return parts[place] if place < len(parts) else None
