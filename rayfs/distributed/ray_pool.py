"""Workers as actors of Ray: does what the scheduler says and tells it what came of it."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rayfs.datasets.episodes import Episode
from rayfs.distributed.data_task import task_cause
from rayfs.distributed.deaths import memory_report
from rayfs.distributed.metrics import GpuMemory
from rayfs.distributed.pool_messages import (
    AskCapacity,
    Capacity,
    Command,
    DeliverRows,
    EpisodeFinished,
    EpisodeRaised,
    Event,
    GiveUp,
    KillWorker,
    LoadFailed,
    PrepareWorker,
    RunItem,
    Say,
    SayWaiting,
    StartWorker,
    WorkerDied,
    WorkerReady,
)
from rayfs.runs.rows import Row
from rayfs.workers.episode_worker import EpisodeWorker, WorkerSpec

WAIT_S = 1.0
"""Longest wait for something to happen."""

NOTHING_S = 0.2
"""Sleep where there is nothing to wait for: all workers are being restarted."""

RESTARTING = "The actor is restarting"
"""What Ray says of an actor that has no process yet: it waits for room, as after the loss of its node."""

OnRows = Callable[[list[Row], bool], None]
"""Called with final rows of one episode, and whether that was all of it (a method of it may be tried again)."""


class EpisodeActor:
    """A worker in a process of its own, which Ray's metrics tell what GPU memory it took."""

    def __init__(self, worker: type[EpisodeWorker], spec: WorkerSpec) -> None:
        # Nothing that can fail happens here: Ray never restarts an actor whose constructor raised.
        self._worker, self._gpu = worker(spec), spec.gpu
        self._gpu_memory: GpuMemory | None = None

    def prepare(self) -> str:
        """Load the world, if that has still to be done, and return where the worker runs."""
        where = self._worker.prepare()
        self._gpu_memory = self._gpu_memory or GpuMemory(self._gpu)
        return where

    def run(self, episode: Episode, methods: list[str], attempt: int) -> list[Row]:
        """Solve an episode."""
        rows = self._worker.run(episode, methods, attempt)
        if self._gpu_memory is not None:
            self._gpu_memory.report()
        return rows


@dataclass(frozen=True, kw_only=True)
class _Call:
    """A call that an actor has not answered yet."""

    worker: int
    is_episode: bool
    """Else: to load the world."""


class RayWorkers:
    """The actors by number, and their open calls.

    Arguments:
        ray: the module.
        new_actor: makes an `EpisodeActor` of a name.
        capacity: how many workers would fit the cluster now.
    """

    def __init__(self, ray: Any, new_actor: Callable[[str], Any], capacity: Callable[[], int] | None = None) -> None:
        self._ray, self._new_actor, self._capacity = ray, new_actor, capacity
        self._actors: dict[int, Any] = {}
        self._whereabouts: dict[int, str] = {}
        self._calls: dict[Any, _Call] = {}
        self._answers: list[Event] = []

    def do(self, commands: Sequence[Command], on_rows: OnRows) -> None:
        """Do what the scheduler says.

        Raises:
            InputError: the scheduler gives up.
        """
        for command in commands:
            match command:
                case DeliverRows(rows, episode_done):
                    on_rows(rows, episode_done)
                case GiveUp(error):
                    raise error from None
                case _:
                    self._do(command)

    def _do(self, command: Command) -> None:
        match command:
            case StartWorker(worker):  # its name is what the dashboard and `ray list actors` show
                self._actors[worker] = self._new_actor(f"episode-worker-{worker}")
            case PrepareWorker(worker):
                self._calls[self._actors[worker].prepare.remote()] = _Call(worker=worker, is_episode=False)
            case RunItem(worker, item):
                reference = self._actors[worker].run.remote(item.episode, list(item.methods), item.attempt)
                self._calls[reference] = _Call(worker=worker, is_episode=True)
            case KillWorker(worker):
                if not self._has_come_back(worker):
                    self._ray.kill(self._actors[worker], no_restart=False)
            case AskCapacity():
                assert self._capacity is not None, "only a pool that grows asks"
                self._answers.append(Capacity(self._capacity()))
            case SayWaiting(n_workers):
                here, all_ = self._ray.available_resources(), self._ray.cluster_resources()
                free, total = here.get("CPU", 0), all_.get("CPU", 0)
                say(f"0 of {n_workers} workers ready; {free:g} of the cluster's {total:g} CPUs are free")
            case Say(line):
                say(line)

    def wait(self) -> tuple[float, list[Event]]:
        """Wait until something happens, a second at most; return the time and all that has happened by then.

        All that are finished at once: one after the other they would cost as many looks at all of them, on 1,000
        workers most of the driver's time.
        """
        references = list(self._calls)
        if references:
            self._ray.wait(references, num_returns=1, timeout=WAIT_S)
        else:
            time.sleep(NOTHING_S)
        now = time.monotonic()  # before the look: what it finds unfinished has taken at least so long
        finished = self._ray.wait(references, num_returns=len(references), timeout=0)[0] if references else []
        events, self._answers = [*map(self._event, finished), *self._answers], []
        return now, events

    def close(self) -> None:
        """Kill the actors; episodes in flight are lost and will be redone by a resumed run."""
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._actors.clear()

    def _has_come_back(self, worker: int) -> bool:
        """Tell whether an open call of `worker` is finished and only waits to be fetched."""
        open_calls = [reference for reference, call in self._calls.items() if call.worker == worker]
        return bool(open_calls) and bool(self._ray.wait(open_calls, num_returns=1, timeout=0)[0])

    def _event(self, reference: Any) -> Event:
        """Return what a finished call says of its worker."""
        call = self._calls.pop(reference)
        try:
            answer = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:  # the worker's own code
            if call.is_episode:
                return EpisodeRaised(call.worker, str(error))
            reason = f"{type(error.cause).__name__}: {error.cause}"
            return LoadFailed(worker=call.worker, error=task_cause(error), reason=reason)
        except self._ray.exceptions.RayError as error:
            return self._death(call, error)
        if call.is_episode:
            return EpisodeFinished(call.worker, answer)
        self._whereabouts[call.worker] = answer
        return WorkerReady(call.worker)

    def _death(self, call: _Call, error: Exception) -> WorkerDied:
        for_good = isinstance(error, self._ray.exceptions.ActorDiedError)
        memory = memory_report(self._whereabouts.pop(call.worker, "")) if call.is_episode else ""
        if for_good:
            del self._actors[call.worker]
        return WorkerDied(
            worker=call.worker, said=str(error), memory=memory, for_good=for_good, restarting=RESTARTING in str(error)
        )


def say(text: str) -> None:
    """Print a line; on a terminal, below the progress line that stands there unfinished."""
    print(f"\n{text}" if sys.stdout.isatty() else text, flush=True)
