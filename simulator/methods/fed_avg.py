"""Federated averaging, McMahan et al., 2016 (arXiv 1602.05629), with which Photon trains language models."""

from simulator.experiment.methods import Arrivals, Rate, Slots


def fed_avg(learning_rate: Rate = 1.0, sample: Arrivals | None = None) -> Slots:
    r"""Everybody does H local steps, and the mean of where they have come to is where all go on.

    .. math::
      \theta \leftarrow \theta - \epsilon \tfrac1M \sum_m (\theta - \theta_m)

    Args:
      learning_rate: :math:`\epsilon`; 1 is the mean itself.
      sample: workers that are drawn for each round, over whom the mean is; all when null.
    """
    return {
        "synchronization": {"kind": "barrier"} | ({} if sample is None else {"sample": sample}),
        "outer": {"optimizer": "sgd", "learning_rate": learning_rate, "weight": 1.0},
    }
