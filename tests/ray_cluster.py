"""Simulates points on a Ray cluster of two nodes, one of which is killed in the middle, and tells what came of it.

A script, because Ray's own threads and warnings are none of the tests'.
"""

import json
import sys
import threading
import time
from pathlib import Path

from ray.cluster_utils import Cluster

from simulator import OnRay, load, run_points
from simulator.progress.live import LiveView, RunView
from simulator.progress.observer import Progress

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
QUICK = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500, "health_check_failure_threshold": 4}


class Told:
    """Notes what is shown of points.

    Attributes:
      lost: labels of the points that are tried again.
      resumed: how many server updates they had when they went on.
    """

    def __init__(self) -> None:
        self.lost: list[str] = []
        self.resumed: dict[str, int] = {}
        labels: dict[RunView, str] = {}
        add, lose, advanced = LiveView.add_run, LiveView.lost, RunView.advanced

        def adding(view: LiveView, name: str, weight: float = 1.0) -> RunView:
            run = add(view, name, weight)
            labels[run] = name
            return run

        def losing(view: LiveView, run: RunView) -> None:
            self.lost.append(labels[run])
            lose(view, run)

        def advancing(run: RunView, progress: Progress) -> None:
            if labels[run] in self.lost:
                self.resumed.setdefault(labels[run], progress.server_updates)
            advanced(run, progress)

        LiveView.add_run, LiveView.lost, RunView.advanced = adding, losing, advancing  # type: ignore[method-assign]


def main(file: str, folder: Path) -> None:
    """Starts the cluster, simulates, and prints what happened as JSON."""
    points = load(file)
    cluster = Cluster(initialize_head=True, head_node_args=NODE | {"_system_config": QUICK})
    second = cluster.add_node(**{key: value for key, value in NODE.items() if key != "include_dashboard"})
    cluster.wait_for_nodes()
    told = Told()

    def kill() -> None:
        """Kills the second node once both nodes have brought a checkpoint."""
        while len({path.parents[2] for path in folder.glob("*/checkpoints/[0-9]*/manifest.json")}) < 2:
            time.sleep(0.05)
        cluster.remove_node(second, allow_graceful=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    run_points(points, folder, engine=OnRay(address=cluster.address))
    killer.join(1)
    facts = {"lost": told.lost, "resumed": told.resumed}
    cluster.shutdown()
    sys.stdout.write(json.dumps(facts))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
