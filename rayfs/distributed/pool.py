"""Run episodes over a pool of actors: every episode once, whatever dies.

A hand-written `ray.wait` loop, because `ray.util.ActorPool` forgets which item a dead actor held. The driver alone
hands out work, counts attempts and passes rows on; an actor gets work only after its `prepare` has answered, because a
call to an actor that waits for room to restart hangs.
"""

import itertools
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from rayfs.datasets.episodes import Episode
from rayfs.distributed.data_task import task_cause
from rayfs.distributed.deaths import memory_report
from rayfs.errors import InputError
from rayfs.hashing import stable_hash
from rayfs.runs.rows import Row
from rayfs.workers.episode_worker import EpisodeWorker, WorkerSpec

MAX_ATTEMPTS = 3
"""An episode that fails this often is quarantined: reported as failed, never averaged away."""

HUNG, HUNG_LEAST_S = 20, 600.0
"""An episode is taken for hung after so many times the seconds of the longest that came back, and at least so many."""

GROW_S = 10.0
"""How often the cluster is asked for new nodes."""

WAIT_S = 1.0

RESTART_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0
"""Between two looks at a worker that is restarted: at first, then twice as long each time, up to the longest."""

RESTARTING = "The actor is restarting"
"""What Ray says of an actor that has no process yet: it waits for room, as after the loss of its node."""
REPORT_WAITING_S = 30.0


@dataclass(frozen=True, kw_only=True)
class PoolSize:
    """How many workers, and what each of them holds."""

    workers: int
    cpus_per_worker: float
    gpus_per_worker: float


