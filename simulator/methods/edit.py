"""EDiT and A-EDiT, 2024 (arXiv 2412.07210): weights by norm, without outliers, clipped."""

from simulator.experiment.methods import Momentum, Rate, Seconds, Slots
from simulator.methods.diloco import diloco


def edit(learning_rate: Rate = 0.7, momentum: Momentum = 0.8, temperature: Rate = 1.0, clip_norm: Rate = 10.0) -> Slots:
    r"""Behind a barrier, the larger a worker's pseudo-gradient of an array, the less it counts; outliers do not.

    With the norms :math:`G_m` of an array's pseudo-gradients :math:`g_m`:

    .. math::
      g = \sum_m \mathrm{softmax}_m(-G_m / T) \, g_m, \quad g \leftarrow g \min(1, \phi / |g|), \quad
      \theta \leftarrow \mathrm{Nesterov}(\theta, g)

    An outlier is more than three deviations above its worker's exponential mean, `aggregation` has the numbers. This is
    the official code's variant for replicas: array by array, one clip of all, outliers unseen by the detector. Its
    first steps with all gradients averaged are not here: `pretrain` is plain training.

    Args:
      learning_rate: of the outer optimizer; the code's example.
      momentum: of the outer optimizer; the code's example.
      temperature: T; the code's.
      clip_norm: :math:`\phi`; the code's example.
    """
    return _edit(learning_rate, momentum, temperature, clip_norm)


def a_edit(
    seconds: Seconds = 600.0,
    learning_rate: Rate = 0.7,
    momentum: Momentum = 0.8,
    temperature: Rate = 1.0,
    clip_norm: Rate = 10.0,
) -> Slots:
    r"""EDiT by the clock: a worker offers after as many steps as take a time, so that the fast do more.

    .. math::
      H_m = \lceil T / s_m \rceil

    for a step of :math:`s_m` seconds; the rest is EDiT's.

    Args:
      seconds: :math:`T`; the code's.
      learning_rate: of the outer optimizer; the code's example.
      momentum: of the outer optimizer; the code's example.
      temperature: of the weights; the code's.
      clip_norm: the most that the norm of the aggregate is; the code's example.
    """
    return _edit(learning_rate, momentum, temperature, clip_norm) | {"schedule": {"seconds": seconds}}


def _edit(learning_rate: float, momentum: float, temperature: float, clip_norm: float) -> Slots:
    aggregation = {"kind": "edit", "temperature": temperature, "clip_norm": clip_norm}
    return diloco(learning_rate, momentum) | {"aggregation": aggregation}
