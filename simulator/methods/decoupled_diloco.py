"""Decoupled DiLoCo, 2026 (arXiv 2604.21428): fragments, a quorum with a window, direction and norm apart."""

from typing import Annotated, Literal

from pydantic import Field

from simulator.experiment.methods import Count, Momentum, Rate, Seconds, Slots, Steps


def decoupled_diloco(
    fragments: Count = 3,
    overlap: Steps = 2,
    quorum: Count = 1,
    grace: Seconds = 1.0,
    share: Annotated[float, Field(gt=0, lt=1)] | None = None,
    learning_rate: Rate = 0.4,
    momentum: Momentum = 0.9,
    compression: Literal["none", "int", "bf16"] = "none",
    composition: Literal["strided", "sequential", "by_size"] = "by_size",
) -> Slots:
    r"""Fragments meet as soon as some workers have offered, and a little later; nobody waits for the others.

    With weights of tokens and steps, :math:`w_m = c_m^2 / s_m`, array by array:

    .. math::
      g = \frac{\sum_m w_m |g_m|}{\sum_m w_m} \phi\big(\sum_m w_m \phi(g_m)\big), \quad \phi(v) = v / |v|, \quad
      \Theta_p \leftarrow \mathrm{Nesterov}(\Theta_p, g)

    and a worker takes the answer :math:`\tau` steps after its offer. The paper's window is a share of the time that
    these steps leave, with moving averages of what has arrived:

    .. math::
      \gamma (\tau \xi_{step} - \xi_{quorum} - \xi_{sync}), \text{ from } 0 \text{ to the longest}

    Its share is not published, and neither are the outer rates and which averages these are: here each takes half of
    the newest, a step's of every offer, as `synchronization.adaptive` says.

    Args:
      fragments: P; 24 in the paper, 3 is ours for small models.
      overlap: :math:`\tau`; the paper's.
      quorum: offers that a meeting waits for; the paper's.
      grace: length of the window behind them, the longest where it adapts; ours.
      share: :math:`\gamma`, below 1; null, which is ours, for windows of one length.
      learning_rate: of the outer optimizer; ours.
      momentum: of the outer optimizer; ours.
      compression: form of offers; the paper has bf16 and int4 (`compression.width`).
      composition: which blocks a fragment has; the paper's is by size.
    """
    adaptive = {} if share is None else {"adaptive": {"share": share}}
    return {
        "synchronization": {"kind": "quorum", "offers": quorum, "window": grace} | adaptive,
        "schedule": {"fragments": fragments, "overlap": overlap, "composition": composition},
        "compression": {"kind": compression},
        "aggregation": {"kind": "direction"},
        "outer": {"optimizer": "nesterov", "learning_rate": learning_rate, "momentum": momentum, "weight": 1.0},
    }
