"""NoLoCo, Kolehmainen et al., 2025 (arXiv 2506.10911): no server; pairs that are drawn anew each round."""

from simulator.experiment.methods import Count, Momentum, Rate, Slots


def noloco(size: Count = 2, learning_rate: Rate = 0.7, momentum: Momentum = 0.5) -> Slots:
    r"""After H local steps a worker meets its group of the round, and moves towards it.

    With slow weights :math:`\phi_m`, moves :math:`D_m = \theta_m - \phi_m` and means over the group:

    .. math::
      \delta_m \leftarrow \mu \delta_m + \epsilon \bar D + \epsilon (\bar\phi - \phi_m), \quad
      \phi_m \leftarrow \phi_m + \delta_m

    Members send both, twice the bytes of the model. The defaults are those of the authors' code.

    Args:
      size: workers of a group.
      learning_rate: :math:`\epsilon`.
      momentum: :math:`\mu`.
    """
    return {
        "synchronization": {"kind": "barrier"},
        "topology": {"kind": "groups", "size": size},
        "offer": {"weights": True},
        "outer": {"optimizer": "noloco", "learning_rate": learning_rate, "momentum": momentum, "weight": 1.0},
    }
