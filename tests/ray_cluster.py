"""Simulates points on a Ray cluster of two nodes, one of which is killed in the middle, and tells what came of it.

A script, because Ray's own threads and warnings are none of the tests'.
"""

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

from simulator import OnRay, load, run_points
from simulator.sweep.executors.attempt import Ledger
from simulator.sweep.executors.messages import Advanced

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
QUICK = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500, "health_check_failure_threshold": 4}


class Told:
    """Notes what ledgers are told.

    Attributes:
      lost: labels of the points that are tried again.
      resumed: how many server updates they had when they went on.
    """

    def __init__(self) -> None:
        self.lost: list[str] = []
        self.resumed: dict[str, int] = {}
        lost, hear = Ledger.lost, Ledger.hear

        def hearing(ledger: Ledger, message: Any, record_of: Any) -> Any:
            if ledger.task.attempt and isinstance(message, Advanced):
                label = next(run.label for run in ledger.task.runs if run.index == message.index)
                self.resumed.setdefault(label, message.progress.server_updates)
            return hear(ledger, message, record_of)

        def noting(ledger: Ledger, why: str, retries: int) -> Any:
            failure, again = lost(ledger, why, retries)
            self.lost += [] if again is None else [run.label for run in again.runs if run.index not in again.known]
            return failure, again

        Ledger.lost, Ledger.hear = noting, hearing  # type: ignore[method-assign]


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
