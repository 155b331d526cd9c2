"""The loop over actors, against stand-in actors that die the way Ray's documentation says (no process is started)."""

import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import ray.exceptions

from rayfs.datasets.episodes import Episode
from rayfs.distributed.pool import MAX_ATTEMPTS, RESTARTING, EpisodePool, Running, WorkItem
from rayfs.errors import InputError
from rayfs.runs.rows import Row


class StandInActor:
    """An actor whose calls give what `answer` says: a value, or an exception to raise.

    One that was killed has nothing loaded until it is prepared again.
    """

    def __init__(self, answer: Callable[[str], object]) -> None:
        self._answer, self.loaded = answer, False
        self.prepare = SimpleNamespace(remote=self._prepare)
        self.run = SimpleNamespace(remote=self._run)

    def _prepare(self) -> "_Reference":
        answer = self._answer("prepare")
        self.loaded = not isinstance(answer, Exception)
        return _Reference(answer)

    def _run(self, episode: Episode, methods: list[str], attempt: int) -> "_Reference":
        unprepared = ray.exceptions.RayTaskError("run", "AssertionError", AssertionError("prepare the worker first"))
        return _Reference(self._answer("run") if self.loaded else unprepared, episode, attempt)


class _Reference:
    def __init__(self, answer: object, episode: Episode | None = None, attempt: int = 0) -> None:
        self.answer, self.episode, self.attempt = answer, episode, attempt


class StandInRay:
    exceptions = ray.exceptions

    turn = 0

    @classmethod
    def wait(cls, references: list, num_returns: int, timeout: float) -> tuple[list, list]:
        """Return one reference, each in its turn: all are ready."""
        cls.turn += 1
        first = cls.turn % len(references)
        return [references[first]], references[:first] + references[first + 1 :]

    @staticmethod
    def kill(actor: StandInActor, no_restart: bool) -> None:
        assert not no_restart
        actor.loaded = False

    @staticmethod
    def get(reference: _Reference) -> object:
        if isinstance(reference.answer, Exception):
            raise reference.answer
        if reference.episode is None:
            return "ready"
        return [
            Row(
                episode=reference.episode.index, method="lr", status="ok", accuracy=1.0, predictions=[0], labels=[0],
                episode_hash="e", config_hash="c", attempt=reference.attempt,
            )
        ]  # fmt: skip


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[StandInActor]], EpisodePool]:
    monkeypatch.setattr("rayfs.distributed.pool.RESTART_PAUSE_S", 0)

    def build(actors: list[StandInActor]) -> EpisodePool:
        made = EpisodePool.__new__(EpisodePool)
        made.__dict__.update(
            _ray=StandInRay, _spec=SimpleNamespace(methods={"lr": {}}, gpus=1), _idle=[], _preparing={}, _later=[],
            _running={},
            _overdue={}, _whereabouts={}, _capacity=None, _asked_capacity=0.0, _timeout_s=None, _longest_s={},
            _n_workers=len(actors), _n_died_preparing=0,
            _waiting_since=time.monotonic(), _new_actor=lambda: actors[0],
        )  # fmt: skip
        for actor in actors:
            made._prepare(actor)
        return made

    return build


def items(n: int) -> list[WorkItem]:
    array = np.zeros((2, 1), dtype=np.int64)
    return [
        WorkItem(episode=Episode(index=i, class_ids=array[:, 0], support_rows=array, query_rows=array), methods=("lr",))
        for i in range(n)
    ]


def test_a_lost_node_with_many_idle_workers_costs_an_episode_one_attempt(pool) -> None:
    deaths = [0]

    def dying(call: str) -> object:
        """Dead at its first episode; its idle neighbours are dead, too, until prepared again."""
        if call == "run" and deaths[0] < 1:
            deaths[0] += 1
            return ray.exceptions.ActorUnavailableError("node gone", b"0" * 16)
        return "fine"

    rows: list[Row] = []
    pool([StandInActor(dying) for _ in range(5)]).run(items(1), lambda new, done: rows.extend(new), lambda: None)
    assert [(row.status, row.attempt) for row in rows] == [("ok", 2)]


def test_what_finished_meanwhile_is_taken_at_once(pool, monkeypatch) -> None:
    """One look at a time would be 16: 8 at workers that are prepared and 8 at episodes."""
    looks: list[int] = []

    def wait(references: list, num_returns: int, timeout: float) -> tuple[list, list]:
        looks.append(num_returns)
        return references[:num_returns], references[num_returns:]

    monkeypatch.setattr(StandInRay, "wait", staticmethod(wait))
    rows: list[Row] = []
    made = pool([StandInActor(lambda call: "fine") for _ in range(8)])
    made.run(items(8), lambda new, done: rows.extend(new), lambda: None)
    assert sorted(row.episode for row in rows) == list(range(8)) and made.n_ready == 8
    assert looks == [1, 8, 1, 8]


