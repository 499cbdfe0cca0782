"""FedBuff, 2021 (arXiv 2106.06639): several asynchronous arrivals make one step."""

from simulator.experiment.methods import Arrivals, Rate, Slots


def fed_buff(arrivals: Arrivals = 3, learning_rate: Rate = 0.7, power: Rate = 0.5) -> Slots:
    r"""The mean of K arrivals, each weighted by its staleness s, is a step; workers are answered at once.

    .. math::
      \theta \leftarrow \theta - \epsilon \tfrac1K \sum_{k=1}^K (1 + s_k)^{-p} g_k

    Args:
      arrivals: K; 10 is typical, 3 is ours for few workers.
      learning_rate: :math:`\epsilon`; ours.
      power: p; of others' descriptions.
    """
    return {
        "synchronization": {"kind": "asynchronous"},
        "outer": {
            "optimizer": "sgd",
            "learning_rate": learning_rate,
            "weight": 1.0,
            "arrivals_per_update": arrivals,
            "staleness": {"kind": "polynomial", "power": power},
        },
    }
