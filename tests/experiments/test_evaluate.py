"""Rows do not depend on workers, order, deaths or resumes, and nothing fails silently."""

import json
import os
import re
import signal
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray

from rayfs.distributed.base_bank import ensure_bank
from rayfs.distributed.pool import EpisodePool, PoolSize
from rayfs.distributed.pool_messages import WorkItem
from rayfs.distributed.scheduler import MAX_ATTEMPTS
from rayfs.distributed.session import Resources
from rayfs.errors import InputError
from rayfs.experiments.episodes import run as evaluate_module
from rayfs.experiments.episodes.experiment import Experiment
from rayfs.experiments.episodes.job import open_run
from rayfs.experiments.episodes.run import (
    Execution,
    capacity_of,
    evaluate,
    missing_items,
    pool_size,
    summarise_run,
    wanted_rows,
    worker_spec,
)
from rayfs.methods.registry import BASELINE
from rayfs.runs.episode_log import EpisodeLog
from rayfs.runs.rows import Row, scientific_columns
from rayfs.workers.episode_worker import EpisodeWorker

pytestmark = pytest.mark.ray

ONE, TWO = (PoolSize(workers=n, cpus_per_worker=1, gpus_per_worker=0) for n in (1, 2))


@pytest.fixture(scope="module")
def solve(experiment: Experiment, cache_dir: Path, resources: Resources) -> Callable[..., list[Row]]:
    """Solve items on a fresh pool; `on_rows` may interfere."""
    bank = ensure_bank(experiment.base, experiment.backbone, cache_dir, resources, gpu=False)

    def run(
        items: list[WorkItem], size: PoolSize, interfere: Callable[[list[Row]], None] = lambda rows: None,
        timeout_s: float | None = None,
    ) -> list[Row]:  # fmt: skip
        rows: list[Row] = []
        pool = EpisodePool(worker_spec(experiment, bank, {}, size, cache_dir), size, timeout_s)

        def on_rows(new: list[Row], episode_done: bool) -> None:
            rows.extend(new)
            interfere(new)

        try:
            pool.run(items, on_rows, lambda: None)
        finally:
            pool.close()
        return rows

    return run


@pytest.fixture(scope="module")
def uninterrupted(experiment: Experiment, cache_dir: Path, resources: Resources) -> list[Row]:
    """The rows of one worker in this process, without any actor."""
    bank = ensure_bank(experiment.base, experiment.backbone, cache_dir, resources, gpu=False)
    worker = EpisodeWorker(worker_spec(experiment, bank, {}, ONE, cache_dir))
    worker.prepare()
    return [row for item in missing_items(experiment, set()) for row in worker.run(item.episode, list(item.methods), 1)]


def test_one_and_two_workers_give_the_same_rows_bit_for_bit(solve, experiment, uninterrupted) -> None:
    items = missing_items(experiment, set())
    one = solve(items, ONE)
    assert len(one) == 12 and all(row.status == "ok" for row in one)
    for _ in range(5):  # on a busy machine one worker may be done before the other has loaded
        two = solve(items[::-1], TWO)
        assert scientific_columns(one) == scientific_columns(two) == scientific_columns(uninterrupted)
        if len({row.worker for row in two}) == 2:
            break
    else:
        raise AssertionError("never did both workers take part")


def test_a_worker_killed_in_mid_run_loses_nothing(solve, experiment, uninterrupted) -> None:
    killed: list[int] = []

    def kill_first_worker(rows: list[Row]) -> None:
        if rows and not killed:
            killed.append(int(rows[0].worker))
            os.kill(killed[0], signal.SIGKILL)

    rows = solve(missing_items(experiment, set()), TWO, kill_first_worker)
    assert killed
    assert scientific_columns(rows) == scientific_columns(uninterrupted)


def test_a_hung_worker_is_killed_and_its_episode_solved_elsewhere(solve, experiment, uninterrupted) -> None:
    """Stopped, not dead: to Ray such a worker is alive for ever."""
    stopped: list[int] = []

    def stop_first_worker(rows: list[Row]) -> None:
        if rows and not stopped:
            stopped.append(int(rows[0].worker))
            os.kill(stopped[0], signal.SIGSTOP)

    rows = solve(missing_items(experiment, set()), TWO, stop_first_worker, timeout_s=20)
    assert stopped
    assert scientific_columns(rows) == scientific_columns(uninterrupted)
    assert max(row.attempt for row in rows) == 2
    assert not Path(f"/proc/{stopped[0]}").exists()


