"""A Ray cluster faked on this machine, and the settings of clusters that tests run on."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# All of it on the loopback address; read as Ray is imported, here and in what it starts.
os.environ |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}


@contextmanager
def ray_cluster(*gpus: int) -> Iterator[Any]:
    """A node for each number, with as many fake GPUs and two CPUs; the first is the head."""
    from ray.cluster_utils import Cluster

    soon = {"health_check_period_ms": 1000, "health_check_timeout_ms": 4000}  # that a node is dead
    head = {"num_cpus": 2, "num_gpus": gpus[0], "_system_config": soon}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for count in gpus[1:]:
            cluster.add_node(num_cpus=2, num_gpus=count, wait=False)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()
