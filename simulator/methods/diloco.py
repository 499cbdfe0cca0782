"""DiLoCo, Douillard et al., 2023 (arXiv 2311.08105): synchronous rounds of many local steps."""

from simulator.experiment.methods import Momentum, Rate, Slots


def diloco(learning_rate: Rate = 0.7, momentum: Momentum = 0.9) -> Slots:
    r"""Everybody does H local steps from :math:`\theta`; the mean of the pseudo-gradients is one Nesterov step.

    .. math::
      g = \frac1M \sum_m (\theta - \theta_m), \quad m \leftarrow \mu m + g, \quad
      \theta \leftarrow \theta - \epsilon (g + \mu m)

    Args:
      learning_rate: :math:`\epsilon`; the paper's.
      momentum: :math:`\mu`; the paper's.
    """
    return {
        "synchronization": {"kind": "barrier"},
        "outer": {"optimizer": "nesterov", "learning_rate": learning_rate, "momentum": momentum, "weight": 1.0},
    }
