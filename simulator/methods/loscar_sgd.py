"""LOSCAR-SGD, 2026 (arXiv 2605.20866): averaging that overlaps training and keeps what was done meanwhile."""

from simulator.experiment.methods import Rate, Slots, Steps


def loscar_sgd(overlap: Steps = 5, learning_rate: Rate = 1.0) -> Slots:
    r"""Workers take the mean some steps after their offer, and add to it what they have done since.

    With the parameters :math:`\theta_m` of the offer, and :math:`\theta'_m` of :math:`\tau` steps later:

    .. math::
      \Theta = \tfrac1M \sum_m \theta_m, \quad \theta_m \leftarrow \Theta + (\theta'_m - \theta_m)

    Of the paper only this rule was read; the numbers are ours.

    Args:
      overlap: :math:`\tau`, local steps between an offer and its merge.
      learning_rate: of the step to the mean; 1 is the mean itself.
    """
    return {
        "synchronization": {"kind": "barrier"},
        "schedule": {"overlap": overlap},
        "merge": {"kind": "keep_progress"},
        "outer": {"optimizer": "sgd", "learning_rate": learning_rate, "weight": 1.0},
    }
