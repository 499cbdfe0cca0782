"""Times of a worker that is a pipeline of stages, in closed form: no micro-batch is an event."""

import math
from typing import NamedTuple

import numpy as np

from simulator.experiment.schema.pipeline import AsynchronousStages, GPipeStages, PipelineTimes, Stages

_FORWARD = 1 / 3
"""Share of a forward pass in a step: half the operations of a backward pass, as models count them."""


class PipelineCosts(NamedTuple):
    """Costs of pipelines, float64 of shape (workers,), in seconds.

    Attributes:
      step_s: of a local step, which is an update of all stages, in the long run.
      fill_s: that the first steps of an empty pipeline take longer.
    """

    step_s: np.ndarray
    fill_s: np.ndarray


def pipeline_costs(
    stages: Stages, times: PipelineTimes, device_step_s: np.ndarray, activations: float
) -> PipelineCosts:
    """Returns the costs of pipelines.

    With stage i's time s_i of a micro-batch's two passes, the time c of a message between neighbors, of which it
    occupies the link for u, and the message's way back:

      asynchronous: one micro-batch in every T = max(u, max over stages i <= j of (s_i + ... + s_j + 2 (j - i) c) /
        (j - i + 1)), for of stage i no more than P - i + 1 micro-batches are under way, by which its delay is what it
        is. Without links T is the slowest stage's time. From an empty pipeline all stages are through m micro-batches
        after (m + P - 1) T, or, where stages are unlike, before.
      gpipe: sum of s_i + 2 (P - 1) c + (n - 1) (max(f, u) + max(b, u)) for n micro-batches, with the slowest forward
        and backward passes f and b: (n + P - 1) / n times a stage's time of the batch where stages are alike.

    Args:
      stages: of every worker.
      times: of the stages and their links.
      device_step_s: seconds of a local step on one device, float64 of shape (workers,).
      activations: elements that a local step sends between neighboring stages; NaN where unknown.
    """
    count = stages.count
    shares = np.array(times.shares or (1.0,) * count)
    parts = stages.passes_per_update if isinstance(stages, AsynchronousStages) else stages.micro_batches
    stage_s = np.outer(device_step_s, shares / shares.sum()) / parts  # [workers, stages], of a micro-batch
    sent = activations / parts * times.bytes_per_element
    occupied_s = 0.0 if times.bandwidth == math.inf or count == 1 else sent / times.bandwidth
    message_s = times.latency + occupied_s
    if isinstance(stages, GPipeStages):
        slowest_s = stage_s.max(axis=1)
        passes_s = sum(np.maximum(part * slowest_s, occupied_s) for part in (_FORWARD, 1 - _FORWARD))
        step_s = stage_s.sum(axis=1) + 2 * (count - 1) * message_s + (parts - 1) * passes_s
        return PipelineCosts(step_s, np.zeros_like(step_s))
    period_s = _period_s(stage_s, message_s, occupied_s)
    return PipelineCosts(parts * period_s, (count - 1) * period_s)


def _period_s(stage_s: np.ndarray, message_s: float, occupied_s: float) -> np.ndarray:
    """Returns the time between micro-batches of an asynchronous pipeline, float64 of shape (workers,)."""
    until_s = np.pad(stage_s.cumsum(axis=1), ((0, 0), (1, 0)))
    period_s = np.full(len(stage_s), occupied_s)
    for length in range(1, stage_s.shape[1] + 1):
        longest_s = (until_s[:, length:] - until_s[:, :-length]).max(axis=1)
        period_s = np.maximum(period_s, (longest_s + 2 * (length - 1) * message_s) / length)
    return period_s
