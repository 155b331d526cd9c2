"""The port to Ray and the loop, against a stand-in for Ray whose actors answer as its documentation says.

No process is started; `tests/experiments/test_evaluate.py` and `tests/jobs/test_faults.py` kill real ones.
"""

import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray.exceptions

from rayfs.datasets.episodes import Episode
from rayfs.distributed import ray_pool
from rayfs.distributed.pool import EpisodePool, PoolSize
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
from rayfs.distributed.ray_pool import RESTARTING, EpisodeActor, RayWorkers
from rayfs.errors import InputError
from rayfs.runs.rows import Row
from rayfs.workers.episode_worker import EpisodeWorker

UNAVAILABLE = ray.exceptions.ActorUnavailableError("socket closed", b"0" * 16)
DEAD = ray.exceptions.ActorDiedError()
RESTARTED = ray.exceptions.ActorUnavailableError(f"IOError: {RESTARTING}..", b"0" * 16)


class StandInActor:
    """Answers every call at once with what `answer` says: a value, or an exception that getting it raises."""

    def __init__(self, name: str, answer: Callable[[str], object]) -> None:
        self.name, self._answer, self.references = name, answer, []
        self.prepare = SimpleNamespace(remote=lambda: self._call("prepare"))
        self.run = SimpleNamespace(remote=lambda *given: self._call("run", *given))

    def _call(self, method: str, *given: Any) -> "_Reference":
        answer = self._answer(method)
        if answer == "fine":
            answer = "node/1" if method == "prepare" else [row_of(given[0], given[2])]
        self.references.append(_Reference(answer))
        return self.references[-1]


class _Reference:
    def __init__(self, answer: object) -> None:
        self.answer, self.is_finished = answer, True


class StandInRay:
    """What the pool uses of Ray."""

    exceptions = ray.exceptions

    def __init__(self, answer: Callable[[str], object] = lambda method: "fine") -> None:
        self.answer, self.actors, self.asked, self.killed = answer, [], [], []
        self.looks: list[tuple[int, float]] = []

    def remote(self, what: type) -> Any:
        self.asked.append(what)
        return SimpleNamespace(options=lambda **settings: SimpleNamespace(remote=lambda *_: self.new(settings)))

    def new(self, settings: dict) -> StandInActor:
        self.asked.append(settings)
        self.actors.append(StandInActor(settings["name"], self.answer))
        return self.actors[-1]

    def wait(self, references: list, num_returns: int, timeout: float) -> tuple[list, list]:
        self.looks.append((num_returns, timeout))
        finished = [each for each in references if each.is_finished][:num_returns]
        return finished, [each for each in references if each not in finished]

    def get(self, reference: _Reference) -> object:
        if isinstance(reference.answer, Exception):
            raise reference.answer
        return reference.answer

    def kill(self, actor: StandInActor, no_restart: bool = True) -> None:
        self.killed.append((actor.name, no_restart))

    def available_resources(self) -> dict[str, float]:
        return {"CPU": 1.5}

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 16.0}


def row_of(episode: Episode, attempt: int) -> Row:
    return Row(
        episode=episode.index, method="lr", status="ok", accuracy=1.0, predictions=[0], labels=[0], episode_hash="e",
        config_hash="c", attempt=attempt,
    )  # fmt: skip


def items(n: int) -> list[WorkItem]:
    array = np.zeros((2, 1), dtype=np.int64)
    return [
        WorkItem(episode=Episode(index=i, class_ids=array[:, 0], support_ids=array, query_ids=array), methods=("lr",))
        for i in range(n)
    ]


def workers_of(fake: StandInRay, capacity: Callable[[], int] | None = None) -> RayWorkers:
    return RayWorkers(fake, lambda name: fake.new({"name": name}), capacity)


def do(workers: RayWorkers, *commands: Command) -> list[tuple[list[Row], bool]]:
    delivered: list[tuple[list[Row], bool]] = []
    workers.do(commands, lambda rows, done: delivered.append((rows, done)))
    return delivered


