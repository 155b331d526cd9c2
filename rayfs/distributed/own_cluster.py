"""A cluster of several raylets on this machine, which come and go as they are told: for measurements of faults."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rayfs.interrupts import sigterm_as_interrupt


@contextmanager
def own_cluster(n_nodes: int, head_cpus: int) -> Iterator[Any]:
    """Start a head and `n_nodes` more raylets that no other process on this machine would join; stop them after.

    Yields:
        Ray's own `Cluster`: its `address`, nodes, `add_node` and `remove_node`. This process does not connect to it.
    """
    with tempfile.TemporaryDirectory(
        prefix="soak-", dir="/tmp", ignore_cleanup_errors=True
    ) as folder:  # short: sockets
        os.environ.update(
            RAY_TMPDIR=folder, RAY_AUTH_MODE="disabled", RAY_worker_niceness="0", RAY_USAGE_STATS_ENABLED="0",
            RAY_raylet_start_wait_time_s="180",  # Ray's 30 are too few on a machine that does other things
        )  # fmt: skip
        from ray.cluster_utils import Cluster

        head = {"num_cpus": head_cpus, "include_dashboard": False, "dashboard_port": 0}  # 8265 may be another Ray's
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            with sigterm_as_interrupt():  # Ray's start installs a handler that would end the nodes behind our back
                for _ in range(n_nodes):
                    cluster.add_node(num_cpus=1)
                yield cluster
        finally:
            cluster.shutdown()
