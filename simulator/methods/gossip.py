"""Gossip averaging of local training on a graph, in the form of local SGD with neighbors' means."""

from typing import Literal

from simulator.experiment.methods import Slots


def gossip(edges: Literal["ring", "complete"] = "ring") -> Slots:
    r"""After H local steps a worker takes the mean of its neighbors' parameters and its own.

    .. math::
      \theta_m \leftarrow \frac{1}{|N_m|} \sum_{n \in N_m} \theta_n

    A round waits for the neighbors' of the same round. Weights alike are the standard construction, and ours.

    Args:
      edges: the graph; `topology.edges` lists the pairs of any other.
    """
    return {
        "synchronization": {"kind": "barrier"},
        "topology": {"kind": "graph", "edges": edges},
        "offer": {"weights": True},
        "outer": {"optimizer": "noloco", "learning_rate": 1.0, "momentum": 0.0, "weight": 1.0},
    }
