"""Rows of episodes that nothing happens to: one worker in this process solves them, without Ray."""

from collections.abc import Iterable
from pathlib import Path

from rayfs.distributed.bank import ensure_bank
from rayfs.distributed.eval_config import EvalConfig
from rayfs.distributed.evaluate import missing_items, worker_spec
from rayfs.distributed.label_halluc_eval import build_experiment
from rayfs.distributed.runner import PoolSize
from rayfs.distributed.runtime import Resources
from rayfs.distributed.worker import EpisodeWorker
from rayfs.evaluation.rows import Row


def quiet_rows(config: EvalConfig, cache_dir: Path, episodes: Iterable[int]) -> list[Row]:
    """Return the rows of `episodes`; a job has left the base bank in `cache_dir`."""
    experiment, wanted = build_experiment(config, cache_dir), set(episodes)
    bank = ensure_bank(experiment.base, experiment.backbone, cache_dir, Resources(nodes=((1.0, 0.0),)), gpu=False)
    size = PoolSize(workers=1, cpus_per_worker=1, gpus_per_worker=0)
    worker = EpisodeWorker(worker_spec(experiment, bank, {}, size, cache_dir))
    worker.prepare()
    items = [item for item in missing_items(experiment, set()) if item.episode.index in wanted]
    return [row for item in items for row in worker.run(item.episode, list(item.methods), 1)]
