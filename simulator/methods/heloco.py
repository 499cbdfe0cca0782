"""HeLoCo, 2026 (arXiv 2606.00271): late pseudo-gradients are turned towards the momentum, array by array."""

from simulator.experiment.methods import Momentum, Rate, Seconds, Slots


def heloco(learning_rate: Rate = 0.7, momentum: Momentum = 0.9, grace: Seconds = 0.0) -> Slots:
    r"""Workers begin ahead of the server's parameters; what they bring is turned towards the momentum where it is late.

    .. math::
      \bar\theta = \theta - \epsilon \mu m, \quad g \leftarrow \mathrm{turned}(\bar\theta - \theta_m, m), \quad
      m \leftarrow \mu m + (1 - \mu) g, \quad \theta \leftarrow \theta - \epsilon (g + \mu m)

    How arrays are turned, with its settings in `outer`, is `simulator.learning.optimizers.mla.heloco`'s rule. Two
    variants of it are in others' code: `outer.worst`, -0.2 in the authors' notebook, and `outer.bound_first`, a fork's.

    Args:
      learning_rate: :math:`\epsilon`; the authors' code's.
      momentum: :math:`\mu`; the authors' code's.
      grace: length of the window; its arrivals are processed one after another.
    """
    return {
        "synchronization": {"kind": "asynchronous", "grace": grace},
        "view": {"kind": "look_ahead"},
        "outer": {"optimizer": "heloco", "learning_rate": learning_rate, "momentum": momentum, "weight": 1.0},
    }
