"""Objects and functions in processes of Ray that are asked and answer: for measurements, which need no pool."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NewType

Pending = NewType("Pending", object)
"""An answer that is still to come."""


@dataclass(frozen=True)
class Process:
    """An object in a process of its own, which does one thing after another."""

    actor: Any

    def start(self, method: str, *arguments: Any) -> Pending:
        """Call a method and do not wait."""
        return Pending(getattr(self.actor, method).remote(*arguments))

    def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method and return its answer."""
        return answers([self.start(method, *arguments)])[0]


def answers(pending: Sequence[Pending]) -> list[Any]:
    """Wait for all answers, and return them in the order of the calls.

    Raises:
        ray.exceptions.RayError: a call raised, or its process died.
    """
    import ray

    return list(ray.get(list(pending)))


def ask_all(processes: Sequence[Process], method: str, *arguments: Any) -> list[Any]:
    """Call a method of all processes at once and return their answers."""
    return answers([process.start(method, *arguments) for process in processes])


@contextmanager
def processes_of(
    kind: type, arguments: Sequence[Any], *, n: int, cpus: float, gpus: float = 0,
    environment: Mapping[str, str] | None = None,
) -> Iterator[list[Process]]:  # fmt: skip
    """Make `n` objects, `kind(*arguments)`, in processes that end with the block; Ray is connected.

    Arguments:
        cpus, gpus: that each process holds; less than 1: a share of one.
        environment: variables that its processes have beside those of the cluster.
    """
    import ray

    settings = {"env_vars": dict(environment)} if environment else {}
    made = ray.remote(kind).options(num_cpus=cpus, num_gpus=gpus, runtime_env=settings)
    processes = [Process(made.remote(*arguments)) for _ in range(n)]
    try:
        yield processes
    finally:
        for process in processes:
            ray.kill(process.actor)


def call_elsewhere(function: Callable[..., Any], *arguments: Any, cpus: float, gpus: float = 0) -> Any:
    """Return `function(*arguments)`, called in a new process that holds so many CPUs and GPUs."""
    import ray

    return ray.get(ray.remote(function).options(num_cpus=cpus, num_gpus=gpus).remote(*arguments))