def test_an_episode_that_kills_its_worker_each_time_is_given_up(pool, capsys) -> None:
    def poison(call: str) -> object:
        return ray.exceptions.ActorUnavailableError("gone", b"0" * 16) if call == "run" else "fine"

    rows: list[Row] = []
    pool([StandInActor(poison), StandInActor(poison)]).run(items(1), lambda new, done: rows.extend(new), lambda: None)
    assert [(row.status, row.attempt) for row in rows] == [("failed", MAX_ATTEMPTS)]
    assert rows[0].error.startswith("the worker died: ") and "out of memory, lower --workers" in rows[0].error
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == MAX_ATTEMPTS and printed[0].startswith("episode 0, attempt 1 of 3: the worker died")


def test_the_pool_grows_with_the_cluster_but_not_beyond_its_episodes(pool, monkeypatch, capsys) -> None:
    monkeypatch.setattr("rayfs.distributed.pool.GROW_S", 0)
    made: list[StandInActor] = []

    def new_actor() -> StandInActor:
        made.append(StandInActor(lambda call: "fine"))
        return made[-1]

    growing = pool([StandInActor(lambda call: "fine")])
    growing._new_actor, growing._capacity = new_actor, lambda: 4
    rows: list[Row] = []
    growing.run(items(30), lambda new, done: rows.extend(new), lambda: None)
    assert len(made) == 3 and "nodes joined: 4 workers" in capsys.readouterr().out
    assert sorted(row.episode for row in rows) == list(range(30))
    few = pool([StandInActor(lambda call: "fine")])
    few._new_actor, few._capacity = new_actor, lambda: 9
    few.run(items(3), lambda new, done: None, lambda: None)
    assert len(made) <= 3 + 2, "three episodes need no nine workers"


def test_a_worker_without_a_place_to_restart_neither_ends_nor_delays_the_run(pool) -> None:
    """Its node is lost: Ray answers every call at once that it is restarting, while the others go on."""
    lost = StandInActor(lambda call: ray.exceptions.ActorUnavailableError(f"IOError: {RESTARTING}..", b"0" * 16))
    crashing = StandInActor(lambda call: ray.exceptions.ActorUnavailableError("socket closed", b"0" * 16))
    rows: list[Row] = []
    started = time.monotonic()
    pool([StandInActor(lambda call: "fine"), lost, crashing]).run(
        items(500), lambda new, done: rows.extend(new), lambda: None
    )
    assert sorted(row.episode for row in rows) == list(range(500)) and all(row.status == "ok" for row in rows)
    assert time.monotonic() - started < 5


def test_a_run_whose_nodes_are_all_lost_waits_for_one_to_come_back(pool) -> None:
    calls = [0]

    def gone_for_a_while(call: str) -> object:
        calls[0] += 1
        return ray.exceptions.ActorUnavailableError(f"{RESTARTING}..", b"0" * 16) if calls[0] < 30 else "fine"

    rows: list[Row] = []
    pool([StandInActor(gone_for_a_while)]).run(items(2), lambda new, done: rows.extend(new), lambda: None)
    assert [row.status for row in rows] == ["ok", "ok"]


def test_a_worker_that_lost_what_it_had_loaded_is_prepared_again(pool) -> None:
    """Ray restarted it, or it was killed for an episode that came back in the same moment."""
    actor = StandInActor(lambda call: "fine")
    forgetful = pool([actor])
    rows: list[Row] = []

    def on_rows(new: list[Row], done: bool) -> None:
        rows.extend(new)
        if new and len(rows) in (1, 4):
            actor.loaded = False

    forgetful.run(items(6), on_rows, lambda: None)
    assert sorted((row.episode, row.status) for row in rows) == [(i, "ok") for i in range(6)]
    assert sorted(row.attempt for row in rows) == [1, 1, 1, 1, 2, 2]


def test_an_episode_that_came_back_while_its_worker_was_killed_counts_and_the_worker_is_prepared(pool) -> None:
    actor = StandInActor(lambda call: "fine")
    slow = pool([actor])
    rows: list[Row] = []

    def kill(reference) -> None:
        slow._overdue[reference] = "took too long"
        slow._ray.kill(actor, no_restart=False)

    def on_rows(new: list[Row], done: bool) -> None:
        rows.extend(new)

    finish = slow._finish_episode
    slow._finish_episode = lambda reference, on_rows: (kill(reference), finish(reference, on_rows))[1]
    slow.run(items(3), on_rows, lambda: None)
    assert [(row.status, row.attempt) for row in rows] == [("ok", 1)] * 3


