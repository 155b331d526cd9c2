"""What a run would take: measured on this machine for one episode's shapes, then multiplied."""

import os
import resource
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from rayfs.backbones.registry import n_features
from rayfs.distributed.eval_config import EvalConfig
from rayfs.distributed.evaluate import pool_size
from rayfs.distributed.experiment import Experiment
from rayfs.distributed.runner import PoolSize
from rayfs.distributed.runtime import Resources
from rayfs.distributed.worker import EpisodeWorker, WorkerSpec
from rayfs.engine.bank import save_features
from rayfs.evaluation.progress import duration
from rayfs.methods.recipes import LabelHallucConfig
from rayfs.methods.registry import MethodConfig

TIMED_STEPS = 3


def describe_plan(experiment: Experiment, config: EvalConfig, cache_dir: Path) -> str:
    """Return episodes, workers, estimated memory and hours; times a few steps here, so it takes some seconds.

    The machine this runs on stands for every worker's: on a cluster of others the hours scale with their speed.
    """
    resources = Resources(
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        gpus=torch.cuda.device_count(), nodes=1,
    )  # fmt: skip
    size = pool_size(resources, config.workers, config.cpus_per_worker, config.gpus_per_worker)
    seconds = {name: _episode_seconds(experiment, name, size, cache_dir) for name in experiment.methods}
    per_episode = sum(seconds.values())
    bank_bytes = experiment.n_base * (experiment.novel.images[0].nbytes + 4 * 64)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    hours = per_episode * len(experiment.episodes) / size.workers / 3600
    return "\n".join(
        [
            f"plan: {len(experiment.episodes)} episodes x {len(experiment.methods)} methods on {size.workers} workers "
            f"({size.cpus_per_worker:g} CPUs, {size.gpus_per_worker:g} GPUs each)",
            *(f"  {name}: {value:.1f} s per episode" for name, value in seconds.items()),
            f"  memory: base bank {bank_bytes / 1e9:.2f} GB a node, shared; {peak / 1e9:.1f} GB a worker at its peak",
            f"  time: {hours:.2f} hours ({duration(hours * 3600)}) of episodes, on machines like this one",
        ]
    )


def _episode_seconds(experiment: Experiment, method: str, size: PoolSize, cache_dir: Path) -> float:
    """Time `method` on the first episode with few steps, and scale its steps up to the configured number."""
    config = experiment.methods[method]
    steps = getattr(config, "steps", 0)
    few = [min(steps, n) for n in (1, 1 + TIMED_STEPS)] if steps else [0]
    timings = []
    with tempfile.TemporaryDirectory() as folder:
        for n_steps in few:
            timed = replace(config, steps=n_steps) if isinstance(config, LabelHallucConfig) else config
            worker = EpisodeWorker(_stand_in_spec(experiment, method, timed, size, cache_dir, Path(folder)))
            worker.prepare()
            rows = worker.run(experiment.episodes[0], [method], 1)
            if rows[0].status == "failed":
                raise RuntimeError(f"the timed episode failed: {rows[0].error}")
            timings.append(rows[0].seconds)
    if len(few) == 1 or few[1] == few[0]:
        return timings[-1]
    return timings[0] + (timings[1] - timings[0]) / (few[1] - few[0]) * (steps - few[0])


def _stand_in_spec(
    experiment: Experiment, method: str, config: MethodConfig, size: PoolSize, cache_dir: Path, folder: Path
) -> WorkerSpec:
    """Return a worker whose base images are the novel ones and whose features are zero: same shapes, no base bank."""
    features = folder / "features.npy"
    save_features(
        features,
        np.zeros((len(experiment.novel), n_features(experiment.backbone.load(torch.device("cpu")))), dtype=np.float32),
    )
    if isinstance(config, LabelHallucConfig):
        config = replace(config, base_batch=min(config.base_batch, len(experiment.novel)))
    return WorkerSpec(
        cache_dir=str(cache_dir), base_fingerprint=experiment.novel.fingerprint, features_path=str(features),
        novel_fingerprint=experiment.novel.fingerprint, backbone=experiment.backbone,
        augmentation=experiment.benchmark.augmentation, protocol=experiment.protocol, methods={method: config},
        n_threads=int(size.cpus_per_worker), gpu=size.gpus_per_worker > 0,
    )  # fmt: skip
