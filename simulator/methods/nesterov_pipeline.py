"""Nesterov for asynchronous pipelines, Ajanthan et al., 2025 (arXiv 2505.01099): stages that never wait."""

from typing import Any, Literal

from simulator.experiment.methods import Count, Momentum, Slots


def nesterov_pipeline(
    stages: Count = 8,
    passes_per_update: Count = 1,
    optimizer: Literal["nadamw", "sgd"] = "nadamw",
    momentum: Momentum = 0.99,
    correction_steps: Count | None = None,
    adaptive_momentum: Momentum | None = None,
) -> Slots:
    r"""Each worker is a pipeline; stage i's gradient is :math:`\tau_i` updates late, and a large momentum looks ahead.

    With stages i from 1 to P, K backward passes of an update, and :math:`\bar w_t = w_{t - \tau_i}`:

    .. math::
      \tau_i = \lfloor \tfrac{2 (P - i) + 1}{2 K} \rfloor, \quad d_t = \gamma (w_t - w_{t-1}), \quad
      w_{t+1} = w_t + d_t - \eta (1 - \gamma) \nabla f(\bar w_t + \bar d_t)

    Of sgd this is the rule, at the point :math:`w + d`, with :math:`\eta (1 - \gamma)` as inner.learning_rate. The
    paper trains with NAdam, whose :math:`\beta_1` is :math:`\gamma`: optax's has it constant, the code's grows to it
    (momentum_decay 0.004). The code has a rate of 3e-4, decay of 0.01 and clips at 10, which are the file's to give,
    and fills the pipeline anew every 1,000 updates, as inner.state: reset does every H; kept, it is filled once.
    Workers meet by plain averaging, which one alone does not notice; outer makes that DiLoCo of pipelines. Times of the
    stages are cluster.pipeline's; inner.stages.kind: gpipe is what the paper compares with. All of an update's passes
    are as late as the formula has it, although with K above 1 some would be one more. A tied embedding is in stage 1.

    Args:
      stages: P; the code's script.
      passes_per_update: K; the code's script.
      optimizer: of each stage; the code's script has NAdamW.
      momentum: :math:`\gamma`; the code's script.
      correction_steps: updates T until which a stage's rate is divided by :math:`\tau_i^{1 - t / T}`; off, as in the
        code, which has 7 epochs of 1,000 when it is on.
      adaptive_momentum: :math:`\gamma'`, for :math:`\gamma_i = \gamma + (\gamma' - \gamma) (P - i) / P`; off, as in
        the code, which has 0.99, above a momentum of 0.9, when it is on.
    """
    arguments: dict[str, Any] = {"b1": momentum} if optimizer == "nadamw" else {"momentum": momentum, "nesterov": True}
    options = {"correction_steps": correction_steps, "adaptive_momentum": adaptive_momentum}
    given = {name: value for name, value in options.items() if value is not None}
    pipeline = {"kind": "asynchronous", "count": stages, "passes_per_update": passes_per_update, **given}
    return {
        "inner": {"optimizer": optimizer, "arguments": arguments, "stages": pipeline},
        "synchronization": {"kind": "barrier"},
        "outer": {"optimizer": "sgd", "learning_rate": 1.0, "weight": 1.0},
    }
