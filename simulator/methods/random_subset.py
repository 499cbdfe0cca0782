"""Averaging of random subsets, of which AsyncMesh (arXiv 2601.22442) sends 5 %, late."""

from typing import Annotated

from pydantic import Field

from simulator.experiment.methods import Rate, Slots, Steps
from simulator.methods.loscar_sgd import loscar_sgd


def random_subset(
    share: Annotated[float, Field(gt=0, le=1)] = 0.05, overlap: Steps = 5, learning_rate: Rate = 1.0
) -> Slots:
    r"""Workers send a random share of the elements, take the means late, and keep what they have done meanwhile.

    With the elements :math:`S` that were sent:

    .. math::
      \Theta_S \leftarrow \mathrm{mean}(\theta_{m,S}), \quad \theta_m \leftarrow \Theta + (\theta'_m - \theta_m)

    Each worker draws a subset of its own, which is ours, and the mean is over those that sent an element. AsyncMesh has
    a delay of 10 updates and a correction by an exponential mean, which is not here.

    Args:
      share: of the elements that are sent; AsyncMesh's.
      overlap: local steps between an offer and its merge; ours.
      learning_rate: of the step to the mean; 1 is the mean itself.
    """
    sent = {"compression": {"kind": "random", "share": share}, "aggregation": {"kind": "senders"}}
    return loscar_sgd(overlap, learning_rate) | sent
