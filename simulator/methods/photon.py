"""Photon, 2024 (arXiv 2405.10853, 2411.02908): federated averaging of language models, by a sample of the workers."""

from simulator.experiment.methods import Arrivals, Rate, Slots
from simulator.methods.fed_avg import fed_avg


def photon(sample: Arrivals = "workers", learning_rate: Rate = 1.0) -> Slots:
    r"""Workers that are drawn anew for each round do H local steps; the mean of where they have come to is the next.

    With the K workers S of a round:

    .. math::
      \theta \leftarrow \theta - \epsilon \tfrac1K \sum_{m \in S} (\theta - \theta_m)

    A round waits for these alone, and the others do nothing until one draws them. Who is away is not drawn. Inner
    moments stay on the workers or start afresh, as `inner.state` says; the papers have both, AdamW and 62, 128 or 512
    local steps.

    Args:
      sample: K; all of them, as in federated averaging, is ours.
      learning_rate: :math:`\epsilon`; the papers' is about 1.
    """
    return fed_avg(learning_rate, sample)
