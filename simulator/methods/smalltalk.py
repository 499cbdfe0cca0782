"""SMALLTALK LM, 2024 (arXiv 2410.03529): experts that never meet, and routers that say which of them is asked."""

from simulator.experiment.methods import Count, Slots


def smalltalk(prefix: Count | None = None, assignments: Count = 40, steps: Count = 5) -> Slots:
    r"""Small routers divide the windows of a text; each worker is the expert of a part, and trains by itself.

    With the loss :math:`\ell_r(w)` of router r on the first tokens of a window w:

    .. math::
      e(w) = \arg\min_r \ell_r(w)

    Before the clock starts, windows are divided and routers trained on their own by turns. Windows choose in the order
    of their lowest losses, each the router with the lowest one that has room, so that parts are equal; the last routers
    divide all windows of training. In an evaluation every window goes to its expert e(w), and parts are as they come.

    Routers take no simulated time and send nothing on the clock; the paper counts about 100 exchanges of less than 6 MB
    a node. Its routers have 4.4 million parameters, its experts 335 million; `data.partition` has the sizes here, which
    are ours, and so is that routers train on first tokens alone, with Adam, and that workers begin with the same
    parameters.

    Args:
      prefix: first tokens, the paper's are 256; a quarter of the context when absent, ours.
      assignments: how often windows are divided and routers trained on them; ours.
      steps: of each router between two assignments; ours.
    """
    return {
        "data": {"partition": {"kind": "routed", "prefix": prefix, "assignments": assignments, "steps": steps}},
        "synchronization": {"kind": "barrier"},
        "shard_choice": {"kind": "fixed"},
        "topology": {"kind": "nobody"},
        "outer": {"optimizer": "sgd", "learning_rate": 1.0, "weight": 1.0},
        "evaluate": {"of": "experts"},
    }