@dataclass(frozen=True, kw_only=True)
class WorkItem:
    """One episode and the methods that still have to solve it."""

    episode: Episode
    methods: tuple[str, ...]
    attempt: int = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Running:
    """An episode that an actor is at."""

    actor: Any
    item: WorkItem
    since: float
    """Monotonic seconds."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Preparing:
    """A worker that loads the world, or will be asked to."""

    actor: Any
    """None: one that is still to be made."""
    n_failed: int
    """How often in a row it could not."""
    due: float = 0.0
    """Monotonic seconds of the next attempt."""


OnRows = Callable[[list[Row], bool], None]
"""Called with final rows of one episode, and whether that was all of it (a method of it may be tried again)."""


class EpisodePool:
    """A pool of `EpisodeWorker` actors and the loop that feeds them.

    Arguments:
        capacity: how many workers would fit the cluster now; asked every `GROW_S`, so that nodes which join are used.
            None: the pool stays as large as it is.
        timeout_s: an episode that takes longer is taken from its worker, which is killed, and counts as a failed
            attempt; None: `HUNG` times the longest that its methods took so far, at least `HUNG_LEAST_S`.
        worker: the class of the actors; another one where the pool itself is measured.
    """

    def __init__(
        self, spec: WorkerSpec, size: PoolSize, timeout_s: float | None = None,
        capacity: Callable[[], int] | None = None, worker: type[EpisodeWorker] = EpisodeWorker,
    ) -> None:  # fmt: skip
        import ray

        self._ray, self._spec = ray, spec
        options = {
            "num_cpus": size.cpus_per_worker,
            "num_gpus": size.gpus_per_worker,
            "scheduling_strategy": "SPREAD",
            "max_restarts": -1,
            "max_task_retries": 0,
        }
        numbers = itertools.count()

        def new_actor() -> Any:
            name = f"episode-worker-{next(numbers)}"  # what the dashboard and `ray list actors` show
            return ray.remote(worker).options(name=name, **options).remote(spec)

        self._new_actor = new_actor
        self._timeout_s = timeout_s
        self._longest_s: dict[str, float] = {}
        self._capacity, self._asked_capacity = capacity, time.monotonic()
        self._idle: list = []
        self._preparing: dict[Any, Preparing] = {}
        self._later: list[Preparing] = []
        self._running: dict[Any, Running] = {}
        self._overdue: dict[Any, str] = {}
        self._whereabouts: dict[Any, str] = {}
        self._n_workers, self._n_died_preparing = size.workers, 0
        self._waiting_since = time.monotonic()
        for _ in range(size.workers):
            self._prepare(self._new_actor())

    def run(self, items: Iterable[WorkItem], on_rows: OnRows, on_tick: Callable[[], None]) -> None:
        """Solve all `items`; `on_rows` gets final rows as they come, `on_tick` is called at least every second.

        Prints why nothing happens while no worker is ready.

        Raises:
            InputError: a worker cannot be prepared (its node lacks the data), or workers die again and again while they
                load it.
        """
        todo, looked_for_hung = deque(items), time.monotonic()
        while todo or self._running:
            self._prepare_due()
            while self._idle and todo:
                actor, item = self._idle.pop(), todo.popleft()
                reference = actor.run.remote(item.episode, list(item.methods), item.attempt)
                self._running[reference] = Running(actor=actor, item=item, since=time.monotonic())
            waiting = [*self._running, *self._preparing]
            if not waiting:  # all workers are being restarted
                time.sleep(RESTART_PAUSE_S)
            for reference in self._finished(waiting) if waiting else []:
                if reference in self._preparing:
                    self._finish_preparing(reference)
                elif reference in self._running:
                    todo.extend(self._finish_episode(reference, on_rows))
            if time.monotonic() - looked_for_hung >= WAIT_S:
                looked_for_hung = time.monotonic()
                self._kill_overdue()
            self._grow(len(todo))
            self._report_waiting()
            on_tick()

    def _finished(self, references: list) -> list:
        """Wait for one of `references`, a second at most; return all that are finished by then.

        One after the other they would cost as many looks at all of them: on 1,000 workers most of the driver's time.
        """
        first = self._ray.wait(references, num_returns=1, timeout=WAIT_S)[0]
        return self._ray.wait(references, num_returns=len(references), timeout=0)[0] if first else []

    @property
    def n_ready(self) -> int:
        """Workers that have loaded the world."""
        return len(self._idle) + len(self._running)

    def close(self) -> None:
        """Kill the actors; episodes in flight are lost and will be redone by a resumed run."""
        running = [each.actor for each in self._running.values()]
        preparing = [each.actor for each in [*self._preparing.values(), *self._later] if each.actor is not None]
        for actor in [*self._idle, *running, *preparing]:
            self._ray.kill(actor)

    def _prepare(self, actor: Any, n_failed: int = 0) -> None:
        self._preparing[actor.prepare.remote()] = Preparing(actor=actor, n_failed=n_failed)

    def _prepare_due(self) -> None:
        """Look again at workers that are being restarted, and make those that will never be."""
        now, later = time.monotonic(), self._later
        self._later = [each for each in later if each.due > now]
        for each in later:
            if each.due <= now:
                self._prepare(self._new_actor() if each.actor is None else each.actor, each.n_failed)

    def _finish_preparing(self, reference) -> None:
        preparing = self._preparing.pop(reference)
        try:
            self._whereabouts[preparing.actor] = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            reason = str(error)
            if isinstance(error, self._ray.exceptions.RayTaskError):
                cause = task_cause(error)
                if isinstance(cause, InputError) or self._spec.gpus == 0:
                    raise cause from None
                reason = f"{type(error.cause).__name__}: {error.cause}"
                _say(f"a worker cannot load, and is tried again: {reason.splitlines()[0]}")
                self._ray.kill(preparing.actor, no_restart=False)  # its GPU may get free
            self._n_died_preparing += RESTARTING not in str(error)
            hopeless = self._n_died_preparing > MAX_ATTEMPTS * self._n_workers
            if hopeless and not self._idle and not self._running:
                raise InputError(
                    f"workers died {self._n_died_preparing} times while loading backbone and base images, the last "
                    f"with: {reason}; if memory ran out, lower --workers"
                ) from None
            self._replace(preparing.actor, error, preparing.n_failed + 1)
        else:
            self._n_died_preparing = 0
            self._idle.append(preparing.actor)

    def _finish_episode(self, reference, on_rows: OnRows) -> list[WorkItem]:
        """Pass on the rows of a finished episode; return what has to be tried again."""
        running = self._running.pop(reference)
        actor, item = running.actor, running.item
        overdue = self._overdue.pop(reference, None)
        try:
            rows = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:  # the worker's own code, outside the methods
            rows = self._failed_rows(item, str(error))
            self._prepare(actor)  # perhaps it was restarted since, and has nothing loaded
        except self._ray.exceptions.RayError as error:
            reason = overdue or self._why_it_died(actor, error)
            attempt = f"attempt {item.attempt} of {MAX_ATTEMPTS}"
            _say(f"episode {item.episode.index}, {attempt}: {reason.splitlines()[0]}")
            rows = self._failed_rows(item, reason)
            self._replace(actor, error)
            while self._idle:  # a lost node takes them, too, and each would cost an episode one of its attempts
                self._prepare(self._idle.pop())
        else:
            if overdue or any(row.status == "failed" for row in rows):  # killed as it came back; or its GPU is lost
                self._prepare(actor)
            else:
                self._idle.append(actor)
            for row in rows:
                if row.status == "ok":
                    self._longest_s[row.method] = max(row.seconds, self._longest_s.get(row.method, 0.0))
        failed = tuple(row.method for row in rows if row.status == "failed")
        again = bool(failed) and item.attempt < MAX_ATTEMPTS
        on_rows([row for row in rows if not (again and row.status == "failed")], not again)
        return [replace(item, methods=failed, attempt=item.attempt + 1)] if again else []

    def _why_it_died(self, actor: Any, error: Exception) -> str:
        if report := memory_report(self._whereabouts.pop(actor, "")):
            return f"the worker was killed by Ray's memory monitor: {report}; lower --workers or --base-batch"
        said = str(error).rstrip(". ")
        return f"the worker died: {said}; if its node ran out of memory, lower --workers or --base-batch"

    def _replace(self, actor: Any, error: Exception, n_failed: int = 0) -> None:
        """Wait for a restarting actor behind a later `prepare`; one that will never restart gets a successor then."""
        pause_s = min(RESTART_PAUSE_S * 2**n_failed, LONGEST_PAUSE_S)
        died = isinstance(error, self._ray.exceptions.ActorDiedError)
        self._later.append(Preparing(actor=None if died else actor, n_failed=n_failed, due=time.monotonic() + pause_s))

    def _grow(self, n_waiting: int) -> None:
        """Make a worker for every waiting episode that the cluster has room for by now."""
        if self._capacity is None or time.monotonic() - self._asked_capacity < GROW_S:
            return
        self._asked_capacity = time.monotonic()
        n_more = min(self._capacity() - self._n_workers, n_waiting - len(self._preparing) - len(self._idle))
        if n_more > 0:
            self._n_workers += n_more
            _say(f"nodes joined: {self._n_workers} workers")
            for _ in range(n_more):
                self._prepare(self._new_actor())

    def _kill_overdue(self) -> None:
        """Kill the workers of episodes that take too long; their calls then fail like those of any dead worker.

        Killed, not cancelled: Ray does not interrupt a running method of an actor.
        """
        now = time.monotonic()
        for reference, running in self._running.items():
            limit_s = self._limit_s(running.item)
            if now - running.since <= limit_s or reference in self._overdue:
                continue
            if not self._ray.wait([reference], num_returns=1, timeout=0)[0]:  # else it only waits to be fetched
                self._overdue[reference] = (
                    f"episode {running.item.episode.index} took longer than {limit_s:.0f} s, so its worker was killed; "
                    "--episode-timeout allows more"
                )
                self._ray.kill(running.actor, no_restart=False)

    def _limit_s(self, item: WorkItem) -> float:
        """Return the seconds that an episode may take; without end while one of its methods has never come back."""
        if self._timeout_s is not None:
            return self._timeout_s
        longest_s = [self._longest_s.get(method, float("inf")) for method in item.methods]
        return max(HUNG_LEAST_S, HUNG * sum(longest_s))

    def _report_waiting(self) -> None:
        if self._idle or self._running:
            self._waiting_since = time.monotonic()
        elif time.monotonic() - self._waiting_since >= REPORT_WAITING_S:
            self._waiting_since = time.monotonic()
            free, total = (
                resources.get("CPU", 0)
                for resources in (self._ray.available_resources(), self._ray.cluster_resources())
            )
            _say(f"0 of {self._n_workers} workers ready; {free:g} of the cluster's {total:g} CPUs are free")

    def _failed_rows(self, item: WorkItem, reason: str) -> list[Row]:
        return [
            Row(
                episode=item.episode.index, method=method, status="failed", attempt=item.attempt,
                episode_hash=item.episode.hash, config_hash=stable_hash(self._spec.methods[method]), error=reason,
            )
            for method in item.methods
        ]  # fmt: skip


def _say(text: str) -> None:
    """Print a line; on a terminal, below the progress line that stands there unfinished."""
    print(f"\n{text}" if sys.stdout.isatty() else text, flush=True)
