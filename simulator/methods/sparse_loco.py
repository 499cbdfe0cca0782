"""SparseLoCo, 2025 (arXiv 2508.15706): the largest elements of each tile in two bits, with error feedback."""

from typing import Annotated

from pydantic import Field

from simulator.experiment.methods import Rate, Share, Slots


def sparse_loco(
    learning_rate: Rate = 1.0,
    density: Annotated[float, Field(gt=0, le=1)] = 64 / 4096,
    width: Annotated[int, Field(ge=1, le=8)] | None = 2,
    decay: Share = 0.95,
) -> Slots:
    r"""A worker sends the largest elements of what it has learned and has not sent; there is no outer momentum.

    With the error :math:`e_m` that it keeps, and means over the workers that sent an element:

    .. math::
      e_m \leftarrow \beta e_m + (\theta - \theta_m), \quad S_m = Q(\mathrm{top}_k(e_m)), \quad
      e_m \leftarrow e_m - S_m, \quad \theta \leftarrow \theta - \alpha \, \mathrm{mean}(S_m)

    The mean over senders is both codes'; one description of the paper divides by all. Defaults are those of the
    production code (templar), whose scaling of replicas to their median norm is not here.

    Args:
      learning_rate: :math:`\alpha`.
      density: share of the elements that are sent.
      width: bits of a value; null sends them as they are.
      decay: :math:`\beta` of the error.
    """
    return {
        "synchronization": {"kind": "barrier"},
        "compression": {"kind": "top_k", "density": density, "width": width, "feedback": decay},
        "aggregation": {"kind": "senders"},
        "outer": {"optimizer": "sgd", "learning_rate": learning_rate, "weight": 1.0},
    }
