"""Rows of episodes that nothing happens to: one worker in this process solves them, without Ray."""

from collections.abc import Iterable
from pathlib import Path

from rayfs.distributed.base_bank import ensure_bank
from rayfs.distributed.pool import PoolSize
from rayfs.distributed.session import Resources
from rayfs.experiments.episodes.flags import EvalConfig
from rayfs.experiments.episodes.job import build_experiment
from rayfs.experiments.episodes.run import missing_items, worker_spec
from rayfs.runs.rows import Row
from rayfs.workers.episode_worker import EpisodeWorker


def quiet_rows(config: EvalConfig, cache_dir: Path, episodes: Iterable[int]) -> list[Row]:
    """Return the rows of `episodes`; a job has left the base bank in `cache_dir`."""
    experiment, wanted = build_experiment(config, cache_dir), set(episodes)
    bank = ensure_bank(experiment.base, experiment.backbone, cache_dir, Resources(nodes=((1.0, 0.0),)), gpu=False)
    size = PoolSize(workers=1, cpus_per_worker=1, gpus_per_worker=0)
    worker = EpisodeWorker(worker_spec(experiment, bank, {}, size, cache_dir))
    worker.prepare()
    items = [item for item in missing_items(experiment, set()) if item.episode.index in wanted]
    return [row for item in items for row in worker.run(item.episode, list(item.methods), 1)]