def test_the_limit_of_an_episode_follows_what_its_methods_took(pool, monkeypatch) -> None:
    monkeypatch.setattr("rayfs.distributed.pool.HUNG_LEAST_S", 100.0)
    watched = pool([StandInActor(lambda call: "fine")])
    both = replace(items(1)[0], methods=("lr", "slow"))
    watched._longest_s = {"lr": 0.1}
    assert watched._limit_s(items(1)[0]) == 100
    assert watched._limit_s(both) == float("inf"), "a method that never came back may take any time"
    watched._longest_s["slow"] = 30.0
    assert watched._limit_s(both) == pytest.approx(20 * 30.1)
    watched._timeout_s = 7.0
    assert watched._limit_s(both) == 7


def test_only_an_episode_that_is_late_and_has_not_come_back_costs_its_worker(pool) -> None:
    killed: list[object] = []
    watched = pool([])
    watched._timeout_s = 50.0
    watched._ray = SimpleNamespace(
        wait=lambda references, num_returns, timeout: (references, []) if references[0] == "came back" else ([], []),
        kill=lambda actor, no_restart: killed.append(actor),
    )
    now = time.monotonic()
    for reference, since in (("came back", now - 60), ("late", now - 60), ("in time", now - 40)):
        watched._running[reference] = Running(actor=reference, item=items(1)[0], since=since)
    watched._kill_overdue()
    watched._kill_overdue()
    assert killed == ["late"] and "took longer than 50 s" in watched._overdue["late"]


def test_workers_that_die_again_and_again_while_loading_end_the_run(pool) -> None:
    actor = StandInActor(lambda call: ray.exceptions.ActorUnavailableError("out of memory", b"0" * 16))
    with pytest.raises(InputError, match=r"workers died 4 times while loading .* lower --workers"):
        pool([actor]).run(items(1), lambda new, done: None, lambda: None)


def test_a_gpu_worker_that_could_not_load_for_once_is_killed_and_loads_in_a_new_process(pool, capsys) -> None:
    cause = RuntimeError("CUDA-capable device(s) is/are busy or unavailable")
    error = ray.exceptions.RayTaskError("prepare", "traceback", cause)
    answers = iter([error])

    def busy_at_first(call: str) -> object:
        return next(answers, "fine") if call == "prepare" else "fine"

    rows: list[Row] = []
    pool([StandInActor(busy_at_first)]).run(items(2), lambda new, done: rows.extend(new), lambda: None)
    assert [row.status for row in rows] == ["ok", "ok"]
    assert "cannot load, and is tried again: RuntimeError: CUDA-capable device(s)" in capsys.readouterr().out
    on_cpus = pool([StandInActor(lambda call: error)])
    on_cpus._spec.gpus = 0
    with pytest.raises(ray.exceptions.RayTaskError):
        on_cpus.run(items(1), lambda new, done: None, lambda: None)


def test_a_worker_is_asked_to_prepare_after_an_episode_that_failed(pool, monkeypatch) -> None:
    """It ends then if it has lost its GPU; else the episodes to come would all fail there."""
    asked: list[str] = []

    def answer(call: str) -> str:
        asked.append(call)
        return "fine"

    get = StandInRay.get

    def get_failed_once(reference: _Reference) -> object:
        found = get(reference)
        if asked == ["prepare", "run"] and reference.episode is not None:
            found = [replace(found[0], status="failed", accuracy=None, error="CUDA error")]
        return found

    monkeypatch.setattr(StandInRay, "get", staticmethod(get_failed_once))
    rows: list[Row] = []
    pool([StandInActor(answer)]).run(items(2), lambda new, done: rows.extend(new), lambda: None)
    assert sorted((row.episode, row.status, row.attempt) for row in rows) == [(0, "ok", 2), (1, "ok", 1)]
    assert asked == ["prepare", "run", "prepare", "run", "run"]


def test_wrong_input_that_a_worker_finds_while_loading_ends_the_run_at_once(pool) -> None:
    error = ray.exceptions.RayTaskError("prepare", "traceback", InputError("the features are not on this machine"))
    with pytest.raises(InputError, match=r"^the features are not on this machine$"):
        pool([StandInActor(lambda call: error)]).run(items(1), lambda new, done: None, lambda: None)
