"""A Ray cluster of two nodes of one CPU each, for `test_cluster.py`; run as a process.

Prints the cluster's address. A line `remove` kills the second node, `add` starts another; both are
answered by `done`. Ends, and all that it started, when its input does.
"""

import sys

from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
second = cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)  # noqa: T201
for line in sys.stdin:
    if line == "remove\n":
        cluster.remove_node(second, allow_graceful=False)
    else:
        second = cluster.add_node(num_cpus=1)
    print("done", flush=True)  # noqa: T201
cluster.shutdown()
