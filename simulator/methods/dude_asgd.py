"""DuDe-ASGD, Wang et al., 2024 (arXiv 2405.16966): each arrival replaces its worker's entry of a table."""

from simulator.experiment.methods import Rate, Slots


def dude_asgd(learning_rate: Rate = 0.7) -> Slots:
    r"""Every arrival is a step along the mean of the workers' last pseudo-gradients, whatever their age.

    .. math::
      G_m \leftarrow g, \quad \theta \leftarrow \theta - \epsilon \tfrac1M \sum_n G_n

    Nothing moves before every worker has offered once. The paper's are gradients of single steps.

    Args:
      learning_rate: :math:`\epsilon`; 0.7 is ours.
    """
    return {
        "synchronization": {"kind": "asynchronous"},
        "outer": {"optimizer": "dude", "learning_rate": learning_rate, "workers": "workers", "weight": 1.0},
    }
