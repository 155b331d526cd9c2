"""Run an experiment: base bank, episode pool, rows as they finish, progress, summary."""

import shlex
import signal
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rayfs.distributed.bank import ensure_bank
from rayfs.distributed.experiment import Experiment
from rayfs.distributed.runner import EpisodePool, PoolSize, WorkItem
from rayfs.distributed.runtime import Resources, cluster_resources, connect
from rayfs.distributed.worker import WorkerSpec
from rayfs.engine.bank import BaseBank
from rayfs.errors import InputError, Terminated
from rayfs.evaluation.progress import Progress
from rayfs.evaluation.rows import Row
from rayfs.evaluation.run_directory import RunDirectory
from rayfs.evaluation.summary import summarise
from rayfs.evaluation.writer import ResultBuffer


def evaluate(
    experiment: Experiment,
    run: RunDirectory,
    *,
    workers: int | None,
    cpus_per_worker: int,
    gpus_per_worker: float | None,
    cache_dir: Path,
    command: list[str],
) -> dict[str, Any]:
    """Solve the episodes that `run` (open) does not have yet, and return its summary, which is written, too.

    Rows are committed as they finish; an interrupt or a crash loses the episodes in flight and nothing else.

    Raises:
        InputError: data or resources that only the cluster could tell are wrong.
        KeyboardInterrupt: Ctrl-C or SIGTERM, after everything finished was committed.
    """
    completed = run.completed()
    items = missing_items(experiment, completed)
    if items:
        connect()
        with sigterm_as_interrupt():
            resources = cluster_resources()
            size = pool_size(resources, workers, cpus_per_worker, gpus_per_worker)
            bank = ensure_bank(experiment.base, experiment.backbone, cache_dir, resources)
            run.confirm("base_table", bank.table.fingerprint)
            _solve(experiment, run, items, size, worker_spec(experiment, bank, size, cache_dir), command)
    summary = summarise_run(experiment, run)
    run.write_summary(summary)
    return summary


def missing_items(experiment: Experiment, completed: set[tuple[int, str]]) -> list[WorkItem]:
    """Return what is left to do: for each episode the methods without an ok row."""
    items = []
    for episode in experiment.episodes:
        methods = tuple(name for name in experiment.methods if (episode.index, name) not in completed)
        if methods:
            items.append(WorkItem(episode=episode, methods=methods))
    return items


def summarise_run(experiment: Experiment, run: RunDirectory) -> dict[str, Any]:
    """Return the figures over the experiment's episodes: benchmark, protocol, methods, official error rates."""
    wanted = {episode.index for episode in experiment.episodes}
    rows = [row for row in run.rows() if row.episode in wanted]
    return {
        "benchmark": experiment.benchmark.name,
        "protocol": {**asdict(experiment.protocol), "episodes": len(wanted)},
        "backbone": {"name": experiment.backbone.name, "state_hash": experiment.backbone.state_hash},
        **summarise(rows, experiment.baseline, list(experiment.methods)),
    }


def pool_size(resources: Resources, workers: int | None, cpus: int, gpus: float | None) -> PoolSize:
    """Size the pool: one worker a GPU where there are GPUs, else one for every `cpus` CPUs.

    Raises:
        InputError: more is asked for than the cluster has.
    """
    if gpus is None:
        gpus = 1.0 if resources.gpus >= 1 else 0.0
    fitting = int(min(resources.cpus / cpus, resources.gpus / gpus if gpus else float("inf")))
    if fitting < 1 or (workers or 1) > fitting:
        raise InputError(
            f"{workers or 1} workers with {cpus} CPUs and {gpus:g} GPUs each do not fit a cluster of "
            f"{resources.cpus:g} CPUs and {resources.gpus:g} GPUs, which holds {fitting}; lower --workers, "
            "--cpus-per-worker or --gpus-per-worker"
        )
    return PoolSize(workers=workers or fitting, cpus_per_worker=cpus, gpus_per_worker=gpus)


def worker_spec(experiment: Experiment, bank: BaseBank, size: PoolSize, cache_dir: Path) -> WorkerSpec:
    """Return what every worker is told."""
    return WorkerSpec(
        cache_dir=str(cache_dir),
        base_fingerprint=bank.table.fingerprint,
        features_path=str(bank.path),
        novel_fingerprint=experiment.novel.fingerprint,
        backbone=experiment.backbone,
        augmentation=experiment.benchmark.augmentation,
        protocol=experiment.protocol,
        methods=dict(experiment.methods),
        n_threads=int(size.cpus_per_worker),
        gpu=size.gpus_per_worker > 0,
    )


def _solve(
    experiment: Experiment,
    run: RunDirectory,
    items: list[WorkItem],
    size: PoolSize,
    spec: WorkerSpec,
    command: list[str],
) -> None:
    n_episodes = len(experiment.episodes)
    shown = list(experiment.methods)[-1]
    progress = Progress(n_episodes, n_episodes - len(items), shown, sys.stdout, baseline=experiment.baseline)
    progress.resume(run.rows())
    buffer = ResultBuffer(run)
    partial: dict[int, list[Row]] = defaultdict(list)

    def on_rows(rows: list[Row], episode_done: bool) -> None:
        if rows:
            partial[rows[0].episode] += rows
            buffer.add(rows)
        if episode_done and rows:
            progress.update(partial.pop(rows[0].episode))

    pool = EpisodePool(spec, size)
    try:
        pool.run(items, on_rows, buffer.poll)
    except KeyboardInterrupt:
        print(
            f"\nstopped; finished episodes are kept in {run.location}. Resume with:\n  {shlex.join(command)}",
            flush=True,
        )
        raise
    finally:
        pool.close()
        buffer.flush()
        progress.finish()


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Turn SIGTERM into an exception inside the block; set after Ray's start, which installs a handler of its own."""

    def interrupt(signal_number: int, frame: object) -> None:
        raise Terminated("SIGTERM")

    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
