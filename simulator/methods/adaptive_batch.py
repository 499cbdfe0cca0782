"""Adaptive local batch sizes for local SGD, Lau et al., 2024 (arXiv 2406.13936)."""

from simulator.experiment.methods import Count, Momentum, Rate, Slots
from simulator.methods.diloco import diloco


def adaptive_batch(
    threshold: Rate | None = 0.5,
    start: Count = 2,
    most: Count = 32,
    learning_rate: Rate = 1.0,
    momentum: Momentum = 0.0,
) -> Slots:
    r"""DiLoCo whose local batches grow when the norm test says that their gradients are too noisy.

    A local step takes the mean gradient :math:`\bar g` of k micro-batches of `inner.batch_size`. After a meeting,
    with the variance of the micro-batches' gradients at the end of each worker's round, summed over all numbers:

    .. math::
      k \leftarrow \max\Big(k, \max_m \Big\lceil \frac{\sum \mathrm{Var}_m}{\eta^2 |\bar g_m|^2} \Big\rceil\Big)

    which is the norm test :math:`\sum \mathrm{Var} / k \le \eta^2 |\bar g|^2` at each worker, and never fewer. A step
    of k takes k times the time of one, but for `inner.micro_batches.overhead`. So the timeline needs training: it
    cannot be shown without, and runs share no training.

    Of the paper only the abstract was read. The test is that of its authors' code for the paper before it (AdAdaGrad),
    which has the gradient of every sample; the variance from micro-batches is ours, as are micro-batches as the unit,
    the end of a round as its time, the largest of the workers' numbers, and that learning rates stay as they are. A
    local step takes the shard's next k batches in its order, each once.

    Args:
      threshold: :math:`\eta`; ours, the largest of the 0.1 to 0.5 that were published; null for k as it is.
      start: k at first; ours, and at least 2 with a threshold, since a variance is of several.
      most: k at most, for which programs have room; ours, without effect where threshold is null.
      learning_rate: of the outer optimizer, Nesterov's; 1 without momentum is local SGD, which takes the mean.
      momentum: of the outer optimizer; local SGD has none.
    """
    micro_batches = {"start": start, "threshold": threshold, "most": most}
    return diloco(learning_rate, momentum) | {"inner": {"micro_batches": micro_batches}}
