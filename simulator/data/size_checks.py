"""Size checks of data: enough for an experiment's batches and schedule."""

from collections.abc import Sequence

from simulator.experiment import Experiment
from simulator.experiment.schema.inner import CosineSchedule
from simulator.host.errors import SettingError


def check_sizes(experiment: Experiment, shard_sizes: Sequence[int]) -> None:
    """Checks that every shard holds a batch, so that none has an example twice, and outlasts the warm-up.

    Args:
        experiment: whose batches and learning rates they are.
        shard_sizes: examples of each shard.

    Raises:
        SettingError: a shard does not suffice.
    """
    smallest = min(shard_sizes)
    for key, batch in (
        ("inner.batch_size", max(experiment.inner.batch_sizes)),
        ("pretrain.batch_size", experiment.pretrain.batch_size or experiment.inner.micro_batch),
    ):
        if batch > smallest and (key.startswith("inner") or experiment.pretrain.steps):
            message = f"the smallest of {len(shard_sizes)} shards has only {smallest} examples: use a smaller "
            raise SettingError(key, batch, message + "batch, a shorter model.context, fewer data.shards, or more data")
    schedule, parts = experiment.inner.schedule, parts_of_budget(experiment, shard_sizes)
    if not isinstance(schedule, CosineSchedule) or schedule.total_steps is not None:
        return
    if schedule.warmup_steps >= min(parts):
        message = f"must be below {min(parts)}, the part of budget.local_steps of shard {parts.index(min(parts))}: "
        message += "use a shorter one, a larger budget, or shards that are less uneven"
        raise SettingError("inner.schedule.warmup_steps", schedule.warmup_steps, message)


def parts_of_budget(experiment: Experiment, shard_sizes: Sequence[int]) -> list[int]:
    """Returns each shard's local steps of the budget: in proportion to its size where shards are chosen by it."""
    sizes = shard_sizes if experiment.shard_choice.kind == "proportional" else [1] * experiment.shards
    return [-(-(experiment.budget.local_steps or 0) * size // sum(sizes)) for size in sizes]
