"""A user's folder, a cluster of four nodes reached by its address, and a node that dies. Run by test_ray_cluster.py.

python node_loss.py ROOT      (in a folder with user_module.py; kinetune is not installed)
"""

from __future__ import annotations

import importlib
import os
import sys

import ray
from ray.cluster_utils import Cluster

STORE = 100 * 2**20


def main() -> None:
    from cluster.runtime.connect import connect
    from cluster.runtime.on_ray import RayRuntime
    from cluster.runtime.protocol import Role
    from cluster.settings import ClusterSettings

    maker = importlib.import_module("user_module").Maker
    head = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": STORE}
    nodes = Cluster(initialize_head=True, head_node_args=head)
    workers = [nodes.add_node(num_cpus=4, object_store_memory=STORE) for _ in range(3)]
    with connect(ClusterSettings(ray_address=str(nodes.address))) as connection:
        assert not connection.started and connection.resources["CPU"] == 13
        runtime = RayRuntime("STRICT_SPREAD")
        runtime.start([Role("maker", maker, num_cpus=3), Role("reader", maker, num_cpus=0.5)])
        made = runtime.submit("maker", "make", num_outputs=2)
        where = runtime.result(made.outputs[1])
        nodes.remove_node(next(node for node in workers if node.node_id == where), allow_graceful=True)
        # The array was on that node, and so was the actor that made it.
        read = runtime.submit("reader", "read", made.output)
        print("sum", runtime.result(read.output))
        assert made.stats is not None and runtime.result(made.outputs[1]) != where
        print("retries", runtime.counters.retries, "restarts", runtime.counters.restarts)
        runtime.close()
    assert not ray.is_initialized()
    nodes.shutdown()


if __name__ == "__main__":
    sys.path[:0] = [os.getcwd(), sys.argv[1]]
    main()
