"""PALSGD, pseudo-asynchronous local SGD, 2025 (arXiv 2504.18454): pulls between synchronizations."""

from typing import Annotated

from pydantic import Field

from simulator.experiment.methods import Momentum, Rate, Slots
from simulator.methods.diloco import diloco


def palsgd(
    probability: Annotated[float, Field(ge=0, lt=1)] = 0.2,
    strength: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.5,
    learning_rate: Rate = 0.1,
    momentum: Momentum = 0.9,
) -> Slots:
    r"""DiLoCo in which some local steps go towards the last agreed point instead of along a gradient, in no time.

    With a coin of probability p for each local step, the same at all workers, and the inner rate :math:`\gamma`:

    .. math::
      \text{pull: } \theta_m \leftarrow \theta_m - \tfrac{\gamma}{p} \eta (\theta_m - \theta), \quad
      \text{else: a step of the inner optimizer at } \tfrac{\gamma}{1 - p}

    The first step of a round is a gradient's. The official code pulls the first array alone, by a mistake in a loop:
    this is its formula, for all. Its warm-up is `pretrain`.

    Args:
      probability: p; the code's.
      strength: :math:`\eta`; the code's.
      learning_rate: of the outer optimizer, Nesterov's; the code's.
      momentum: of the outer optimizer; the code's.
    """
    return diloco(learning_rate, momentum) | {"inner": {"pull": {"probability": probability, "strength": strength}}}
