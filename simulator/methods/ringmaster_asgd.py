"""Ringmaster ASGD, of the family of Ringleader (arXiv 2509.22860): asynchronous arrivals that are late are dropped."""

from simulator.experiment.methods import Count, Rate, Slots


def ringmaster_asgd(threshold: Count = 8, learning_rate: Rate = 0.7) -> Slots:
    r"""Every arrival whose staleness s is below R is a step; others are dropped.

    .. math::
      s < R: \quad \theta \leftarrow \theta - \epsilon g

    The family's are gradients of single steps.

    Args:
      threshold: R; ours.
      learning_rate: :math:`\epsilon`; ours.
    """
    return {
        "synchronization": {"kind": "asynchronous"},
        "outer": {
            "optimizer": "sgd",
            "learning_rate": learning_rate,
            "weight": 1.0,
            "staleness": {"kind": "threshold", "drop_above": threshold - 1},
        },
    }
