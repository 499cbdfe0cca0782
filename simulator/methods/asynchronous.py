"""Asynchronous Local-SGD with Nesterov momentum, Liu et al., 2024 (arXiv 2401.09135), Algorithm 2."""

from simulator.experiment.methods import Momentum, Rate, Seconds, Slots


def asynchronous(learning_rate: Rate = 0.7, momentum: Momentum = 0.9, grace: Seconds = 0.0) -> Slots:
    r"""Every arrival is a Nesterov step; who arrives within the grace window restarts together.

    .. math::
      m \leftarrow \mu m + g / M, \quad \theta \leftarrow \theta - \epsilon (g / M + \mu m)

    Args:
      learning_rate: :math:`\epsilon`; the paper's.
      momentum: :math:`\mu`; the paper's.
      grace: length of the window.
    """
    return {
        "synchronization": {"kind": "asynchronous", "grace": grace},
        "outer": {"optimizer": "nesterov", "learning_rate": learning_rate, "momentum": momentum, "weight": "1/workers"},
    }
