"""Size checks of data: enough for an experiment; and sizes of shards that are known without reading data."""

from collections.abc import Sequence

from simulator.data.errors import DataError
from simulator.data.partition import check_groups, divide
from simulator.data.store import prepared
from simulator.data.synthetic import markov_source
from simulator.data.windows import MOST_ADDRESSES, window_counts
from simulator.experiment import Experiment
from simulator.experiment.schema.data import ClusterGroups, ClustersData, Data, DocumentData, SyntheticData
from simulator.experiment.schema.experiment import CosineSchedule


def shard_sizes_at_once(data: Data, *, shards: int, context: int | None) -> Sequence[int] | None:
    """Returns the number of examples of each shard, without drawing, reading or preparing the data set.

    Args:
        data: the experiment's `data` section.
        shards: number of shards.
        context: input tokens of a window of text; None for data without one.

    Returns:
        The sizes, None where they are not known at once: text that is not prepared yet or is divided by its content,
            and data that cannot be loaded, as `load_dataset` says.
    """
    try:
        if isinstance(data, ClustersData):
            return _of_clusters(data, shards) if context is None else None
        if context is None:
            return None
        if isinstance(data, SyntheticData):
            return _of_synthetic(data, shards, context)
        return _of_documents(data, shards, context)
    except DataError:
        return None


def _of_clusters(data: ClustersData, shards: int) -> Sequence[int] | None:
    size = data.points // shards
    return [size] * shards if size and data.evaluation_points <= size * shards else None


def _of_synthetic(data: SyntheticData, shards: int, context: int) -> Sequence[int] | None:
    markov_source(data)
    lengths = [data.tokens // shards] * shards + [data.validation_tokens]
    return _counted(lengths, shards, context) if data.tokens + data.validation_tokens <= MOST_ADDRESSES else None


def _of_documents(data: DocumentData, shards: int, context: int) -> Sequence[int] | None:
    check_groups(data)
    store = prepared(data)
    if store is None or isinstance(getattr(data.partition, "groups", None), ClusterGroups):
        return None
    division = divide(store, data, shards, context + 1)
    parts = (*division.training, division.validation, *(() if data.even else division.shard_validation))
    return _counted([int(store.lengths[part].sum()) for part in parts], shards, context, uneven=not data.even)


def _counted(lengths: Sequence[int], shards: int, context: int, *, uneven: bool = False) -> Sequence[int] | None:
    """Returns the windows of each shard, None where one has none, or all together may be too long to be addressed."""
    counts = window_counts(lengths, shards, context, uneven=uneven)
    addressable = sum(count * context + 1 for count in counts) <= MOST_ADDRESSES
    return counts[:shards] if addressable and min(counts[: shards + 1]) else None


def check_sizes(experiment: Experiment, shard_sizes: Sequence[int]) -> None:
    """Checks that every shard holds a batch, so that none has an example twice, and outlasts the warm-up.

    Args:
        experiment: whose batches and learning rates they are.
        shard_sizes: examples of each shard.

    Raises:
        DataError: a shard does not suffice.
    """
    _check_batch(experiment, shard_sizes)
    _check_warmup(experiment, shard_sizes)


def parts_of_budget(experiment: Experiment, shard_sizes: Sequence[int]) -> list[int]:
    """Returns each shard's local steps of the budget: in proportion to its size where shards are chosen by it."""
    sizes = shard_sizes if experiment.shard_choice.kind == "proportional" else [1] * experiment.shards
    return [-(-(experiment.budget.local_steps or 0) * size // sum(sizes)) for size in sizes]


def _check_batch(experiment: Experiment, shard_sizes: Sequence[int]) -> None:
    smallest = min(shard_sizes)
    for key, batch in (
        ("inner.batch_size", experiment.inner.batch_size),
        ("pretrain.batch_size", experiment.pretrain.batch_size or experiment.inner.batch_size),
    ):
        if batch > smallest and (key.startswith("inner") or experiment.pretrain.steps):
            message = f"the smallest of {len(shard_sizes)} shards has only {smallest} examples: use a smaller "
            raise DataError(key, batch, message + "batch, a shorter model.context, fewer data.shards, or more data")


def _check_warmup(experiment: Experiment, shard_sizes: Sequence[int]) -> None:
    """Checks that the cosine schedule of every shard outlasts its warm-up."""
    schedule = experiment.inner.schedule
    if not isinstance(schedule, CosineSchedule) or schedule.total_steps is not None:
        return
    parts = parts_of_budget(experiment, shard_sizes)
    if schedule.warmup_steps >= min(parts):
        message = f"must be below {min(parts)}, the part of budget.local_steps of shard {parts.index(min(parts))}: "
        message += "use a shorter one, a larger budget, or shards that are less uneven"
        raise DataError("inner.schedule.warmup_steps", schedule.warmup_steps, message)
