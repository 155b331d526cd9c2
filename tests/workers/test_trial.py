"""A trial in one process: which episodes it runs, when it reports, what ends it. Without Ray and without images."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rayfs.datasets.episodes import Episode
from rayfs.runs.rows import Row
from rayfs.workers.episode_worker import WorkerSpec
from rayfs.workers.trial import LOST, Course, Done, ProcessWorker, run_blocks


def course(n_episodes: int, block_ends: list[int]) -> Course:
    array = np.zeros((2, 1), dtype=np.int64)
    anything: Any = None
    return Course(
        worker=anything, variants=anything, block_ends=block_ends, baseline=dict.fromkeys(range(n_episodes), 0.5),
        episodes=[
            Episode(index=i, class_ids=array[:, 0], support_ids=array, query_ids=array) for i in range(n_episodes)
        ],
    )  # fmt: skip


class Worker:
    """Reaches 0.6 on every episode, in two seconds, but fails on those of `bad`; notes what it is asked."""

    def __init__(self, bad: tuple[int, ...] = ()) -> None:
        self._bad, self.asked = bad, []

    def ready(self) -> Any:
        self.asked.append("ready")
        return self

    def prepare(self) -> str:
        self.asked.append("prepare")
        return "node/1"

    def run(self, episode: Episode, methods: list[str], attempt: int) -> list[Row]:
        self.asked.append(episode.index)
        row = Row(
            episode=episode.index, method=methods[0], status="ok", accuracy=0.6, predictions=[0], labels=[0],
            seconds=2.0, attempt=attempt, episode_hash="e", config_hash="c",
        )  # fmt: skip
        if episode.index in self._bad:
            row = replace(row, status="failed", accuracy=None, predictions=[], labels=[], error="CUDA error")
        return [row]


def told(worker: Worker, done: Done, limit: int | None, n: int = 4, block_ends: tuple[int, ...] = (2, 4)) -> list[Any]:
    reports = run_blocks("m:a=1", done, limit, course(n, list(block_ends)), worker.ready)
    return [(each.episodes, round(each.gain, 9), each.n_run, each.failed, each.went_on) for each in reports]


HALF: Done = {0: (0.7, 1.0), 1: (0.7, 1.0)}

TABLE = {
    "from the start": ((), {}, None, [(2, 10.0, 2, 0, False), (4, 10.0, 2, 0, False)], ["ready", 0, 1, 2, 3]),
    "what is done is reported, not run": (
        (), HALF, None, [(2, 20.0, 0, 0, False), (4, 15.0, 2, 0, False)], ["ready", 2, 3],
    ),
    "a gap is filled": (
        (), {0: (0.7, 1.0), 2: (0.7, 1.0)}, None, [(2, 15.0, 1, 0, True), (4, 15.0, 1, 0, False)], ["ready", 1, 3],
    ),
    "nothing to run: no worker": (
        (), dict.fromkeys(range(4), (0.6, 1.0)), None, [(2, 10.0, 0, 0, True), (4, 10.0, 0, 0, False)], [],
    ),
    "a former trial ends where it ended": ((), HALF, 2, [(2, 20.0, 0, 0, False)], []),
    "a failure ends the trial, whose worker looks after its GPU": (
        (2,), {}, None, [(2, 10.0, 2, 0, False), (4, LOST, 1, 1, False)], ["ready", 0, 1, 2, "prepare"],
    ),
    "the rest of a block is not run after a failure": (
        (0,), {}, None, [(2, LOST, 1, 1, False)], ["ready", 0, "prepare"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_a_trial_reports_after_each_block_and_runs_what_is_missing(name: str) -> None:
    bad, done, limit, expected, asked = TABLE[name]
    worker, before = Worker(bad), dict(done)
    assert told(worker, done, limit) == expected
    assert worker.asked == asked
    assert done == before, "what the ledger told is not touched"


def test_rows_of_a_block_go_with_its_report() -> None:
    first, second = run_blocks("m:a=1", {0: (0.7, 1.0)}, None, course(3, [2, 3]), Worker().ready)
    assert [(row.episode, row.method, row.attempt) for row in first.rows] == [(1, "m:a=1", 1)]
    assert [row.episode for row in second.rows] == [2]


def test_a_process_keeps_its_worker_from_trial_to_trial_and_only_for_the_same_world() -> None:
    made: list[Any] = []

    def make(spec: WorkerSpec) -> Any:
        made.append(SimpleNamespace(spec=spec, n_prepared=0))
        made[-1].prepare = lambda worker=made[-1]: setattr(worker, "n_prepared", worker.n_prepared + 1)
        return made[-1]

    given: Any = {
        "base_fingerprint": "b", "features_path": "f", "activations": {}, "novel_fingerprint": "n", "backbone": None,
        "augmentation": None, "protocol": None, "methods": {}, "n_threads": 1, "gpus": 0,
    }  # fmt: skip
    here, elsewhere = WorkerSpec(cache_dir="/a", **given), WorkerSpec(cache_dir="/b", **given)
    config: Any = "config"
    process = ProcessWorker(make)
    first = process.ready(here, {"m:a=1": config})
    assert process.ready(here, {"m:a=2": config}) is first and len(made) == 1 and made[0].n_prepared == 2
    assert set(made[0].spec.methods) == {"m:a=1", "m:a=2"}, "it knows the methods of both"
    assert process.ready(elsewhere, {"m:a=1": config}) is not first and len(made) == 2
    assert set(made[1].spec.methods) == {"m:a=1"} and set(here.methods) == set()
