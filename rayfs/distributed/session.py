"""Start a quiet local Ray, or join the cluster there is."""

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from rayfs.engine.process import ALLOCATOR_ENV
from rayfs.errors import InputError
from rayfs.interrupts import sigterm_as_interrupt

OBJECT_STORE_BYTES = 512 << 20
"""Of a local cluster: only Ray Data blocks pass through it, images and features are memory maps."""

LOCAL = "local"
"""Address of a Ray of this process alone."""

RAY_UNITS = 10_000
"""The parts of a GPU that Ray counts in."""

PROBE_S = 5.0
"""How long an address may take to answer; Ray itself would try for a quarter of an hour."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What the living nodes of the cluster have in all, busy or not: (CPUs, GPUs) of each."""

    nodes: tuple[tuple[float, float], ...]

    @property
    def cpus(self) -> float:
        """CPUs of all nodes."""
        return sum(cpus for cpus, _ in self.nodes)

    @property
    def gpus(self) -> float:
        """GPUs of all nodes."""
        return sum(gpus for _, gpus in self.nodes)

    def n_fitting(self, cpus: float, gpus: float) -> int:
        """Return how many workers with `cpus` and `gpus` each fit; none spans two nodes, no fraction two GPUs."""
        return sum(int(min(node_cpus / cpus, _gpu_places(node_gpus, gpus))) for node_cpus, node_gpus in self.nodes)


@dataclass(frozen=True, kw_only=True)
class RaySession:
    """A connection to Ray."""

    address: str
    """'local', or the host:port of the cluster that was joined."""

    @property
    def is_private(self) -> bool:
        """Whether it is a Ray of this process alone, which ends with it."""
        return self.address == LOCAL

    @property
    def resources(self) -> Resources:
        """What the cluster has now."""
        return cluster_resources()


@contextmanager
def ray_session() -> Iterator[RaySession]:
    """Connect to Ray as `connect` does, and turn SIGTERM into an exception inside the block.

    Ray's start installs a handler of its own, which would end the process before it has saved anything. The connection
    outlasts the block: it is that of the process, and what is left of the job uses it again.

    Raises:
        InputError: the cluster of $RAY_ADDRESS cannot be reached, or no Ray can be started.
        Terminated: on SIGTERM, also where Ray makes a plain KeyboardInterrupt of it.
    """
    with sigterm_as_interrupt() as take_over:
        address = connect()
        take_over()
        yield RaySession(address=address)


def connect() -> str:
    """Connect to Ray and return where: 'local', or the host:port of the cluster that was joined.

    Joins the cluster of $RAY_ADDRESS (set inside a Ray job), else one that `ray start` runs on this machine, else
    starts a private local one that ends with this process; RAY_ADDRESS=local always starts a private one.

    Raises:
        InputError: the cluster of $RAY_ADDRESS cannot be reached.
    """
    address = _address()
    defaults = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # workers run at nice 15 otherwise, and starve beside any other process
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_DEDUP_LOGS": "1",
        **ALLOCATOR_ENV,
    }
    if address == LOCAL:
        defaults["RAY_AUTH_MODE"] = "disabled"  # a private cluster on loopback; else Ray writes ~/.ray/auth_token
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    import ray  # reads the environment at import

    if not ray.is_initialized():
        _start(ray, address)
    return address


def cluster_resources() -> Resources:
    """Return the resources of the connected cluster."""
    import ray

    living = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return Resources(nodes=tuple((node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in living))


def refuse_lost_outputs(outputs: Mapping[str, str | Path | None]) -> None:
    """Refuse relative outputs inside a submitted Ray job, whose working directory is a temporary copy.

    Arguments:
        outputs: flag -> its value.
    """
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
        return
    for flag, value in outputs.items():
        if value is not None and "://" not in str(value) and not Path(value).is_absolute():
            raise InputError(
                f"{flag} is '{value}', but a submitted job runs in a temporary copy of the working directory, which is "
                "removed; give an absolute path on storage that the head node keeps, or a URI"
            )


def _address() -> str:
    """Return 'local' or the host:port of a cluster that answers."""
    given = os.environ.get("RAY_ADDRESS", "")
    if given == LOCAL:
        return given
    if given not in ("", "auto"):
        if "://" in given or not _answers(given):
            raise InputError(
                f"RAY_ADDRESS is '{given}' but no Ray cluster answers there; expected host:port of the head (port "
                "6379, not the dashboard's 8265), or unset it to run on this machine"
            )
        return given
    started = _address_file()
    if started.exists() and _answers(running := started.read_text().strip()):
        return running
    if given == "auto":
        raise InputError(
            "RAY_ADDRESS is 'auto' but no cluster of `ray start` runs on this machine; start one or unset it"
        )
    return LOCAL


def _address_file() -> Path:
    """Return where `ray start` leaves its address; a cluster that crashed leaves it, too."""
    return Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp") / "ray" / "ray_current_cluster"


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=PROBE_S).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True


def _start(ray: ModuleType, address: str) -> None:
    quiet = {"logging_level": logging.WARNING, "log_to_driver": False}
    if address == LOCAL:
        # One CPU per core that this process may use; Ray itself would count those of the whole machine. On a single one
        # Ray Data never starts an actor, so that the base bank would wait for ever: there, two share the core.
        n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        n_cpus = max(2, n_cores)
        settings = {"num_cpus": n_cpus, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES, **quiet}
        try:
            ray.init(address=LOCAL, **settings)
        except Exception as error:  # Ray has no class of its own for it
            if "timed out during startup" not in str(error):
                raise
            raise InputError(
                "Ray did not start in its time: this machine is too busy; run the command again when it is less so"
            ) from error
        return
    try:
        ray.init(address=address, runtime_env={"env_vars": ALLOCATOR_ENV}, **quiet)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"cannot join the Ray cluster at {address}: {reason}; check that it runs the same Ray and Python and, if "
            "it asks for a token, that RAY_AUTH_MODE=token is set; RAY_ADDRESS=local runs without it"
        ) from None


def _gpu_places(node_gpus: float, gpus: float) -> float:
    if gpus == 0:
        return float("inf")
    if gpus >= 1:
        return node_gpus // gpus
    return node_gpus * (RAY_UNITS // max(1, round(RAY_UNITS * gpus)))
