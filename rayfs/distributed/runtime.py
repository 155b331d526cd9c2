"""Start a quiet local Ray, or join the cluster there is."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from rayfs.engine.process import ALLOCATOR_ENV
from rayfs.errors import InputError

OBJECT_STORE_BYTES = 512 << 20
"""Of a local cluster: only Ray Data blocks pass through it, images and features are memory maps."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What the cluster has in all."""

    cpus: float
    gpus: float
    nodes: int


def connect() -> ModuleType:
    """Return the `ray` module, connected.

    Joins the cluster of $RAY_ADDRESS (set inside a Ray job), else one that runs on this machine, else starts a private
    local one that ends with this process; RAY_ADDRESS=local always starts a private one.

    Raises:
        InputError: the cluster of $RAY_ADDRESS cannot be reached.
    """
    address = os.environ.get("RAY_ADDRESS") or ("auto" if _running_here() else "local")
    defaults = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # workers run at nice 15 otherwise, and starve beside any other process
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_DEDUP_LOGS": "1",
        **ALLOCATOR_ENV,
    }
    if address == "local":
        defaults["RAY_AUTH_MODE"] = "disabled"  # a private cluster on loopback; else Ray writes ~/.ray/auth_token
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    import ray  # reads the environment at import

    if not ray.is_initialized():
        _start(ray, address)
    return ray


def cluster_resources() -> Resources:
    """Return the CPUs, GPUs and living nodes of the connected cluster."""
    import ray

    total = ray.cluster_resources()
    nodes = sum(bool(node["Alive"]) for node in ray.nodes())
    return Resources(cpus=total.get("CPU", 0.0), gpus=total.get("GPU", 0.0), nodes=nodes)


def _start(ray: ModuleType, address: str) -> None:
    quiet = {"logging_level": logging.WARNING, "log_to_driver": False}
    if address == "local":
        # One CPU per core that this process may use; Ray itself would count those of the whole machine.
        n_cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        ray.init(
            address="local", num_cpus=n_cpus, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **quiet
        )
        return
    try:
        ray.init(address=address, runtime_env={"env_vars": ALLOCATOR_ENV}, **quiet)
    except ConnectionError as error:
        if "RAY_ADDRESS" in os.environ:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"RAY_ADDRESS is '{address}' but no Ray cluster answers there ({reason}); start it, or unset the "
                "variable to run on this machine"
            ) from None
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        _start(ray, "local")  # a cluster ran here once and left its address behind


def _running_here() -> bool:
    return (Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster").exists()
