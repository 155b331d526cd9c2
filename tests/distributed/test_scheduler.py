"""Which worker does what, as tables: what has happened, and what is to be done then. No Ray, no clock, no process."""

import numpy as np
import pytest

from rayfs.datasets.episodes import Episode
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
from rayfs.distributed.scheduler import MAX_ATTEMPTS, Scheduler
from rayfs.errors import InputError
from rayfs.randomness import RawStream
from rayfs.runs.rows import Row

METHODS = {"lr": "hash of lr", "slow": "hash of slow"}


def items(n: int, *methods: str) -> list[WorkItem]:
    array = np.zeros((2, 1), dtype=np.int64)
    episodes = [Episode(index=i, class_ids=array[:, 0], support_ids=array, query_ids=array) for i in range(n)]
    return [WorkItem(episode=episode, methods=methods or ("lr",)) for episode in episodes]


def ok(episode: int, method: str = "lr", attempt: int = 1, seconds: float = 1.0) -> Row:
    return Row(
        episode=episode, method=method, status="ok", accuracy=1.0, predictions=[0], labels=[0], episode_hash="e",
        config_hash="c", attempt=attempt, seconds=seconds,
    )  # fmt: skip


def failed(episode: int, method: str = "lr", attempt: int = 1) -> Row:
    return Row(
        episode=episode, method=method, status="failed", episode_hash="e", config_hash="c", attempt=attempt,
        error="CUDA error",
    )  # fmt: skip


def gone(worker: int, said: str = "socket closed") -> WorkerDied:
    return WorkerDied(worker=worker, said=said)


def waits_for_room(worker: int) -> WorkerDied:
    return WorkerDied(worker=worker, said="The actor is restarting..", restarting=True)


def came_back(worker: int, *rows: Row) -> EpisodeFinished:
    return EpisodeFinished(worker, list(rows))


def text(command: Command) -> str:
    """Return a command in the words of the tables below."""
    match command:
        case StartWorker(worker):
            return f"start {worker}"
        case PrepareWorker(worker):
            return f"prepare {worker}"
        case RunItem(worker, item):
            return f"{worker} runs episode {item.episode.index}: {' '.join(item.methods)}, attempt {item.attempt}"
        case KillWorker(worker):
            return f"kill {worker}"
        case DeliverRows(rows, episode_done):
            said = [f"{row.episode} {row.method} {row.status} {row.attempt}" for row in rows]
            return f"rows [{', '.join(said)}]{'' if episode_done else ' and more'}"
        case Say(line):
            return f"say {line}"
        case SayWaiting(n_workers):
            return f"say that none of {n_workers} is ready"
        case AskCapacity():
            return "ask for the capacity"
        case GiveUp(error):
            return f"give up: {type(error).__name__}: {error}"


class Pool:
    """A scheduler, with time that passes only where a table says so."""

    def __init__(self, n_workers: int, todo: list[WorkItem], **settings) -> None:
        self.scheduler = Scheduler(n_workers, METHODS, **{"retry_load": True} | settings)
        self.started = [text(command) for command in self.scheduler.start(0.0)]
        self.scheduler.add(todo)

    def turn(self, now: float, *events: Event) -> list[str]:
        commands = [*self.scheduler.handle(now, events), *self.scheduler.assign(now)]
        return [text(command) for command in commands]

    def ready(self, n: int) -> list[str]:
        """Let the first `n` workers load the world."""
        return self.turn(0.0, *map(WorkerReady, range(n)))


DIED = "the worker died: socket closed; if its node ran out of memory, lower --workers or --base-batch"
LATE = "episode {} took longer than {} s, so its worker was killed; --episode-timeout allows more"
WORKER_0_OF_1_READY = (0, [WorkerReady(0)], ["0 runs episode 0: lr, attempt 1"])

