"""What becomes of rows as a pool delivers them: disk, log, metrics, progress. Without Ray."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rayfs.datasets.episodes import Episode
from rayfs.distributed.pool_messages import WorkItem
from rayfs.distributed.ray_pool import OnRows
from rayfs.experiments.episodes import run as module
from rayfs.experiments.episodes.run import missing_items, solve_items
from rayfs.runs.episode_log import EpisodeLog
from rayfs.runs.rows import Row

Delivery = tuple[list[Row], bool]


class Pool:
    """Delivers what it is given; notes whether it was closed."""

    def __init__(self, deliveries: list[Delivery], then: Exception | None = None) -> None:
        self._deliveries, self._then, self.is_closed = deliveries, then, False

    def run(self, items: list[WorkItem], on_rows: OnRows, on_tick: Callable[[], None]) -> None:
        for rows, done in self._deliveries:
            on_rows(rows, done)
            on_tick()
        if self._then is not None:
            raise self._then

    def close(self) -> None:
        self.is_closed = True


class Driver:
    """Solves two episodes by `lr` and `m`, of which some rows are stored already."""

    def __init__(self, log_path: Path) -> None:
        self.committed: list[Row] = []
        self.counted: list[Row] = []
        self.log_path = log_path

    def solve(self, stored: list[Row], pool: Any) -> None:
        array = np.zeros((2, 1), dtype=np.int64)
        episodes = [Episode(index=i, class_ids=array[:, 0], support_ids=array, query_ids=array) for i in range(2)]
        experiment: Any = SimpleNamespace(episodes=episodes, methods={"lr": 0, "m": 0}, baseline="lr")
        directory: Any = SimpleNamespace(rows=lambda: stored, append=self.commit)
        completed = {(row.episode, row.method) for row in stored if row.status == "ok"}
        with EpisodeLog(self.log_path) as log:
            solve_items(experiment, directory, missing_items(experiment, completed), pool, log)

    def commit(self, rows: list[Row]) -> None:
        self.committed += rows


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Driver:
    made = Driver(tmp_path / "log.jsonl")
    monkeypatch.setattr(module, "EpisodeMetrics", lambda: SimpleNamespace(add=made.counted.extend))
    return made


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.splitlines()[-1]


def test_a_method_solved_by_a_former_run_pairs_with_the_one_that_comes_now(driver, make_row, capsys) -> None:
    """Gains +20 and +30; without the stored row of episode 0 there would be one gain and no interval."""
    stored = [make_row(0, "lr", 0.5), make_row(0, "m", None), make_row(0, "other", 0.1), make_row(7, "m", 0.1)]
    now = [make_row(0, "m", 0.7), make_row(1, "lr", 0.6), make_row(1, "m", 0.9)]
    pool = Pool([(now[:1], True), (now[1:], True)])
    driver.solve(stored, pool)
    assert driver.committed == driver.counted == now and len(driver.log_path.read_text().splitlines()) == 3
    shown = last_line(capsys)
    assert shown.startswith("done 2/2 | m 80.0 ± ") and "| gain vs lr +25.0 ± 63.5 |" in shown
    assert shown.endswith("failed 0"), "a failure that is tried again, and solved, is none"
    assert pool.is_closed


def test_episodes_of_a_former_run_count_as_done_and_in_the_means(driver, make_row, capsys) -> None:
    stored = [make_row(0, "lr", 0.5), make_row(0, "m", 0.7)]
    driver.solve(stored, Pool([([make_row(1, "lr", 0.6), make_row(1, "m", 0.9)], True)]))
    shown = last_line(capsys)
    assert shown.startswith("done 2/2 | m 80.0 ± ") and "| gain vs lr +25.0 ± 63.5 |" in shown


def test_rows_of_an_episode_that_come_one_after_another_count_once(driver, make_row, capsys) -> None:
    deliveries: list[Delivery] = [([make_row(0, "lr", 0.5)], False), ([], False), ([make_row(0, "m", 0.7)], True)]
    driver.solve([], Pool(deliveries))
    assert len(driver.committed) == 2
    assert last_line(capsys).startswith("done 1/2 | m 70.0 | gain vs lr +20.0 |")


def test_what_came_before_an_interrupt_is_committed_and_the_pool_closed(driver, make_row, capsys) -> None:
    pool = Pool([([make_row(0, "lr", 0.5)], False)], then=RuntimeError("boom"))
    with pytest.raises(RuntimeError, match="boom"):
        driver.solve([], pool)
    assert [(row.episode, row.method) for row in driver.committed] == [(0, "lr")]
    assert pool.is_closed and last_line(capsys).startswith("done 0/2 |"), "a method of the episode is missing"


def test_rows_that_cannot_be_saved_do_not_keep_the_pool_open(driver, make_row, monkeypatch) -> None:
    def full(rows: list[Row]) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(driver, "commit", full)
    pool = Pool([([make_row(0, "m", 0.5)], True)])
    with pytest.raises(OSError, match="no space left"):
        driver.solve([], pool)
    assert pool.is_closed
