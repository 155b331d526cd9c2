"""A trial in a process of Ray Tune: it reports after every block of episodes; and the ledger of what is done."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from rayfs.distributed.metrics import GpuMemory
from rayfs.workers.trial import Course, Done, ProcessWorker, run_blocks

_worker = ProcessWorker()
"""The one thing that a process keeps from trial to trial."""


class Ledger:
    """Which episodes of which trial are done, and how far former trials go. An actor, filled by the driver alone."""

    def __init__(self, done: dict[str, Done], limits: dict[str, int]) -> None:
        self._done, self._limits = done, limits

    def known(self, trial: str) -> tuple[Done, int | None]:
        """Return what is done of `trial`, and after how many episodes it ends; None: after all."""
        return self._done.get(trial, {}), self._limits.get(trial)

    def add(self, trial: str, done: Done) -> None:
        """Take in finished episodes, so that a trial whose process died goes on behind them."""
        self._done.setdefault(trial, {}).update(done)


def run_trial(settings: Mapping[str, Any], *, course: Course, ledger: Any) -> None:
    """Run the episodes of one trial that are not done yet; a Ray Tune trainable that reports `BlockReport`s."""
    import ray
    from ray import tune

    name, config = course.variants.of(settings)
    done, limit = ray.get(ledger.known.remote(name))
    for report in run_blocks(name, done, limit, course, lambda: _worker.ready(course.worker, {name: config})):
        _gpu_memory(course.worker.gpu).report()
        tune.report(dict(vars(report)))


@cache
def _gpu_memory(gpu: bool) -> GpuMemory:
    """Return what reports this process's GPU memory; one for all trials."""
    return GpuMemory(gpu)