def raised(cause: Exception) -> ray.exceptions.RayTaskError:
    return ray.exceptions.RayTaskError("prepare", "the traceback", cause)


@pytest.mark.parametrize(
    ("asked", "answer", "event"),
    [
        (PrepareWorker(0), "node/1", WorkerReady(0)),
        (RunItem(0, items(1)[0]), ["rows"], EpisodeFinished(0, ["rows"])),
        (PrepareWorker(0), UNAVAILABLE, WorkerDied(worker=0, said=str(UNAVAILABLE))),
        (PrepareWorker(0), RESTARTED, WorkerDied(worker=0, said=str(RESTARTED), restarting=True)),
        (
            RunItem(0, items(1)[0]), DEAD,
            WorkerDied(worker=0, said=str(DEAD), for_good=True),
        ),
        (RunItem(0, items(1)[0]), UNAVAILABLE, WorkerDied(worker=0, said=str(UNAVAILABLE))),
        (RunItem(0, items(1)[0]), raised(ValueError("x")), EpisodeRaised(0, str(raised(ValueError("x"))))),
    ],
    ids=[
        "ready", "rows", "dead while it loads", "waiting for room", "dead for good", "dead with its episode",
        "raised outside the methods",
    ],
)  # fmt: skip
def test_each_answer_becomes_the_event_it_stands_for(asked: Command, answer: object, event: Event) -> None:
    fake = StandInRay(lambda method: answer)
    workers = workers_of(fake)
    do(workers, StartWorker(0), asked)
    assert workers.wait()[1] == [event]
    assert workers.wait()[1] == [], "it is told once"


def test_code_that_raises_while_it_loads_is_told_with_its_cause() -> None:
    busy, wrong = raised(RuntimeError("GPU busy")), raised(InputError("no features"))
    answers = iter([busy, wrong])
    workers = workers_of(StandInRay(lambda method: next(answers)))
    do(workers, StartWorker(0), PrepareWorker(0))
    assert workers.wait()[1] == [LoadFailed(worker=0, error=busy, reason="RuntimeError: GPU busy")]
    do(workers, PrepareWorker(0))
    (event,) = workers.wait()[1]
    assert isinstance(event, LoadFailed) and event.error is wrong.cause, "the user reads its one message"


def test_the_memory_monitor_is_asked_where_a_worker_that_had_an_episode_ran(monkeypatch) -> None:
    asked: list[str] = []

    def report(where: str) -> str:
        asked.append(where)
        return "95% of 8 GB"

    monkeypatch.setattr(ray_pool, "memory_report", report)
    answers = iter(["node/7", UNAVAILABLE, UNAVAILABLE])
    workers = workers_of(StandInRay(lambda method: next(answers)))
    do(workers, StartWorker(0), PrepareWorker(0))
    workers.wait()
    do(workers, RunItem(0, items(1)[0]))
    assert workers.wait()[1] == [WorkerDied(worker=0, said=str(UNAVAILABLE), memory="95% of 8 GB")]
    do(workers, PrepareWorker(0))
    assert workers.wait()[1] == [WorkerDied(worker=0, said=str(UNAVAILABLE))]
    assert asked == ["node/7"]


def test_a_call_that_is_not_finished_stays_open_and_its_worker_may_be_killed() -> None:
    fake = StandInRay()
    workers = workers_of(fake)
    do(workers, StartWorker(0), StartWorker(1), PrepareWorker(0), PrepareWorker(1))
    (late,) = fake.actors[0].references
    late.is_finished = False
    assert workers.wait()[1] == [WorkerReady(1)]
    do(workers, KillWorker(0), KillWorker(1))
    assert fake.killed == [("episode-worker-0", False), ("episode-worker-1", False)], "both are restarted"
    late.is_finished = True
    do(workers, KillWorker(0))
    assert len(fake.killed) == 2, "what has come back only waits to be fetched"
    assert workers.wait()[1] == [WorkerReady(0)]


