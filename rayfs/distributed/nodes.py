"""Wait for nodes that have still to join: an autoscaler that starts from none, machines that are slow to come up."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rayfs.distributed.session import Resources, cluster_resources

EMPTY_S = 600.0
"""How long a cluster without any CPU and GPU may take to get the first ones, where nothing else is said."""

REPORT_S = 30.0
POLL_S = 1.0

PLACED_S = 30
"""How long a placement group may take to get its place on nodes that are there; other jobs may hold it."""

DATA_CPUS = 2.0
"""What Ray Data needs to make the base bank: on a single CPU it never starts an actor."""


def gpus_of_worker(resources: Resources, gpus: float | None) -> float:
    """Return the GPUs of a worker: as asked for, else one where the cluster has any."""
    if gpus is not None:
        return gpus
    return 1.0 if resources.gpus >= 1 else 0.0


def wait_for_nodes(workers: int | None, cpus: int, gpus: float | None, limit_s: float | None) -> Resources:
    """Return the resources of the connected cluster once workers and base bank fit, at the latest after `limit_s`.

    Says every half a minute what it waits for. What is missing is a pending placement group meanwhile, which is what
    autoscalers start nodes for; it ends with this process.

    Arguments:
        workers: None: one is enough to start with, and the pool grows.
        limit_s: None: `EMPTY_S` if the cluster has no CPU and no GPU at all, else 0.
    """
    resources = cluster_resources()
    if limit_s is None:
        limit_s = 0.0 if resources.cpus or resources.gpus else EMPTY_S
    n_wanted = workers or 1

    def enough(there: Resources) -> bool:
        return there.cpus >= DATA_CPUS and there.n_fitting(cpus, gpus_of_worker(there, gpus)) >= n_wanted

    if limit_s == 0 or enough(resources):
        return resources
    started = time.monotonic()
    reported = started - REPORT_S
    with _demand(n_wanted, cpus, gpus or 0.0):
        while not enough(resources) and (waited := time.monotonic() - started) < limit_s:
            if time.monotonic() - reported >= REPORT_S:
                reported = time.monotonic()
                print(
                    f"waiting for nodes: {n_wanted} workers with {cpus} CPUs and {gpus or 0:g} GPUs each, and "
                    f"{DATA_CPUS:g} CPUs in all; the cluster has {resources.cpus:g} CPUs and {resources.gpus:g} GPUs "
                    f"on {len(resources.nodes)} nodes ({waited:.0f} of {limit_s:.0f} s, --wait-for-nodes)",
                    flush=True,
                )
            time.sleep(POLL_S)
            resources = cluster_resources()
    return resources


@contextmanager
def _demand(workers: int, cpus: int, gpus: float) -> Iterator[None]:
    """Ask for room for `workers`, and for the base bank, inside the block."""
    from ray.util import placement_group, remove_placement_group

    bundles = [{"CPU": float(cpus), **({"GPU": gpus} if gpus else {})} for _ in range(workers)]
    if (lacking := DATA_CPUS - workers * cpus) > 0:
        bundles.append({"CPU": lacking})
    asked = placement_group(bundles)
    try:
        yield
        # One that is removed while it takes its place on a node keeps the CPUs there for ever (seen with Ray 2.60).
        asked.wait(timeout_seconds=PLACED_S)
    finally:
        remove_placement_group(asked)
