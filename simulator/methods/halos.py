"""HALoS, Kim et al., 2025 (arXiv 2506.04531): regional servers under a global one, all of them asynchronous."""

import math
from typing import Literal

from simulator.experiment.methods import Arrivals, Bandwidth, Count, Momentum, Rate, Seconds, Share, Slots


def halos(
    regions: Count | Literal["sites"] = 4,
    every_versions: Count = 32,
    mix: Share = 0.25,
    learning_rate: Rate = 3.2,
    momentum: Momentum = 0.9,
    buffer: Arrivals = 16,
    upper_learning_rate: Rate = 0.3,
    upper_momentum: Momentum = 0.5,
    upper_buffer: Count = 2,
    latency: Seconds = 0.0,
    bandwidth: Bandwidth = float("inf"),
) -> Slots:
    r"""Workers update their region's server; after K updates it offers its progress to the global one.

    With a region's parameters :math:`\theta`, what it last took :math:`r`, and the global :math:`\theta_g`, all outer
    optimizers delayed Nesterov:

    .. math::
      \theta_g \leftarrow \mathrm{DN}_g(\theta_g, r - \theta), \quad
      \theta \leftarrow (1 - \alpha) \theta + \alpha \theta_g, \; r \leftarrow \theta

    A region has one offer under way, and the updates of the time until it is answered do not count towards K. The
    defaults are those of the authors' code, whose rates are multiples of the buffers (0.2 of 16, 0.15 of 2).

    Args:
      regions: number of regions of neighboring workers, or `sites`; `topology.regions` names the workers of each.
      every_versions: K.
      mix: :math:`\alpha`.
      learning_rate: of a region's outer optimizer.
      momentum: of a region's outer optimizer.
      buffer: arrivals for each momentum update of a region; `workers` is the number of all workers.
      upper_learning_rate: of the global outer optimizer.
      upper_momentum: of the global outer optimizer.
      upper_buffer: offers of regions for each momentum update of the global outer optimizer.
      latency: of a transfer between a region's server and the global one.
      bandwidth: of that link.
    """
    upper = {"optimizer": "delayed_nesterov", "learning_rate": upper_learning_rate, "buffer": upper_buffer}
    return {
        "synchronization": {"kind": "asynchronous"},
        "local_steps": {"kind": "dynamic"},
        "topology": {
            "kind": "regions",
            "regions": regions,
            "every_versions": every_versions,
            "mix": mix,
            "latency": latency,
            "bandwidth": "unlimited" if math.isinf(bandwidth) else f"{bandwidth}B/s",
            "outer": upper | {"momentum": upper_momentum},
        },
        "outer": {
            "optimizer": "delayed_nesterov",
            "learning_rate": learning_rate,
            "momentum": momentum,
            "buffer": buffer,
            "weight": 1.0,
        },
    }
