"""MuLoCo, 2025 (arXiv 2505.23725): Muon as inner optimizer of DiLoCo, and few bits with error feedback."""

from typing import Annotated, Literal

from pydantic import Field

from simulator.experiment.methods import Momentum, Rate, Share, Slots
from simulator.methods.diloco import diloco


def mu_loco(
    learning_rate: Rate = 0.8,
    momentum: Momentum = 0.9,
    compression: Literal["none", "int", "statistical"] = "none",
    width: Annotated[int, Field(ge=2, le=16)] = 2,
    rows: bool = False,
    decay: Share = 0.95,
) -> Slots:
    r"""DiLoCo whose workers take steps of Muon, which is optax's; offers may have few bits.

    .. math::
      e_m \leftarrow \beta e_m + (\theta - \theta_m), \quad S_m = Q(e_m), \quad e_m \leftarrow e_m - S_m, \quad
      \theta \leftarrow \mathrm{Nesterov}(\theta, \tfrac1M \sum_m S_m)

    `statistical` is the code's quantizer by mean and deviation, of bins that are decoded as their mean; `int` has steps
    of the largest magnitude, and is ours. The code's linear quantizers, its second one behind the mean, and its leaving
    out norms and embeddings are not here; its factor of the outer rate on what is fed back is there once and not twice.

    Args:
      learning_rate: of the outer optimizer; the paper's of DiLoCo beside it.
      momentum: of the outer optimizer; the paper's of DiLoCo beside it.
      compression: form of offers.
      width: bits of an element; 8 in the code.
      rows: whether each row of an array has statistics of its own; the code has both.
      decay: :math:`\beta` of the error; the code's.
    """
    coded: Slots = {"kind": compression}
    if compression != "none":
        coded |= {"width": width, "feedback": decay}
    if compression == "statistical":
        coded["rows"] = rows
    return diloco(learning_rate, momentum) | {"inner": {"optimizer": "muon"}, "compression": coded}
