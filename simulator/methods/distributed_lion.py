"""Distributed Lion, 2024 (arXiv 2404.00438): workers send signs, and the server answers with a vote."""

from simulator.experiment.methods import Momentum, Rate, Slots


def distributed_lion(learning_rate: Rate = 1e-4, b1: Momentum = 0.9, b2: Momentum = 0.99) -> Slots:
    r"""After every step workers send the sign of their momentum's mix, one bit, and step by the vote of all.

    .. math::
      u_m = \mathrm{sign}(\beta_1 m_m + (1 - \beta_1) g_m), \quad m_m \leftarrow \beta_2 m_m + (1 - \beta_2) g_m, \quad
      \theta \leftarrow \theta - \epsilon \, \mathrm{sign}(\textstyle\sum_m u_m)

    A round of one step of Lion at rate 1 offers exactly that sign. Where signs are even there is no step; unofficial
    code takes -1. Weight decay is not here. The rate is that code's.

    Args:
      learning_rate: :math:`\epsilon`.
      b1: :math:`\beta_1`.
      b2: :math:`\beta_2`.
    """
    return {
        "inner": {
            "optimizer": "lion",
            "arguments": {"b1": b1, "b2": b2},
            "weight_decay": 0.0,
            "learning_rate": 1.0,
            "local_steps": 1,
            "schedule": {"kind": "constant"},
        },
        "synchronization": {"kind": "barrier"},
        "compression": {"kind": "sign"},
        "aggregation": {"kind": "vote"},
        "outer": {"optimizer": "sgd", "learning_rate": learning_rate, "weight": 1.0},
    }