TABLES = {
    "a worker gets work when it has loaded the world, then the next": (
        (2, items(3), {}),
        [
            (0, [], []),
            (1, [WorkerReady(1)], ["1 runs episode 0: lr, attempt 1"]),
            (2, [WorkerReady(0)], ["0 runs episode 1: lr, attempt 1"]),
            (3, [came_back(1, ok(0))], ["rows [0 lr ok 1]", "1 runs episode 2: lr, attempt 1"]),
            (4, [came_back(0, ok(1)), came_back(1, ok(2))], ["rows [1 lr ok 1]", "rows [2 lr ok 1]"]),
        ],
    ),
    "idle neighbours of a dead worker may be dead, too: they are prepared before anything else": (
        (4, items(1), {}),
        [
            (0, [*map(WorkerReady, range(4))], ["3 runs episode 0: lr, attempt 1"]),
            (
                1, [gone(3)],
                [f"say episode 0, attempt 1 of 3: {DIED}", "prepare 2", "prepare 1", "prepare 0", "rows [] and more"],
            ),
            (1.1, [gone(1), gone(2)], []),
            (1.15, [WorkerReady(0)], ["0 runs episode 0: lr, attempt 2"]),
            (1.2, [came_back(0, ok(0, attempt=2))], ["rows [0 lr ok 2]", "prepare 3"]),
            (1.5, [], ["prepare 1", "prepare 2"]),
        ],
    ),
    "an episode that kills its worker each time is given up": (
        (1, items(1), {}),
        [
            WORKER_0_OF_1_READY,
            (1, [gone(0)], [f"say episode 0, attempt 1 of 3: {DIED}", "rows [] and more"]),
            (1.2, [], ["prepare 0"]),
            (2, [WorkerReady(0)], ["0 runs episode 0: lr, attempt 2"]),
            (3, [gone(0)], [f"say episode 0, attempt 2 of 3: {DIED}", "rows [] and more"]),
            (3.2, [], ["prepare 0"]),
            (4, [WorkerReady(0)], ["0 runs episode 0: lr, attempt 3"]),
            (5, [gone(0)], [f"say episode 0, attempt 3 of 3: {DIED}", "rows [0 lr failed 3]"]),
        ],
    ),
    "what is tried again comes after all others": (
        (1, items(2), {}),
        [
            WORKER_0_OF_1_READY,
            (1, [gone(0)], [f"say episode 0, attempt 1 of 3: {DIED}", "rows [] and more"]),
            (2, [], ["prepare 0"]),
            (3, [WorkerReady(0)], ["0 runs episode 1: lr, attempt 1"]),
            (4, [came_back(0, ok(1))], ["rows [1 lr ok 1]", "0 runs episode 0: lr, attempt 2"]),
        ],
    ),
    "only the method that failed is tried again, by a worker that has looked at its GPU": (
        (1, items(2, "lr", "slow"), {}),
        [
            (0, [WorkerReady(0)], ["0 runs episode 0: lr slow, attempt 1"]),
            (1, [came_back(0, ok(0), failed(0, "slow"))], ["prepare 0", "rows [0 lr ok 1] and more"]),
            (2, [WorkerReady(0)], ["0 runs episode 1: lr slow, attempt 1"]),
            (
                3, [came_back(0, ok(1), ok(1, "slow"))],
                ["rows [1 lr ok 1, 1 slow ok 1]", "0 runs episode 0: slow, attempt 2"],
            ),
            (4, [came_back(0, failed(0, "slow", 2))], ["prepare 0", "rows [] and more"]),
            (5, [WorkerReady(0)], ["0 runs episode 0: slow, attempt 3"]),
            (6, [came_back(0, failed(0, "slow", 3))], ["prepare 0", "rows [0 slow failed 3]"]),
        ],
    ),
    "a worker that lost what it had loaded is prepared again": (
        (1, items(2), {}),
        [
            WORKER_0_OF_1_READY,
            (1, [EpisodeRaised(0, "prepare the worker first")], ["prepare 0", "rows [] and more"]),
            (2, [WorkerReady(0)], ["0 runs episode 1: lr, attempt 1"]),
            (3, [came_back(0, ok(1))], ["rows [1 lr ok 1]", "0 runs episode 0: lr, attempt 2"]),
        ],
    ),
    "the pauses before a worker without a place is looked at again grow to ten seconds": (
        (1, items(1), {}),
        [
            (0.0, [waits_for_room(0)], []),
            (0.3, [], []),
            (0.4, [], ["prepare 0"]),
            (0.5, [waits_for_room(0)], []),
            (1.2, [], []),
            (1.3, [], ["prepare 0"]),
            (2.0, [waits_for_room(0)], []),
            (3.5, [], []),
            (3.6, [], ["prepare 0"]),
            (4.0, [waits_for_room(0)], []),
            (7.2, [], ["prepare 0"]),
            (8.0, [waits_for_room(0)], []),
            (14.4, [], ["prepare 0"]),
            (15.0, [waits_for_room(0)], []),
            (24.9, [], []),
            (25.0, [], ["prepare 0"]),
            (26.0, [WorkerReady(0)], ["0 runs episode 0: lr, attempt 1"]),
            (27.0, [gone(0)], [f"say episode 0, attempt 1 of 3: {DIED}", "rows [] and more"]),
            (27.2, [], ["prepare 0"]),
        ],
    ),
    "one that will never be restarted gets a successor with another number": (
        (1, items(1), {}),
        [
            (0.0, [WorkerDied(worker=0, said="died", for_good=True)], []),
            (0.4, [], ["start 1", "prepare 1"]),
            (1.0, [WorkerReady(1)], ["1 runs episode 0: lr, attempt 1"]),
            (
                2.0, [WorkerDied(worker=1, said="socket closed. ", for_good=True)],
                [f"say episode 0, attempt 1 of 3: {DIED}", "rows [] and more"],
            ),
            (2.2, [], ["start 2", "prepare 2"]),
            (3.0, [WorkerDied(worker=2, said="died", for_good=True)], []),
            (3.3, [], []),
            (3.4, [], ["start 3", "prepare 3"]),
            (4.0, [WorkerDied(worker=3, said="died", for_good=True)], []),
            (4.7, [], []),
            (4.8, [], ["start 4", "prepare 4"]),
        ],
    ),
    "what Ray's memory monitor says counts more than what Ray says": (
        (1, items(1), {}),
        [
            WORKER_0_OF_1_READY,
            (
                1, [WorkerDied(worker=0, said="The actor was restarted", memory="95% of 8 GB")],
                [
                    "say episode 0, attempt 1 of 3: the worker was killed by Ray's memory monitor: 95% of 8 GB; lower "
                    "--workers or --base-batch", "rows [] and more",
                ],
            ),
        ],
    ),
    "the pool grows with the cluster, but not beyond its episodes": (
        (1, items(4), {"grows": True}),
        [
            WORKER_0_OF_1_READY,
            (9.9, [], []),
            (10, [], ["ask for the capacity"]),
            (11, [Capacity(1)], []),
            (19.9, [], []),
            (20, [], ["ask for the capacity"]),
            (20, [Capacity(3)], ["say nodes joined: 3 workers", "start 1", "prepare 1", "start 2", "prepare 2"]),
            (30, [], ["ask for the capacity"]),
            (30, [Capacity(9)], ["say nodes joined: 4 workers", "start 3", "prepare 3"]),
            (31, [*map(WorkerReady, (1, 2, 3))], [
                "3 runs episode 1: lr, attempt 1", "2 runs episode 2: lr, attempt 1", "1 runs episode 3: lr, attempt 1",
            ]),
            (40, [], ["ask for the capacity"]),
            (40, [Capacity(9)], []),
        ],
    ),
    "no worker is made for an episode that an idle one will take": (
        (1, items(2), {"grows": True}),
        [
            WORKER_0_OF_1_READY,
            (1, [came_back(0, ok(0)), Capacity(9)], ["rows [0 lr ok 1]", "0 runs episode 1: lr, attempt 1"]),
        ],
    ),
    "a pool whose size was given does not ask": (
        (1, items(1), {}),
        [(100, [WorkerReady(0)], ["0 runs episode 0: lr, attempt 1"])],
    ),
    "half a minute without a worker is said, again and again": (
        (2, items(1), {}),
        [
            (29, [], []),
            (30, [], ["say that none of 2 is ready"]),
            (59, [], []),
            (60, [], ["say that none of 2 is ready"]),
            (70, [WorkerReady(0)], ["0 runs episode 0: lr, attempt 1"]),
            (
                130, [gone(0)],
                [f"say episode 0, attempt 1 of 3: {DIED}", "rows [] and more", "say that none of 2 is ready"],
            ),
        ],
    ),
    "a worker that has work, or waits for some, is ready": (
        (1, items(1), {}),
        [
            (10, [WorkerReady(0)], ["0 runs episode 0: lr, attempt 1"]),
            (100, [], []),
            (101, [gone(0)], [f"say episode 0, attempt 1 of 3: {DIED}", "rows [] and more"]),
            (102, [], ["prepare 0"]),
            (129, [], []),
            (130, [], ["say that none of 1 is ready"]),
        ],
    ),
    "an episode that takes too long costs its worker, once": (
        (2, items(2), {"timeout_s": 50.0}),
        [
            (0, [WorkerReady(0)], ["0 runs episode 0: lr, attempt 1"]),
            (10, [WorkerReady(1)], ["1 runs episode 1: lr, attempt 1"]),
            (50, [], []),
            (51, [], ["kill 0"]),
            (55, [], []),
            (56, [gone(0)], [f"say episode 0, attempt 1 of 3: {LATE.format(0, 50)}", "rows [] and more"]),
            (57, [came_back(1, ok(1))], ["rows [1 lr ok 1]", "prepare 0", "1 runs episode 0: lr, attempt 2"]),
        ],
    ),
    "one that comes back while its worker is killed counts, and the worker loads the world again": (
        (1, items(2), {"timeout_s": 50.0}),
        [
            WORKER_0_OF_1_READY,
            (51, [], ["kill 0"]),
            (52, [came_back(0, ok(0))], ["prepare 0", "rows [0 lr ok 1]"]),
            (53, [WorkerReady(0)], ["0 runs episode 1: lr, attempt 1"]),
            (103, [came_back(0, ok(1))], ["rows [1 lr ok 1]"]),
        ],
    ),
    "running episodes are looked at once a second": (
        (1, items(1), {"timeout_s": 50.0}),
        [WORKER_0_OF_1_READY, (49.9, [], []), (50.8, [], []), (50.9, [], ["kill 0"])],
    ),
    "a GPU worker that could not load is killed and loads in a new process": (
        (1, items(1), {}),
        [
            (
                0.0, [LoadFailed(worker=0, error=RuntimeError("traceback"), reason="RuntimeError: busy\nmore")],
                ["say a worker cannot load, and is tried again: RuntimeError: busy", "kill 0"],
            ),
            (0.3, [], []),
            (0.4, [], ["prepare 0"]),
            (1.0, [WorkerReady(0)], ["0 runs episode 0: lr, attempt 1"]),
        ],
    ),
    "on a CPU, code that raises while it loads would raise again": (
        (2, items(1), {"retry_load": False}),
        [(0, [LoadFailed(worker=0, error=RuntimeError("again"), reason="x")], ["give up: RuntimeError: again"])],
    ),
    "wrong input that a worker finds ends the run at once": (
        (2, items(1), {}),
        [
            (
                0, [LoadFailed(worker=0, error=InputError("no features on this machine"), reason="x")],
                ["give up: InputError: no features on this machine"],
            ),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_what_happens_decides_what_is_done(name: str) -> None:
    (n_workers, todo, settings), table = TABLES[name]
    pool = Pool(n_workers, todo, **settings)
    assert pool.started == [f"{what} {worker}" for worker in range(n_workers) for what in ("start", "prepare")]
    for now, events, expected in table:
        assert pool.turn(now, *events) == expected, f"at {now} s"


GAVE_UP = (
    "give up: InputError: workers died {} times while loading backbone and base images, the last with: {}; if memory "
    "ran out, lower --workers"
)


def deaths_while_loading(pool: Pool, n: int, since: float, event: Event) -> list[str]:
    """Let worker 0 die `n` times while it loads; return what was said to give up."""
    said: list[str] = []
    for i in range(n):
        now = since + 20 * i
        said += [*pool.turn(now, event), *pool.turn(now + 10)]
    return [line for line in said if line.startswith("give up")]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (gone(0, "out of memory"), "out of memory"),
        (LoadFailed(worker=0, error=RuntimeError("traceback"), reason="RuntimeError: busy"), "RuntimeError: busy"),
    ],
    ids=["died", "raised on a GPU"],
)
@pytest.mark.parametrize("n_workers", [1, 2])
def test_workers_that_die_again_and_again_while_loading_end_the_run(event, reason, n_workers) -> None:
    pool, most = Pool(n_workers, items(1)), MAX_ATTEMPTS * n_workers
    assert deaths_while_loading(pool, most, 1.0, event) == []
    assert deaths_while_loading(pool, 1, 1000.0, event) == [GAVE_UP.format(most + 1, reason)]


def test_a_worker_that_loads_after_all_starts_the_count_of_deaths_anew() -> None:
    pool = Pool(1, items(9))
    assert deaths_while_loading(pool, MAX_ATTEMPTS, 1.0, gone(0)) == []
    pool.turn(200, WorkerReady(0))
    pool.turn(201, gone(0))
    pool.turn(210)
    assert deaths_while_loading(pool, MAX_ATTEMPTS, 300.0, gone(0)) == []
    assert deaths_while_loading(pool, 1, 1000.0, gone(0)) == [GAVE_UP.format(MAX_ATTEMPTS + 1, "socket closed")]


def test_a_worker_that_waits_for_room_never_ends_the_run() -> None:
    pool = Pool(1, items(1))
    assert deaths_while_loading(pool, 50, 1.0, waits_for_room(0)) == []
    assert pool.turn(2000, WorkerReady(0)) == ["0 runs episode 0: lr, attempt 1"]


def test_deaths_while_loading_do_not_end_a_run_that_goes_on_elsewhere() -> None:
    pool = Pool(2, items(5))
    assert pool.turn(0, WorkerReady(1)) == ["1 runs episode 0: lr, attempt 1"]
    assert deaths_while_loading(pool, 20, 1.0, gone(0)) == []
    waiting = Pool(2, [])
    waiting.turn(0, WorkerReady(1))
    assert deaths_while_loading(waiting, 20, 1.0, gone(0)) == [], "one that waits for work could do it"


@pytest.mark.parametrize(
    ("took", "methods", "limit_s"),
    [
        ([], ("lr",), None),
        ([ok(0, seconds=0.1)], ("lr",), 600),
        ([ok(0, seconds=0.1)], ("lr", "slow"), None),
        ([ok(0, seconds=50), ok(0, "slow", seconds=90)], ("lr", "slow"), 20 * 140),
        ([ok(0, seconds=50), ok(0, "slow", seconds=90)], ("slow",), 20 * 90),
        ([failed(0), ok(0, "slow", seconds=90)], ("lr",), None),
    ],
    ids=[
        "a method that never came back", "at least ten minutes", "one of two never came back", "both together",
        "its own alone", "a failure says nothing",
    ],
)  # fmt: skip
def test_an_episode_may_take_twenty_times_the_longest_of_its_methods(took, methods, limit_s) -> None:
    pool = Pool(2, [*items(1, *METHODS), items(2, *methods)[1]])
    pool.turn(0.0, WorkerReady(0))
    pool.turn(0.0, *([came_back(0, *took)] if took else []), WorkerReady(1))
    assert "kill 1" not in pool.turn(limit_s or 1e9)
    assert ("kill 1" in pool.turn((limit_s or 2e9) + 1)) == (limit_s is not None)


def test_the_limit_follows_the_longest_time_not_the_last() -> None:
    pool = Pool(1, items(3))
    pool.ready(1)
    pool.turn(1, came_back(0, ok(0, seconds=50)))
    pool.turn(2, came_back(0, ok(1, seconds=40)))
    assert pool.turn(2 + 20 * 50) == []
    assert pool.turn(2 + 20 * 50 + 1) == ["kill 0"]


def test_a_pool_is_busy_until_its_last_episode_is_settled_and_may_get_more() -> None:
    pool = Pool(2, items(1))
    assert (pool.scheduler.busy, pool.scheduler.n_ready) == (True, 0)
    pool.ready(2)
    assert (pool.scheduler.busy, pool.scheduler.n_ready) == (True, 2)
    pool.turn(1, came_back(1, failed(0)))
    assert (pool.scheduler.busy, pool.scheduler.n_ready) == (True, 1)
    pool.turn(2, came_back(0, ok(0, attempt=2)))
    assert (pool.scheduler.busy, pool.scheduler.n_ready) == (False, 1)
    pool.scheduler.add(items(1))
    assert pool.turn(3) == ["0 runs episode 0: lr, attempt 1"]


class Chance:
    """Workers that load, solve, fail, raise and die as drawn; asserts that each is only asked what it can do."""

    def __init__(self, seed: int) -> None:
        self._draw = RawStream(f"chance {seed}").below
        self.doing: dict[int, WorkItem | None] = {}
        """Worker -> its episode; None: it loads the world."""
        self.loaded: set[int] = set()

    def do(self, command: Command) -> None:
        match command:
            case PrepareWorker(worker):
                assert worker not in self.doing
                self.doing[worker] = None
            case RunItem(worker, item):
                assert worker not in self.doing and worker in self.loaded
                self.doing[worker] = item

    def happens(self) -> list[Event]:
        """End what some of the workers do, one way or another."""
        ended = [worker for worker in self.doing if self._draw(3) == 0]
        return [self._end(worker, self.doing.pop(worker)) for worker in ended]

    def _end(self, worker: int, item: WorkItem | None) -> Event:
        fate = self._draw(10)
        if fate == 0:
            self.loaded.discard(worker)
            return WorkerDied(worker=worker, said="gone", for_good=self._draw(2) == 0, restarting=item is None)
        if item is None:
            self.loaded.add(worker)
            return WorkerReady(worker)
        if fate == 1:
            return EpisodeRaised(worker, "raised")
        rows = [
            failed(item.episode.index, name, item.attempt) if self._draw(8) == 0
            else ok(item.episode.index, name, item.attempt) for name in item.methods
        ]  # fmt: skip
        return came_back(worker, *rows)


@pytest.mark.parametrize("seed", range(20))
def test_every_episode_and_method_is_settled_once_whatever_dies(seed: int) -> None:
    world, scheduler = Chance(seed), Scheduler(4, METHODS, retry_load=True)
    scheduler.add(items(40, *METHODS))
    settled: list[Row] = []
    done: list[int] = []
    commands = scheduler.start(0.0)
    for now in range(10_000):
        for command in [*commands, *scheduler.assign(now)]:
            world.do(command)
        commands = scheduler.handle(now, world.happens())
        for command in commands:
            if isinstance(command, DeliverRows):
                settled += command.rows
                done += [command.episode_done]
        if not scheduler.busy:
            break
    assert sorted((row.episode, row.method) for row in settled) == [(i, m) for i in range(40) for m in sorted(METHODS)]
    assert sum(done) == 40, "each is done once"
    assert all(row.attempt == MAX_ATTEMPTS for row in settled if row.status == "failed")
    assert {row.attempt for row in settled if row.status == "ok"} >= {1, 2}
