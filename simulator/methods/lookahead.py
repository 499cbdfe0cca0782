"""Lookahead (arXiv 1907.08610): slow weights that follow the fast ones of a single worker."""

from simulator.experiment.methods import Share, Slots


def lookahead(share: Share = 0.5) -> Slots:
    r"""After H steps the slow weights go a share of the way to the fast ones, which begin there again.

    .. math::
      \theta \leftarrow \theta + \alpha (\theta_H - \theta)

    Args:
      share: :math:`\alpha`; the paper's.
    """
    return {
        "synchronization": {"kind": "barrier"},
        "outer": {"optimizer": "sgd", "learning_rate": share, "weight": 1.0},
    }
