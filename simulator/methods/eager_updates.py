"""Eager Updates for overlapped communication, Kale et al., 2025 (arXiv 2502.12996)."""

from simulator.experiment.methods import Momentum, Rate, Slots


def eager_updates(local_steps: int, learning_rate: Rate = 0.4, momentum: Momentum = 0.9) -> Slots:
    r"""Offers travel during the whole next round; a worker steps on their mean with its own share in it renewed.

    With worker m's pseudo-gradients :math:`\Delta_m` of this round, and those of the round before:

    .. math::
      \tilde\Delta_m = \tfrac1M \big(\Delta_m^{(t)} + \sum_{n \ne m} \Delta_n^{(t-H)}\big), \quad
      \theta_m^{(t)} = \mathrm{Nesterov}_m(\theta_m^{(t-H)}, \tilde\Delta_m)

    There is no shared copy: replicas differ by their own share. In the first round nothing is there yet, and others'
    pseudo-gradients are taken as zero, which is ours: what is published does not say.

    Args:
      local_steps: H, which is given.
      learning_rate: of the outer optimizers; the paper's.
      momentum: of the outer optimizers; 0.9 is ours.
    """
    return {
        "synchronization": {"kind": "barrier"},
        "schedule": {"overlap": local_steps},
        "merge": {"kind": "eager", "share": "1/workers"},
        "outer": {"optimizer": "nesterov", "learning_rate": learning_rate, "momentum": momentum, "weight": 1.0},
    }