def test_an_episode_that_always_fails_is_reported_and_the_rest_goes_on(solve, experiment) -> None:
    items = missing_items(experiment, set())
    good = items[0].episode
    poison = replace(good, index=99, query_ids=np.full_like(good.query_ids, 10**9))
    rows = solve([WorkItem(episode=poison, methods=(BASELINE,)), items[1]], TWO)
    failed = [row for row in rows if row.status == "failed"]
    assert [(row.episode, row.method, row.attempt) for row in failed] == [(99, BASELINE, MAX_ATTEMPTS)]
    assert failed[0].accuracy is None and "IndexError" in failed[0].error
    assert {row.episode for row in rows if row.status == "ok"} == {items[1].episode.index}


def test_resume_runs_only_missing_episodes(experiment, cache_dir, resources, uninterrupted, tmp_path) -> None:
    some = replace(experiment, episodes=experiment.episodes[:2])
    options = {"execution": Execution(workers=2), "cache_dir": cache_dir, "command": ["x"]}
    with open_run(some, str(tmp_path / "run"), ["x"]) as run:
        first = evaluate(some, run, **options)
        parts = set((tmp_path / "run" / "episodes").iterdir())
    assert first.figures.methods[BASELINE].n == 2
    with open_run(experiment, str(tmp_path / "run"), ["x"]) as run:
        assert {item.episode.index for item in missing_items(experiment, run.completed())} == {2, 3, 4, 5}
        summary = evaluate(experiment, run, **options)
        assert scientific_columns(run.rows()) == scientific_columns(uninterrupted)
    assert parts < set((tmp_path / "run" / "episodes").iterdir()), "earlier parts are kept as they were"
    assert summary.figures.methods["label-halluc"].n_distinct == 6
    assert summary.n_episodes == 6


def test_a_run_is_counted_where_prometheus_finds_it_and_logged_line_by_line(
    experiment, cache_dir, resources, tmp_path
) -> None:
    some = replace(experiment, episodes=experiment.episodes[:2])
    with EpisodeLog(tmp_path / "episodes.jsonl") as log, open_run(some, str(tmp_path / "run"), ["x"]) as run:
        evaluate(some, run, Execution(workers=1), cache_dir=cache_dir, command=["x"], log=log)
    lines = [json.loads(line) for line in (tmp_path / "episodes.jsonl").read_text().splitlines()]
    assert sorted((line["episode"], line["method"], line["status"]) for line in lines) == [
        (i, name, "ok") for i in (0, 1) for name in ("label-halluc", BASELINE)
    ]
    node = ray.nodes()[0]
    wanted = re.compile(r'^ray_rayfs_episodes_total\{.*Method="label-halluc".*\} (\S+)$', re.MULTILINE | re.IGNORECASE)
    deadline = time.monotonic() + 60
    while not (found := wanted.search(metrics_of(node))):
        assert time.monotonic() < deadline, "not exported within a minute"
        time.sleep(1)
    assert float(found[1]) >= 2


