"""Rennala SGD, of the family of Ringleader (arXiv 2509.22860): arrivals that began with the present parameters."""

from simulator.experiment.methods import Arrivals, Rate, Slots


def rennala_sgd(arrivals: Arrivals = "workers", learning_rate: Rate = 0.7) -> Slots:
    r"""The mean of B arrivals that began with the present parameters is a step; others are dropped.

    .. math::
      \theta \leftarrow \theta - \epsilon \tfrac1B \sum_{b=1}^B g_b

    The family's are gradients of single steps.

    Args:
      arrivals: B; as many as there are workers is ours.
      learning_rate: :math:`\epsilon`; ours.
    """
    return {
        "synchronization": {"kind": "asynchronous"},
        "outer": {
            "optimizer": "sgd",
            "learning_rate": learning_rate,
            "weight": 1.0,
            "arrivals_per_update": arrivals,
            "staleness": {"kind": "threshold", "drop_above": 0},
        },
    }