def test_the_time_is_taken_before_the_look_at_what_is_finished(monkeypatch) -> None:
    """Else an episode that ended between the two would be taken for late."""
    fake, clock = StandInRay(), iter(range(100))
    workers = workers_of(fake)
    do(workers, StartWorker(0), PrepareWorker(0))
    order: list[str] = []
    monkeypatch.setattr(fake, "wait", lambda *given, **how: (order.append(f"look {how['timeout']:g}"), ([], []))[1])
    monkeypatch.setattr(ray_pool.time, "monotonic", lambda: (order.append("time"), next(clock))[1])
    assert workers.wait() == (0, [])
    assert order == ["look 1", "time", "look 0"]


def test_where_there_is_nothing_to_wait_for_the_driver_sleeps_a_little() -> None:
    fake = StandInRay()
    started = time.monotonic()
    assert workers_of(fake).wait()[1] == []
    assert time.monotonic() - started >= ray_pool.NOTHING_S and fake.looks == []


def test_rows_lines_and_the_capacity_go_where_they_belong(capsys) -> None:
    workers = workers_of(StandInRay(), capacity=lambda: 7)
    rows = [row_of(items(1)[0].episode, 1)]
    said = do(workers, Say("a line"), DeliverRows(rows, episode_done=False), SayWaiting(3), AskCapacity())
    assert said == [(rows, False)]
    assert capsys.readouterr().out == "a line\n0 of 3 workers ready; 1.5 of the cluster's 16 CPUs are free\n"
    assert workers.wait()[1] == [Capacity(7)] and workers.wait()[1] == []
    with pytest.raises(InputError, match=r"^enough$"):
        do(workers, GiveUp(InputError("enough")), DeliverRows(rows, episode_done=True))


def test_closing_kills_every_actor_that_is_left_for_good() -> None:
    answers = iter(["node/1", DEAD])
    fake = StandInRay(lambda method: next(answers))
    workers = workers_of(fake)
    do(workers, *(StartWorker(i) for i in range(3)), PrepareWorker(0), RunItem(1, items(1)[0]))
    workers.wait()
    workers.close()
    workers.close()
    assert fake.killed == [("episode-worker-0", True), ("episode-worker-2", True)]


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[EpisodePool, StandInRay]]:
    """Return what makes a pool on a stand-in for Ray."""

    def build(
        n_workers: int, answer: Callable[[str], object] = lambda method: "fine", *, gpu: bool = True, **settings: Any
    ) -> Any:  # fmt: skip
        fake = StandInRay(answer)
        monkeypatch.setitem(sys.modules, "ray", fake)
        spec: Any = SimpleNamespace(methods={"lr": 0}, gpu=gpu)
        size = PoolSize(workers=n_workers, cpus_per_worker=2, gpus_per_worker=0.5)
        return EpisodePool(spec, size, **settings), fake

    return build


def solved(made: EpisodePool, n: int, on_tick: Callable[[], None] = lambda: None) -> list[tuple[int, str, int]]:
    rows: list[Row] = []
    made.run(items(n), lambda new, done: rows.extend(new), on_tick)
    return sorted((row.episode, row.status, row.attempt) for row in rows)


def test_actors_are_named_spread_and_restarted_by_ray_but_their_calls_are_not(pool) -> None:
    _, fake = pool(2)
    assert fake.asked == [
        EpisodeActor,
        {
            "name": "episode-worker-0", "num_cpus": 2, "num_gpus": 0.5, "scheduling_strategy": "SPREAD",
            "max_restarts": -1, "max_task_retries": 0,
        },
        EpisodeActor,
        {**fake.asked[1], "name": "episode-worker-1"},
    ]  # fmt: skip


def test_what_finished_meanwhile_is_taken_at_once(pool) -> None:
    """One look at a time would be 16: 8 at workers that are prepared and 8 at episodes."""
    made, fake = pool(8)
    ticks: list[int] = []
    assert solved(made, 8, lambda: ticks.append(1)) == [(i, "ok", 1) for i in range(8)] and made.n_ready == 8
    assert fake.looks == [(1, 1.0), (8, 0)] * 2 and len(ticks) == 2


