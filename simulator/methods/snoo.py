"""SNOO: a Nesterov step on the progress of a single worker, DiLoCo without others."""

from simulator.experiment.methods import Momentum, Rate, Slots
from simulator.methods.diloco import diloco


def snoo(learning_rate: Rate = 0.7, momentum: Momentum = 0.9) -> Slots:
    r"""DiLoCo, which helps one worker too: after H steps, a Nesterov step on what they have come to.

    .. math::
      g = \theta - \theta_H, \quad m \leftarrow \mu m + g, \quad \theta \leftarrow \theta - \epsilon (g + \mu m)

    Args:
      learning_rate: :math:`\epsilon`; DiLoCo's.
      momentum: :math:`\mu`; DiLoCo's.
    """
    return diloco(learning_rate, momentum)
