"""Momentum look-ahead (MLA), Ajanthan et al., 2025 (MCDC at ICLR, OpenReview 4O8nzTkHPI): asynchronous."""

from simulator.experiment.methods import Momentum, Rate, Seconds, Slots


def mla(learning_rate: Rate = 0.7, momentum: Momentum = 0.9, grace: Seconds = 0.0) -> Slots:
    r"""Every arrival is a step along itself and the mean of all before it, :math:`m`, which looks ahead.

    .. math::
      m \leftarrow \gamma m + (1 - \gamma) g, \quad \theta \leftarrow \theta - \epsilon (g + \gamma m)

    This is the server's form; in the look-ahead form workers begin with a point ahead, and both are one for any delays.
    The rates are those of others' code: the paper's text was not read.

    Args:
      learning_rate: :math:`\epsilon`; 0.7 in others' code, 0.1 in a notebook of the authors' laboratory.
      momentum: :math:`\gamma`; of others' code.
      grace: length of the window within which arrivals restart together.
    """
    return {
        "synchronization": {"kind": "asynchronous", "grace": grace},
        "outer": {"optimizer": "mla", "learning_rate": learning_rate, "momentum": momentum, "weight": 1.0},
    }
