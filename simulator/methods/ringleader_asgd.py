"""Ringleader ASGD, 2025 (arXiv 2509.22860): collect from everybody, then a step at one arrival of each worker."""

from simulator.experiment.methods import Rate, Slots


def ringleader_asgd(learning_rate: Rate = 0.7) -> Slots:
    r"""Arrivals are collected until every worker has one; then one of each worker is a step along the mean of all.

    With means :math:`G_m` of a worker's pseudo-gradients in this cycle, which steps renew:

    .. math::
      \theta \leftarrow \theta - \epsilon \tfrac1M \sum_m G_m

    Nobody waits: every arrival is answered at once, and those beside the steps count for the next cycle. The order is
    that of another's code; the paper's are gradients of single steps.

    Args:
      learning_rate: :math:`\epsilon`; ours.
    """
    return {
        "synchronization": {"kind": "asynchronous"},
        "outer": {"optimizer": "ringleader", "learning_rate": learning_rate, "workers": "workers", "weight": 1.0},
    }
