"""Delayed Nesterov with dynamic local updates, Liu et al., 2024 (arXiv 2401.09135), Algorithms 3 to 5."""

from typing import Literal

from simulator.experiment.methods import Momentum, Rate, Seconds, Slots


def delayed_nesterov(
    learning_rate: Rate = 0.7,
    momentum: Momentum = 0.9,
    grace: Seconds = 0.0,
    local_updates: Literal["dynamic", "fixed"] = "dynamic",
) -> Slots:
    """Arrivals step the parameters at once, and the momentum once for as many of them as there are workers.

    The rule is that of `simulator.learning.optimizers.delayed_nesterov`, with a buffer of one arrival of each worker.

    Args:
      learning_rate: of the outer optimizer; the paper's.
      momentum: of the outer optimizer; the paper's.
      grace: length of the window within which arrivals restart together.
      local_updates: dynamic gives a worker steps in proportion to its speed (DyLU).
    """
    return {
        "synchronization": {"kind": "asynchronous", "grace": grace},
        "local_steps": {"kind": local_updates},
        "outer": {
            "optimizer": "delayed_nesterov",
            "learning_rate": learning_rate,
            "momentum": momentum,
            "buffer": "workers",
            "weight": 1.0,
        },
    }
