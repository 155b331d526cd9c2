"""Run a Ray Data pipeline in a task of its own, quietly, with one progress line and one clear error."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

from rayfs.engine.progress import WorkProgress
from rayfs.errors import InputError

MAX_CAUSES = 8

NO_PROGRESS_S = 300
"""Seconds without progress after which Ray Data gives up instead of waiting for ever."""


def run_data_task(build: Callable[..., Iterator[int]], arguments: tuple[Any, ...], progress: WorkProgress) -> None:
    """Run `build(*arguments)` in a task on this node, whose log takes Ray Data's chatter; show how far it is.

    Arguments:
        build: yields how many units of work each step did.

    Raises:
        InputError: the one that the task failed for, if it did.
        ray.exceptions.RayError: the task failed for another reason.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    task = ray.remote(build).options(num_cpus=0, num_returns="streaming", max_retries=0, scheduling_strategy=here)
    try:
        for n_done in task.remote(*arguments):
            progress.add(ray.get(n_done))
    except ray.exceptions.RayError as error:
        from ray.data.exceptions import ExecutionTimeoutError  # ray.data takes seconds to import

        if isinstance(task_cause(error), ExecutionTimeoutError):
            raise InputError(
                f"{progress.line()}: nothing came for {NO_PROGRESS_S} s; the machine is too busy, or other jobs hold "
                "the CPUs of the cluster (`ray status` shows them); run the command again when it is less so"
            ) from None
        raise task_cause(error) from None
    print(progress.line(), flush=True)


BLOCK_BYTES = 16 << 20
"""About as large Ray Data makes blocks: many fit Ray's object store. Four of its default of 128 MB fill that of a local
cluster, so that whatever comes next is written to the disk and read again."""


def set_up_ray_data(block_bytes: int = BLOCK_BYTES) -> None:
    """Set up Ray Data in this process: no bars, no reports, no endless waiting, blocks of about `block_bytes`."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it reports every execution at length
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = block_bytes
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = NO_PROGRESS_S


def task_cause(error: Exception) -> Exception:
    """Return the InputError that a Ray error was raised for, so that the user reads its one message; else the error.

    Ray's own error is an instance of the cause's class, too, with a traceback for a message: the innermost counts.
    """
    found: Exception = error
    inner: BaseException | None = error
    for _ in range(MAX_CAUSES):
        inner = getattr(inner, "cause", None) or getattr(inner, "__cause__", None)
        if isinstance(inner, InputError):
            found = inner
    return found
