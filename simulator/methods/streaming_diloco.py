"""Streaming DiLoCo, Douillard et al., 2025 (arXiv 2501.18512): fragments, sends that overlap training, four bits."""

from typing import Literal

from simulator.experiment.methods import Count, Momentum, Rate, Share, Slots, Steps


def streaming_diloco(
    fragments: Count = 3,
    overlap: Steps = 1,
    mix: Share = 0.5,
    learning_rate: Rate = 0.4,
    momentum: Momentum = 0.9,
    compression: Literal["fp4", "bf16", "none"] = "fp4",
    composition: Literal["strided", "sequential", "by_size"] = "strided",
) -> Slots:
    r"""Every H local steps each fragment p is offered by itself, and its answer merged :math:`\tau` steps later.

    With the shared outer copy :math:`\Theta_p` and offsets :math:`p H / P`:

    .. math::
      \Theta_p \leftarrow \mathrm{Nesterov}(\Theta_p, \tfrac1M \sum_m (\Theta_p - \theta_{m,p})), \quad
      \theta_{m,p} \leftarrow \alpha \theta_{m,p} + (1 - \alpha) \Theta_p

    The pseudo-gradient is that against the shared copy, as in both open implementations (torchft, MaxText); the paper's
    letter has each replica's own parameters of H steps before. Offers have E3M0 form without error feedback, answers
    are sent as they are. The number of fragments is ours: the paper has three transformer blocks in each.

    Args:
      fragments: P.
      overlap: :math:`\tau`, local steps between an offer and its merge; 1 in the paper's main runs.
      mix: :math:`\alpha`, share of a worker's own parameters; 0.5 in the paper.
      learning_rate: of the outer optimizer; the paper's.
      momentum: of the outer optimizer; the paper's.
      compression: form of offers; the paper's is fp4.
      composition: which blocks a fragment has; the paper's default is strided.
    """
    return {
        "synchronization": {"kind": "barrier"},
        "schedule": {"fragments": fragments, "overlap": overlap, "composition": composition},
        "compression": {"kind": compression},
        "merge": {"kind": "lerp", "mix": mix},
        "outer": {"optimizer": "nesterov", "learning_rate": learning_rate, "momentum": momentum, "weight": 1.0},
    }