def test_a_dead_worker_costs_its_episode_one_attempt_and_another_goes_on(pool, capsys) -> None:
    deaths = iter([UNAVAILABLE])
    made, fake = pool(2, lambda method: next(deaths, "fine") if method == "run" else "fine")
    assert solved(made, 3) == [(0, "ok", 2), (1, "ok", 1), (2, "ok", 1)]
    assert capsys.readouterr().out.startswith("episode 0, attempt 1 of 3: the worker died: ")
    made.close()
    assert [name for name, _ in fake.killed] == ["episode-worker-0", "episode-worker-1"]


def test_workers_without_a_place_to_restart_neither_end_nor_delay_the_run(pool) -> None:
    """Their node is lost: Ray answers every call at once that they are restarting, while the others go on."""
    prepared = iter(["fine"])
    made, _ = pool(3, lambda method: next(prepared, RESTARTED) if method == "prepare" else "fine")
    started = time.monotonic()
    assert solved(made, 500) == [(i, "ok", 1) for i in range(500)]
    assert time.monotonic() - started < 5


def test_code_that_raises_while_it_loads_is_tried_again_on_a_gpu_alone(pool, capsys) -> None:
    error = raised(RuntimeError("GPU busy"))
    busy = iter([error])
    made, fake = pool(1, lambda method: next(busy, "fine"))
    assert solved(made, 1) == [(0, "ok", 1)] and fake.killed == [("episode-worker-0", False)]
    assert "cannot load, and is tried again: RuntimeError: GPU busy" in capsys.readouterr().out
    made, _ = pool(1, lambda method: error, gpu=False)
    with pytest.raises(ray.exceptions.RayTaskError, match="the traceback"):
        solved(made, 1)


def test_a_pool_that_may_grow_asks_how_many_workers_fit(pool, monkeypatch, capsys) -> None:
    monkeypatch.setattr("rayfs.distributed.scheduler.GROW_S", 0)
    made, fake = pool(1, capacity=lambda: 4)
    assert len(solved(made, 30)) == 30
    assert len(fake.actors) == 4 and "nodes joined: 4 workers" in capsys.readouterr().out


def test_a_limit_for_episodes_reaches_the_scheduler(pool, monkeypatch) -> None:
    made, fake = pool(1, timeout_s=0.0)
    monkeypatch.setattr("rayfs.distributed.scheduler.HUNG_LOOK_S", 0.0)
    finished = fake.wait
    looked: list[float] = []

    def slowly(references: list, num_returns: int, timeout: float) -> tuple[list, list]:
        """Find the episode unfinished until its worker was killed."""
        looked.append(timeout)
        assert len(looked) < 50, "its worker should be killed long since"
        return finished(references, num_returns, timeout) if fake.killed or len(looked) <= 2 else ([], references)

    monkeypatch.setattr(fake, "wait", slowly)
    assert solved(made, 1) == [(0, "ok", 1)] and fake.killed == [("episode-worker-0", False)]


def test_an_actor_tells_ray_of_its_gpu_memory_once_the_world_is_loaded(monkeypatch) -> None:
    told: list[str] = []

    class Memory:
        def __init__(self, gpu: bool) -> None:
            told.append(f"gauge, GPU {gpu}")

        def report(self) -> None:
            told.append("report")

    class Worker:
        def __init__(self, spec: Any) -> None:
            told.append("made")

        def prepare(self) -> str:
            told.append("prepared")
            return "node/1"

        def run(self, episode: Any, methods: list[str], attempt: int) -> list[str]:
            told.append("ran")
            return [f"{episode} {methods} {attempt}"]

    monkeypatch.setattr(ray_pool, "GpuMemory", Memory)
    stand_in: Any = Worker
    worker: type[EpisodeWorker] = stand_in
    spec: Any = SimpleNamespace(gpu=True)
    actor, episode = EpisodeActor(worker, spec), items(1)[0].episode
    assert told == ["made"], "a constructor that raised would never be tried again"
    assert actor.prepare() == actor.prepare() == "node/1"
    assert actor.run(episode, ["lr"], 2) == [f"{episode} ['lr'] 2"]
    assert told[1:] == ["prepared", "gauge, GPU True", "prepared", "ran", "report"]
