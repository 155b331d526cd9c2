"""Run episodes over a pool of actors: every episode once, whatever dies.

A hand-written loop, because `ray.util.ActorPool` forgets which item a dead actor held. The driver alone hands out work,
counts attempts and passes rows on: `rayfs.distributed.scheduler` decides, `rayfs.distributed.ray_pool` talks to Ray.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from rayfs.distributed.pool_messages import WorkItem
from rayfs.distributed.ray_pool import EpisodeActor, OnRows, RayWorkers
from rayfs.distributed.scheduler import Scheduler
from rayfs.hashing import stable_hash
from rayfs.workers.episode_worker import EpisodeWorker, WorkerSpec


@dataclass(frozen=True, kw_only=True)
class PoolSize:
    """How many workers, and what each of them holds."""

    workers: int
    cpus_per_worker: float
    gpus_per_worker: float


class EpisodePool:
    """A pool of workers in processes of their own, and the loop that feeds them; Ray is connected.

    Arguments:
        capacity: how many workers would fit the cluster now; asked now and then, so that nodes which join are used.
            None: the pool stays as large as it is.
        timeout_s: seconds after which an episode is taken for hung; None: as `Scheduler` has it.
        worker: what the actors do; another class where the pool itself is measured.
    """

    def __init__(
        self, spec: WorkerSpec, size: PoolSize, timeout_s: float | None = None,
        capacity: Callable[[], int] | None = None, worker: type[EpisodeWorker] = EpisodeWorker,
    ) -> None:  # fmt: skip
        import ray

        options = {
            "num_cpus": size.cpus_per_worker,
            "num_gpus": size.gpus_per_worker,
            "scheduling_strategy": "SPREAD",
            "max_restarts": -1,
            "max_task_retries": 0,
        }

        def new_actor(name: str) -> Any:
            return ray.remote(EpisodeActor).options(name=name, **options).remote(worker, spec)

        self._workers = RayWorkers(ray, new_actor, capacity)
        self._scheduler = Scheduler(
            size.workers, {name: stable_hash(config) for name, config in spec.methods.items()}, retry_load=spec.gpu,
            timeout_s=timeout_s, grows=capacity is not None,
        )  # fmt: skip
        self._workers.do(self._scheduler.start(time.monotonic()), lambda rows, done: None)

    def run(self, items: Iterable[WorkItem], on_rows: OnRows, on_tick: Callable[[], None]) -> None:
        """Solve all `items`; `on_rows` gets final rows as they come, `on_tick` is called at least every second.

        Prints why nothing happens while no worker is ready.

        Raises:
            InputError: a worker cannot be prepared (its node lacks the data), or workers die again and again while they
                load it.
        """
        self._scheduler.add(items)
        while self._scheduler.busy:
            self._workers.do(self._scheduler.assign(time.monotonic()), on_rows)
            now, events = self._workers.wait()
            self._workers.do(self._scheduler.handle(now, events), on_rows)
            on_tick()

    @property
    def n_ready(self) -> int:
        """Workers that have loaded the world."""
        return self._scheduler.n_ready

    def close(self) -> None:
        """Kill the actors; episodes in flight are lost and will be redone by a resumed run."""
        self._workers.close()
