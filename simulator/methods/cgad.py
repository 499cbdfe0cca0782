"""CGAD, 2026 (arXiv 2605.09126): a gate of staleness in front of Adam."""

from simulator.experiment.methods import Count, Rate, Slots


def cgad(learning_rate: Rate = 0.01, decay: Rate = 0.1, cutoff: Count = 20) -> Slots:
    r"""Every arrival is a step of Adam on what a gate lets through of it; it is the smaller the staler it is.

    .. math::
      g \leftarrow e^{-a s} \tfrac12 (1 + \cos(\pi s / s_0)) \, g \;\; (s < s_0), \quad 0 \;\; (s \ge s_0)

    Of the paper only excerpts were read: the form of the cosine gate and all numbers are ours.

    Args:
      learning_rate: of Adam.
      decay: a.
      cutoff: :math:`s_0`.
    """
    return {
        "synchronization": {"kind": "asynchronous"},
        "outer": {
            "optimizer": "adam",
            "learning_rate": learning_rate,
            "staleness": {"kind": "gate", "decay": decay, "cutoff": cutoff},
            "weight": 1.0,
        },
    }
