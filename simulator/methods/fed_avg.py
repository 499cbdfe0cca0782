"""Federated averaging, with which Photon trains language models (arXiv 2405.10853)."""

from simulator.experiment.methods import Rate, Slots


def fed_avg(learning_rate: Rate = 1.0) -> Slots:
    r"""Everybody does H local steps, and the mean of where they have come to is where all go on.

    .. math::
      \theta \leftarrow \theta - \epsilon \tfrac1M \sum_m (\theta - \theta_m)

    All workers take part in every round: sampling some of a population is not built.

    Args:
      learning_rate: :math:`\epsilon`; 1 is the mean itself.
    """
    return {
        "synchronization": {"kind": "barrier"},
        "outer": {"optimizer": "sgd", "learning_rate": learning_rate, "weight": 1.0},
    }
