"""Which worker does what: events in, commands out.

Knows no Ray and no clock and never waits: `rayfs.distributed.pool` tells it what has happened and does what it says.
Times are monotonic seconds, given with every step.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

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
    WorkItem,
)
from rayfs.errors import InputError
from rayfs.runs.rows import Row

MAX_ATTEMPTS = 3
"""An episode that fails this often is quarantined: reported as failed, never averaged away."""

HUNG, HUNG_LEAST_S = 20, 600.0
"""An episode is taken for hung after so many times the seconds of the longest that came back, and at least so many."""

HUNG_LOOK_S = 1.0
"""How often the running episodes are looked at."""

GROW_S = 10.0
"""How often the cluster is asked for new nodes."""

RESTART_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0
"""Between two looks at a worker that is restarted: at first, then twice as long each time, up to the longest."""

REPORT_WAITING_S = 30.0
"""How often it is said that no worker is ready."""


@dataclass(frozen=True, kw_only=True)
class _Running:
    """An episode that a worker is at."""

    item: WorkItem
    since: float
    overdue: str = ""
    """Why its worker was killed."""


@dataclass(frozen=True, kw_only=True)
class _Later:
    """A worker that is prepared at `due`; None: a new one, as the former will never be restarted."""

    worker: int | None
    n_failed: int
    due: float


class Scheduler:
    """Hands out episodes, counts attempts, looks after workers that die, hang or cannot load.

    A worker gets work only after it has loaded the world, because a call to one that waits for room to restart hangs.

    Arguments:
        n_workers: that `start` makes.
        config_hashes: method -> hash of its configuration, for rows of what failed outside the methods.
        retry_load: a worker whose code raised while loading is killed and tried again (its GPU may get free); else that
            ends the run. Wrong input always does.
        timeout_s: an episode that takes longer is taken from its worker, which is killed, and counts as a failed
            attempt; None: `HUNG` times the longest that its methods took so far, at least `HUNG_LEAST_S`.
        grows: ask for the capacity every `GROW_S`, so that nodes which join are used.
    """

    def __init__(
        self, n_workers: int, config_hashes: Mapping[str, str], *, retry_load: bool, timeout_s: float | None = None,
        grows: bool = False,
    ) -> None:  # fmt: skip
        self._n_workers, self._n_made = n_workers, 0
        self._config_hashes, self._retry_load = config_hashes, retry_load
        self._timeout_s, self._grows = timeout_s, grows
        self._todo: deque[WorkItem] = deque()
        self._idle: list[int] = []
        self._preparing: dict[int, int] = {}
        """Worker -> how often in a row it could not be prepared."""
        self._later: list[_Later] = []
        self._running: dict[int, _Running] = {}
        self._longest_s: dict[str, float] = {}
        self._n_died_loading = 0
        self._waiting_since = self._asked_capacity = self._looked_for_hung = 0.0
        self._commands: list[Command] = []

    @property
    def busy(self) -> bool:
        """Whether episodes are waiting or running."""
        return bool(self._todo or self._running)

    @property
    def n_ready(self) -> int:
        """Workers that have loaded the world."""
        return len(self._idle) + len(self._running)

    def start(self, now: float) -> list[Command]:
        """Return what makes the first workers."""
        self._waiting_since = self._asked_capacity = self._looked_for_hung = now
        for _ in range(self._n_workers):
            self._start_worker()
        return self._take_commands()

    def add(self, items: Iterable[WorkItem]) -> None:
        """Take in episodes to be solved."""
        self._todo.extend(items)

    def assign(self, now: float) -> list[Command]:
        """Return what makes workers load the world, where it is time to, and those that have it solve episodes."""
        self._prepare_due(now)
        while self._idle and self._todo:
            worker, item = self._idle.pop(), self._todo.popleft()
            self._running[worker] = _Running(item=item, since=now)
            self._commands.append(RunItem(worker, item))
        return self._take_commands()

    def handle(self, now: float, events: Iterable[Event] = ()) -> list[Command]:
        """Return what has to be done, in this order, after `events`: all that has happened by `now`."""
        for event in events:
            self._handle(event, now)
        if now - self._looked_for_hung >= HUNG_LOOK_S:
            self._looked_for_hung = now
            self._kill_overdue(now)
        if self._grows and now - self._asked_capacity >= GROW_S:
            self._asked_capacity = now
            self._commands.append(AskCapacity())
        self._report_waiting(now)
        return self._take_commands()

    def _take_commands(self) -> list[Command]:
        commands, self._commands = self._commands, []
        return commands

    def _handle(self, event: Event, now: float) -> None:
        match event:
            case WorkerReady(worker):
                del self._preparing[worker]
                self._n_died_loading = 0
                self._idle.append(worker)
            case LoadFailed():
                self._load_failed(event, now)
            case WorkerDied() if event.worker in self._preparing:
                n_failed = self._preparing.pop(event.worker) + 1
                self._count_death(event.said, counts=not event.restarting)
                self._prepare_later(None if event.for_good else event.worker, n_failed, now)
            case WorkerDied():
                self._died_with_episode(event, now)
            case EpisodeFinished(worker, rows):
                self._finished(worker, rows)
            case EpisodeRaised(worker, reason):
                running = self._running.pop(worker)
                self._prepare(worker)  # perhaps it was restarted since, and has nothing loaded
                self._settle(running.item, self._failed_rows(running.item, reason))
            case Capacity(n_workers):
                self._grow(n_workers)

    def _load_failed(self, event: LoadFailed, now: float) -> None:
        n_failed = self._preparing.pop(event.worker) + 1
        if isinstance(event.error, InputError) or not self._retry_load:
            self._commands.append(GiveUp(event.error))
            return
        self._say(f"a worker cannot load, and is tried again: {event.reason.splitlines()[0]}")
        self._commands.append(KillWorker(event.worker))  # its GPU may get free
        self._count_death(event.reason, counts=True)
        self._prepare_later(event.worker, n_failed, now)

    def _count_death(self, reason: str, *, counts: bool) -> None:
        """Count a death while loading; give up where they are many and nothing else goes on."""
        self._n_died_loading += counts
        hopeless = self._n_died_loading > MAX_ATTEMPTS * self._n_workers
        if hopeless and not self._idle and not self._running:
            self._commands.append(
                GiveUp(
                    InputError(
                        f"workers died {self._n_died_loading} times while loading backbone and base images, the last "
                        f"with: {reason}; if memory ran out, lower --workers"
                    )
                )
            )

    def _died_with_episode(self, event: WorkerDied, now: float) -> None:
        running = self._running.pop(event.worker)
        item, reason = running.item, running.overdue or _why_it_died(event)
        attempt = f"attempt {item.attempt} of {MAX_ATTEMPTS}"
        self._say(f"episode {item.episode.index}, {attempt}: {reason.splitlines()[0]}")
        self._prepare_later(None if event.for_good else event.worker, 0, now)
        while self._idle:  # a lost node takes them, too, and each would cost an episode one of its attempts
            self._prepare(self._idle.pop())
        self._settle(item, self._failed_rows(item, reason))

    def _finished(self, worker: int, rows: list[Row]) -> None:
        running = self._running.pop(worker)
        if running.overdue or any(row.status == "failed" for row in rows):  # killed as it came back; or its GPU is lost
            self._prepare(worker)
        else:
            self._idle.append(worker)
        for row in rows:
            if row.status == "ok":
                self._longest_s[row.method] = max(row.seconds, self._longest_s.get(row.method, 0.0))
        self._settle(running.item, rows)

    def _settle(self, item: WorkItem, rows: list[Row]) -> None:
        """Deliver what is final of an episode, and put what has to be tried again behind all others."""
        failed = tuple(row.method for row in rows if row.status == "failed")
        again = bool(failed) and item.attempt < MAX_ATTEMPTS
        final = [row for row in rows if not (again and row.status == "failed")]
        self._commands.append(DeliverRows(final, episode_done=not again))
        if again:
            self._todo.append(replace(item, methods=failed, attempt=item.attempt + 1))

    def _failed_rows(self, item: WorkItem, reason: str) -> list[Row]:
        return [
            Row(
                episode=item.episode.index, method=method, status="failed", attempt=item.attempt,
                episode_hash=item.episode.hash, config_hash=self._config_hashes[method], error=reason,
            )
            for method in item.methods
        ]  # fmt: skip

    def _start_worker(self, n_failed: int = 0) -> None:
        worker, self._n_made = self._n_made, self._n_made + 1
        self._commands.append(StartWorker(worker))
        self._prepare(worker, n_failed)

    def _prepare(self, worker: int, n_failed: int = 0) -> None:
        self._preparing[worker] = n_failed
        self._commands.append(PrepareWorker(worker))

    def _prepare_later(self, worker: int | None, n_failed: int, now: float) -> None:
        pause_s = min(RESTART_PAUSE_S * 2**n_failed, LONGEST_PAUSE_S)
        self._later.append(_Later(worker=worker, n_failed=n_failed, due=now + pause_s))

    def _prepare_due(self, now: float) -> None:
        """Look again at workers that are being restarted, and make those that will never be."""
        due = [each for each in self._later if each.due <= now]
        self._later = [each for each in self._later if each.due > now]
        for each in due:
            if each.worker is None:
                self._start_worker(each.n_failed)
            else:
                self._prepare(each.worker, each.n_failed)

    def _grow(self, n_fitting: int) -> None:
        """Make a worker for every waiting episode that the cluster has room for by now."""
        n_lacking = len(self._todo) - len(self._preparing) - len(self._idle)
        n_more = min(n_fitting - self._n_workers, n_lacking)
        if n_more > 0:
            self._n_workers += n_more
            self._say(f"nodes joined: {self._n_workers} workers")
            for _ in range(n_more):
                self._start_worker()

    def _kill_overdue(self, now: float) -> None:
        """Kill the workers of episodes that take too long; their calls then fail like those of any dead worker.

        Killed, not cancelled: Ray does not interrupt a running method of an actor.
        """
        for worker, running in list(self._running.items()):
            limit_s = self._limit_s(running.item)
            if now - running.since > limit_s and not running.overdue:
                overdue = (
                    f"episode {running.item.episode.index} took longer than {limit_s:.0f} s, so its worker was killed; "
                    "--episode-timeout allows more"
                )
                self._running[worker] = replace(running, overdue=overdue)
                self._commands.append(KillWorker(worker))

    def _limit_s(self, item: WorkItem) -> float:
        """Return the seconds that an episode may take; without end while one of its methods has never come back."""
        if self._timeout_s is not None:
            return self._timeout_s
        longest_s = [self._longest_s.get(method, float("inf")) for method in item.methods]
        return max(HUNG_LEAST_S, HUNG * sum(longest_s))

    def _report_waiting(self, now: float) -> None:
        if self._idle or self._running:
            self._waiting_since = now
        elif now - self._waiting_since >= REPORT_WAITING_S:
            self._waiting_since = now
            self._commands.append(SayWaiting(self._n_workers))

    def _say(self, line: str) -> None:
        self._commands.append(Say(line))


def _why_it_died(event: WorkerDied) -> str:
    if event.memory:
        return f"the worker was killed by Ray's memory monitor: {event.memory}; lower --workers or --base-batch"
    said = event.said.rstrip(". ")
    return f"the worker died: {said}; if its node ran out of memory, lower --workers or --base-batch"