def metrics_of(node: dict) -> str:
    with urllib.request.urlopen(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics") as answer:
        return answer.read().decode()


def test_episodes_of_another_manifest_do_not_resume(experiment, cache_dir, resources, uninterrupted, tmp_path) -> None:
    options = {"execution": Execution(workers=1), "cache_dir": cache_dir, "command": ["x"]}
    first, second = (replace(experiment, episodes=[replace(experiment.episodes[i], index=0)]) for i in (0, 1))
    with open_run(first, str(tmp_path / "run"), ["x"]) as run:
        run.append([row for row in uninterrupted if row.episode == 0])
        evaluate(first, run, **options)
        with pytest.raises(InputError, match="the manifest is another one"):
            evaluate(second, run, **options)


def test_figures_and_failures_are_those_of_the_episodes_asked_for(experiment, uninterrupted, tmp_path) -> None:
    some = replace(experiment, episodes=experiment.episodes[:2])
    with open_run(some, str(tmp_path / "run"), ["x"]) as run:
        failed = replace(uninterrupted[-1], status="failed", accuracy=None, predictions=[], labels=[], error="boom")
        run.append([*uninterrupted[:4], failed])
        assert {row.episode for row in wanted_rows(some, run)} == {0, 1}
        assert summarise_run(some, run).figures.methods["label-halluc"].n_failed == 0
        assert summarise_run(experiment, run).figures.methods[failed.method].n_failed == 1


def test_a_run_of_other_base_images_does_not_resume(experiment, cache_dir, resources, tmp_path) -> None:
    with open_run(experiment, str(tmp_path / "run"), ["x"]) as run:
        run.confirm("base_table", "another")
        with pytest.raises(InputError, match='base_table was "another" and is now'):
            evaluate(experiment, run, Execution(workers=1), cache_dir=cache_dir, command=[])


def test_the_gain_is_the_mean_of_paired_differences(experiment, uninterrupted) -> None:
    from rayfs.statistics.summary import summarise

    accuracy = {(row.episode, row.method): row.accuracy for row in uninterrupted}
    by_hand = [100 * (accuracy[i, "label-halluc"] - accuracy[i, BASELINE]) for i in range(6)]
    gain = summarise(uninterrupted, BASELINE, [BASELINE, "label-halluc"]).methods["label-halluc"].gain
    assert gain == pytest.approx(np.mean(by_hand))


@pytest.mark.parametrize(
    ("cpus", "gpus", "asked", "expected"),
    [
        (2, 0, (None, 1, None), PoolSize(workers=2, cpus_per_worker=1, gpus_per_worker=0)),
        (16, 2, (None, 1, None), PoolSize(workers=2, cpus_per_worker=1, gpus_per_worker=1)),
        (16, 1, (None, 2, 0.25), PoolSize(workers=4, cpus_per_worker=2, gpus_per_worker=0.25)),
        (16, 1, (3, 1, 0.0), PoolSize(workers=3, cpus_per_worker=1, gpus_per_worker=0)),
    ],
)
def test_the_pool_fills_the_gpus_or_else_the_cpus(cpus, gpus, asked, expected) -> None:
    assert pool_size(Resources(nodes=((cpus, gpus),)), *asked) == expected


@pytest.mark.parametrize(
    ("nodes", "size", "capacity"),
    [
        (((8, 0), (64, 1)), PoolSize(workers=8, cpus_per_worker=1, gpus_per_worker=0), 72),
        (((64, 0),), PoolSize(workers=4, cpus_per_worker=1, gpus_per_worker=1), 0),
        (((64, 4), (8, 0)), PoolSize(workers=4, cpus_per_worker=1, gpus_per_worker=1), 4),
    ],
)
def test_capacity_is_of_workers_like_those_of_the_pool(nodes, size, capacity, monkeypatch) -> None:
    monkeypatch.setattr(evaluate_module, "cluster_resources", lambda: Resources(nodes=nodes))
    assert capacity_of(Execution(), size)() == capacity
    assert capacity_of(Execution(workers=2), size) is None


def test_more_workers_than_fit_are_refused_with_the_numbers() -> None:
    with pytest.raises(
        InputError, match="3 workers with 1 CPUs and 0 GPUs each do not fit the cluster's 1 nodes with 2"
    ):
        pool_size(Resources(nodes=((2, 0),)), 3, 1, None)


def test_a_worker_fits_on_one_node_or_not_at_all() -> None:
    assert Resources(nodes=((1, 0), (1, 0))).n_fitting(2, 0) == 0
    assert Resources(nodes=((8, 2), (3, 0))).n_fitting(2, 0) == 5
    assert Resources(nodes=((8, 2),)).n_fitting(1, 0.6) == 2, "0.6 + 0.6 do not share a GPU"
    assert Resources(nodes=((8, 2),)).n_fitting(1, 0.25) == 8
    places = [Resources(nodes=((64, 1),)).n_fitting(1, gpus) for gpus in (0.05, 0.1, 0.2, 0.3, 1 / 3)]
    assert places == [20, 10, 5, 3, 3], "1 // 0.1 is 9"
